"""What the scripts of this directory share: data, networks, runs, measuring, statistics, tables and pictures."""
