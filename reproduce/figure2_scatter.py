"""Fig. 2 of the paper: SA against s, the sum that ReLU sees, for 1,000 random neurons.

Each neuron has five signals `w_i x_i`, independent and uniform on [-1, 1], and no bias. SA is no function of s. Without
a bias, the gate lies on the same side of 1/2 as s lies of 0: near 1/2 if the signals cancel, and farthest from it if
all n signals are equal. Then |z| = sqrt(3/(1 + 2/n)), so that the gate is 0.072 or 0.928 for five signals, and 0.042 or
0.958 for many. The range between is shaded.

Takes seconds. Writes figure2.png.
"""

import functools
import sys
from collections.abc import Sequence

from lab.analysis import figure2
from lab.arguments import add_results, add_seed, command_line, write_only


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    add_seed(parser, "of the signals")
    args = parser.parse_args(argv)
    return write_only(parser, args, functools.partial(figure2.write, seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
