"""What goes wrong from outside: files that lie, processes that are killed, two writers to one path."""
