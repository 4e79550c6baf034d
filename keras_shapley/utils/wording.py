"""Numbers in sentences."""


def count(n: int, noun: str) -> str:
    """A number and what it counts, as in "1 input" and "2 inputs"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
