"""Types of the arguments that the scripts share."""

import argparse


def at_least(smallest):
    """Type of an argument: an integer that is not below `smallest`."""

    def integer(text):
        if int(text) < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, and is {text}")
        return int(text)

    return integer
