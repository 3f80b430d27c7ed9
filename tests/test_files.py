import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import convbench
from convbench.files import to_json

PACKAGE = Path(convbench.__file__).parent


def strict_json(text: str) -> Any:
    """Parse standard JSON, which has no NaN and no Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not valid JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_become_null_at_any_depth(number: float) -> None:
    assert strict_json(to_json({"a": [1.5, (number, {"b": number})]})) == {"a": [1.5, [None, {"b": None}]]}


def test_all_other_values_are_serialised_as_by_json_dumps() -> None:
    value = {"text": "é<", "none": None, "yes": True, "number": 0.1, "list": [1, 2]}
    assert to_json(value) == json.dumps(value)
    assert to_json(value, indent=1, ensure_ascii=False) == json.dumps(value, indent=1, ensure_ascii=False)


def test_no_module_or_script_writes_json_without_to_json() -> None:
    direct_write = re.compile(r"write\w*\(.*json\.dumps|json\.dump\(")
    paths = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "scripts").glob("*.py")]
    assert [path.name for path in paths if direct_write.search(path.read_text())] == []
