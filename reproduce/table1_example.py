"""Table 1 of the paper: Shapley values of a ReLU neuron with three inputs, by all orders in which they enter.

The last rows of the table are the same values by the package: its enumeration, and its approximations, eq. (1) and the
quadrature. Eq. (1) distributes the bias to the inputs as well, so that its sum is near max(s, 0) and not near
max(s, 0) - max(b, 0). The two are the same here, because b < 0. Takes seconds. Writes table1.md.
"""

import sys
from collections.abc import Sequence

from lab.analysis import table1
from lab.arguments import add_results, command_line, write_only


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    return write_only(parser, parser.parse_args(argv), table1.write)


if __name__ == "__main__":
    sys.exit(main())
