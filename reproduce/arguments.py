"""Command lines of the scripts."""

import argparse


def command_line(doc, examples=None):
    """Parser of a script's arguments.

    Args:
        doc: what the script does: all of it is shown, or its first line where there are examples.
        examples: shown below the options.
    """
    return argparse.ArgumentParser(
        description=doc.partition("\n")[0] if examples else doc,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def at_least(smallest):
    """Type of an argument: an integer that is not below `smallest`."""

    def integer(text):
        if int(text) < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, and is {text}")
        return int(text)

    return integer
