"""`python -m convbench.bench`: errors in its keys; `tests/benchmarks` has its suites."""

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["suite=speed"], ["suite=speed", "layers", "loop"]),
        (["layers.convs=[magic]"], ["'magic'", "blueprint_s", "(layers.convs)"]),
        (["layers.networks=[lenet]"], ["'lenet'", "resnet14", "image", "(layers.networks)"]),
        (["suite=loop", "loop.rungs=left", "data.train=200"], ["loop.rungs=left", "all", "up", "down"]),
    ],
)
def test_an_unknown_value_is_an_error_with_the_value_the_options_and_the_key(
    run_here: Any, arguments: list[str], facts: list[str]
) -> None:
    done = run_here("bench", *arguments)
    assert done.code == 2
    assert all(fact in done.err for fact in facts), done.err
