"""Lists of names within sentences."""

from collections.abc import Sequence

MAX_NAMED = 5  # maximum number of names in a list


def named(names: Sequence[str]) -> str:
    """Join names as `a, b, c`; a longer list is cut to `MAX_NAMED` names and the number of the remaining ones."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
