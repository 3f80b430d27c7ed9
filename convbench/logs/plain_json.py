"""JSON as its standard has it: the one way in which anything of convbench is written as JSON."""

import json
import math
from typing import Any


def to_json(value: Any, **layout: Any) -> str:
    """Write a value as JSON; a number that is not finite, which JSON lacks, becomes null.

    Args:
        value: dictionaries, lists, tuples, text, numbers, truth values and None.
        layout: as `json.dumps` takes it, such as `indent=1`.
    """
    return json.dumps(_finite(value), allow_nan=False, **layout)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
