"""Relevance of a neuron with a large bias: section 2.1 of the paper calls about equal relevance of its inputs sensible.

The neurons are random, with 9 inputs; weights and inputs are standard normal, and the bias is a multiple of the root
mean square of their products. The table shows how unequal the inputs' shares of the relevance are, n r_k / (sum of r),
by their standard deviation: 0 if all are equal; median over the neurons. Eq. (2) does what the paper says. This is a
convention on who receives the bias, and no property of Shapley values: with a large bias a neuron is linear, and then
the Shapley value of an input is its product, as in eq. (2) without b/n. (The biases are positive: with a negative one a
neuron is closed, its values sum to zero, and there are no shares.)

Takes seconds. Writes large_bias.md and large_bias.png.
"""

import functools
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

from lab.analysis import large_bias
from lab.arguments import add_results, add_seed, command_line, write_only


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    add_seed(parser, "of the neurons")
    args = parser.parse_args(argv)
    return write_only(parser, args, functools.partial(large_bias.write, seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
