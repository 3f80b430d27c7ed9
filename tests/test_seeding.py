import os
import subprocess
import sys

import torch

from convbench.seeding import stable_seed, stream

EXPECTED_SEED = 846614499392394949


def test_the_seed_for_given_parts_is_the_same_in_all_versions() -> None:
    assert stable_seed(0, "flip", 1) == EXPECTED_SEED


def test_all_processes_compute_the_same_seed() -> None:
    code = "from convbench.seeding import stable_seed; print(stable_seed(0, 'flip', 1))"
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(process.stdout) == EXPECTED_SEED


def test_seeds_are_in_the_range_of_a_generator_and_depend_on_every_part() -> None:
    seeds = [stable_seed(*parts) for parts in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 0), ("0", "a"), (0, "a0"), ())]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_streams_are_equal_for_equal_parts_only() -> None:
    first, again, other = (torch.rand(8, generator=stream(3, name, 1)) for name in ("flip", "flip", "crop"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_drawing_from_a_stream_changes_neither_other_streams_nor_the_global_generator() -> None:
    flip, crop = stream(0, "flip"), stream(0, "crop")
    state = torch.get_rng_state()
    torch.rand(100, generator=flip)
    assert torch.equal(torch.rand(8, generator=crop), torch.rand(8, generator=stream(0, "crop")))
    assert torch.equal(torch.get_rng_state(), state)


def test_streams_of_neighbouring_seeds_and_epochs_are_uncorrelated() -> None:
    draws = torch.stack(
        [torch.rand(2000, generator=stream(seed, "order", epoch)) for seed in (0, 1) for epoch in (0, 1)]
    )
    assert (torch.corrcoef(draws) - torch.eye(4)).abs().max() < 0.1


def test_streams_are_on_the_cpu() -> None:
    assert stream(0, "flip").device.type == "cpu"
