from collections.abc import Iterator

import pytest
import torch

from convbench.engine.device import autocast, choose_device, describe_device, set_up
from convbench.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def only_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def _switches() -> Iterator[None]:
    """Put back what `set_up` switches for the whole process."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("only_a_cpu")
def test_auto_takes_the_cpu_where_there_is_nothing_better() -> None:
    assert choose_device("auto") == choose_device("cpu") == CPU


@pytest.mark.parametrize(("there", "taken"), [(("cuda", "mps"), "cuda"), (("mps",), "mps")])
def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], taken: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert choose_device("auto").type == taken
    assert choose_device("cpu") == CPU


@pytest.mark.usefixtures("only_a_cpu")
@pytest.mark.parametrize("name", ["cuda", "mps", "tpu"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_device(name)
    assert str(caught.value) == (f"PyTorch finds no {name} device on this machine; choose auto or cpu (engine.device)")


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_a_cpu_is_described_with_its_threads(monkeypatch: pytest.MonkeyPatch, threads: int, text: str) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert describe_device(CPU) == text


@pytest.mark.parametrize(
    ("precision", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_one_autocast_context_serves_every_step(precision: str, dtype: torch.dtype) -> None:
    context = autocast(CPU, precision)
    layer, x = torch.nn.Linear(3, 3), torch.ones(2, 3)
    for _ in range(3):
        with context:
            assert layer(x).dtype == dtype
        assert layer(x).dtype == torch.float32  # over when it is left


@pytest.mark.usefixtures("_switches")
def test_threads_and_determinism_are_set_for_the_process() -> None:
    set_up(CPU, threads=1, deterministic=True)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    set_up(CPU, threads=None, deterministic=False)  # a sweep's next run does not inherit it
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
