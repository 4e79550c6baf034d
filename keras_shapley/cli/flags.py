"""What the package says of its arguments, in the words of the command line."""

import re

# arguments that are an option of the command line
_NAMES = "baseline|batch_size|budget|merge_batch_norm|output|players|rules|seed|target"
# names of arguments that are no option
_NOUNS = {"x": "the input", "data": "the input", "fn": "the model", "model": "the model", "method": "--method"}
# pattern, and what is put in its place; in this order
_IN_FLAGS: list[tuple[str, str]] = [
    # remedies in Python, before the one that the command line has
    (
        r"(?:If it|Give it|Give the|Leave|Use)\b[^\n]*?shapley_values(?:\(model, x\))?, which takes? any model\b.*$",
        "Use --method shapley, which takes any model.",
    ),
    (r", or use method='moments' or 'orders'", ", or use --method moments"),
    (r"(?:ks\.)?(?:sampled_)?shapley_values(?:\(model, x\))?", "--method shapley"),
    (r"(?:ks\.)?LRP\(model\)", "--method relevance"),
    # values of arguments
    (r"method='(moments|masks)'", r"--method \1"),
    (r"method='\w+'", "--method shapley"),
    (r"(?<![\w/])head=", "a head "),
    (rf"`?(?<![\w/])({_NAMES})=['\"]?([^\s'\"`,.;:]+(?:\.\d+)?)['\"]?`?", r"--\1 \2"),
    # arguments
    (rf"`({_NAMES})`", r"--\1"),
    (r"`(--[a-z-]+)`", r"\1"),
    (r"must be None or an int, ", "must be "),
    (r"must be None, one of 'patches', ", "must be 'patches', "),
]


def in_flags(message: str) -> str:
    """A message of the package to somebody who typed options, and no Python.

    Examples:
        >>> from keras_shapley.cli.flags import in_flags
        >>> in_flags("`budget` must be at least 8 for method='auto'. Received: 3")
        '--budget must be at least 8 for --method shapley. Received: 3'
    """
    for pattern, replacement in _IN_FLAGS:
        message = re.sub(pattern, replacement, message, flags=re.DOTALL)
    message = re.sub(r"`(\w+)`", lambda found: _NOUNS.get(found[1], found[1]), message)
    return re.sub(rf"(?<![\w/])--({_NAMES})\b", lambda found: found[0].replace("_", "-"), message)
