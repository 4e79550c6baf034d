"""Fig. 1 of the paper: how far the gate of a neuron opens when one of its signals is unlike the others.

The paper calls this "attention to exception". One signal `w_k x_k` varies and the others stay. The curve is the gate of
eq. (1), `Phi((mu + b)/sigma)`, which scales the gradient that flows through the neuron. The paper names neither the
number of signals nor their size. Chosen here: ten signals, no bias, nine of them equal; in the left panel the nine sum
to -4 (the neuron is off), -1 or 4.

The right panel shows what `second_moment="pooled"` leaves of it. This moment knows the mean square of the inputs and
the sum of the squared weights, but not which weight belongs to which input. The input `x_k` varies; its weight is a
third of the others, as large, or three times as large; the others sum to -4. Far out, the exact gate tends to 0.159 and
0.841 whatever the weight. The pooled gate tends to these values only if the weight is an average one.

Takes seconds. Writes figure1.png, and prints numbers of the right panel.
"""

import sys
from collections.abc import Sequence

from lab.analysis import figure1
from lab.arguments import add_results, command_line, write_only


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    return write_only(parser, parser.parse_args(argv), figure1.write)


if __name__ == "__main__":
    sys.exit(main())
