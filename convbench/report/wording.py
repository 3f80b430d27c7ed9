"""Lists of names within sentences."""

from collections.abc import Sequence

MOST_NAMED = 5  # maximum number of names in a list


def named(names: Sequence[str]) -> str:
    """Join names as `a, b, c`; a longer list is cut to `MOST_NAMED` names and the number of the remaining ones."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
