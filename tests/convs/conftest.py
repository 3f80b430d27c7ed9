"""Fixtures of the tests of convolutions."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _disabled_compiler(request: pytest.FixtureRequest) -> Iterator[None]:
    """Disable torch.compile, which takes seconds for each shape, in tests without the fixture `fresh_compiler`."""
    if "fresh_compiler" in request.fixturenames:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
