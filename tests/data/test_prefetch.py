"""Images in host memory or in a file give the same batches as images on the device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convbench.data.prefetch import prefetch
from tests.conftest import TINY
from tests.data.image_folder import write_image

CPU = torch.device("cpu")


def test_batches_are_fetched_in_order_and_in_advance() -> None:
    images = torch.arange(40, dtype=torch.uint8).view(10, 1, 2, 2)
    requested: list[int] = []

    def batches() -> Iterator[Tensor]:
        for index in range(5):
            requested.append(index)
            yield torch.tensor([9 - index, index])

    fetched = prefetch(images, batches(), CPU)
    assert torch.equal(next(fetched), images[[9, 0]])
    assert requested == [0, 1, 2]
    assert [batch.tolist() for batch in fetched] == [images[[9 - index, index]].tolist() for index in range(1, 5)]


def test_an_error_in_the_prefetch_thread_is_raised_by_the_iterator() -> None:
    with pytest.raises(IndexError):
        list(prefetch(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), [torch.tensor([7])], CPU))


def test_closing_an_unfinished_iterator_raises_no_error() -> None:
    batches = prefetch(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), [torch.tensor([0])] * 100, CPU)
    next(batches)
    batches.close()


@pytest.mark.parametrize("where", [["engine.images=host"], ["data.on_disk=true"]], ids=["host", "disk"])
def test_a_run_has_the_same_losses_with_images_on_the_device_on_the_host_and_on_disk(
    run_here: Any, tmp_path: Path, where: list[str]
) -> None:
    for kind in ("cat", "dog"):
        for index in range(30):
            write_image(tmp_path / "pictures" / kind / f"{kind}{index}.png", (16, 16))
    tiny = [word for word in TINY if not word.startswith("data.")]
    common = [*tiny, "data=folder", "data.root=pictures", "data.image_size=16", "data.cache=cache", "augment=standard"]
    for run, words in (("plain", []), ("other", where)):
        done = run_here("train", *common, *words, f"hydra.run.dir={run}")
        assert done.code == 0, done.err
    losses = [
        [line.split('"seconds"')[0] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("plain", "other")
    ]
    assert losses[0] == losses[1]
