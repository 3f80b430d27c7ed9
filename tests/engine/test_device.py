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
def _restore_options() -> Iterator[None]:
    """Restore the process-wide options that `set_up` changes."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("only_a_cpu")
def test_auto_chooses_the_cpu_if_there_is_no_gpu() -> None:
    assert choose_device("auto") == choose_device("cpu") == CPU


@pytest.mark.parametrize(("available", "chosen"), [(("cuda", "mps"), "cuda"), (("mps",), "mps")])
def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch, available: tuple[str, ...], chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in available)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in available)
    assert choose_device("auto").type == chosen
    assert choose_device("cpu") == CPU


@pytest.mark.usefixtures("only_a_cpu")
@pytest.mark.parametrize("name", ["cuda", "mps", "tpu"])
def test_an_unavailable_device_is_refused_and_the_error_lists_the_available_ones(name: str) -> None:
    with pytest.raises(UserError, match=rf"\b{name}\b.*\bauto or cpu \(engine\.device\)$"):
        choose_device(name)


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_the_description_of_a_cpu_contains_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, text: str
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert describe_device(CPU) == text


@pytest.mark.parametrize(
    ("precision", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_one_autocast_context_can_be_used_for_every_step(precision: str, dtype: torch.dtype) -> None:
    context = autocast(CPU, precision)
    layer, x = torch.nn.Linear(3, 3), torch.ones(2, 3)
    for _ in range(3):
        with context:
            assert layer(x).dtype == dtype
        assert layer(x).dtype == torch.float32


@pytest.mark.usefixtures("_restore_options")
def test_set_up_sets_the_number_of_threads_and_determinism() -> None:
    set_up(CPU, threads=1, deterministic=True)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    set_up(CPU, threads=None, deterministic=False)  # as for the next run of a sweep in the same process
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
