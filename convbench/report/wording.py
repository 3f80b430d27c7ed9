"""Lists within sentences."""

from collections.abc import Sequence

MOST_NAMED = 5


def named(names: Sequence[str]) -> str:
    """`a, b, c`; of very many the first five and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
