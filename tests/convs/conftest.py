"""What the tests of convolutions share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _as_written(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile nothing but where a test asks for it: an implementation that compiles itself takes seconds a shape."""
    if "fresh_compiler" in request.fixturenames:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
