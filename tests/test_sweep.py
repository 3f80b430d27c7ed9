"""Sweeps: readable folders, and one failing job does not stop the others."""

import re

from tests.conftest import TINY


def test_a_sweep_makes_a_readable_folder_for_each_combination(run_here, results):
    done = run_here("train", "-m", *TINY, "epochs=1", "conv=standard,weighted_sum", "seed=0,1")
    assert done.code == 0
    runs = results()
    assert len({folder.parent for folder, _ in runs}) == 1
    assert runs[0][0].parent.parent.parts[-2:] == ("outputs", "sweeps")
    assert {(result["conv"], result["seed"]) for _, result in runs} == {
        ("standard", 0), ("standard", 1), ("weighted_sum", 0), ("weighted_sum", 1),
    }  # fmt: skip
    for folder, result in runs:
        assert folder.name == f"conv={result['conv']},seed={result['seed']}"
    assert "4 of 4 jobs finished" in done.out


def test_a_failing_job_is_named_at_once_and_the_others_run(run_here, results):
    done = run_here("train", "-m", *TINY, "epochs=1", "conv=weighted_sum", "conv.implementation=linear,fft,folded")
    assert done.code == 3
    statuses = {folder.name.removeprefix("conv.implementation="): result for folder, result in results()}
    assert {name: result["status"] for name, result in statuses.items()} == {
        "linear": "finished", "fft": "failed", "folded": "finished",
    }  # fmt: skip
    assert "weighted_sum has no implementation 'fft'" in statuses["fft"]["error"]
    notice = done.out.index("FAILED conv.implementation=fft: layer conv1: weighted_sum has no implementation 'fft'")
    assert notice < done.out.rindex("epoch    train"), "the notice comes before the next job trains"
    assert re.search(r"^conv.implementation=fft +failed: .*weighted_sum has no implementation 'fft'", done.out, re.M)
    assert "2 of 3 jobs finished" in done.out
    assert "Traceback" not in done.err


def test_two_sweeps_started_in_the_same_second_have_folders_of_their_own(run_here, results):
    for _ in range(2):
        run_here("train", "-m", *TINY, "epochs=1", "seed=0")
    assert len({folder.parent for folder, _ in results()}) == 2


def test_jobs_that_may_not_write_over_earlier_ones_count_as_failed(run_here, results):
    sweep = ("-m", *TINY, "epochs=1", "seed=0,1", "hydra.sweep.dir=sweep")
    assert run_here("train", *sweep).code == 0
    before = results()
    done = run_here("train", *sweep)
    assert done.code == 3
    assert "0 of 2 jobs finished" in done.out
    assert re.search(r"^seed=0 +failed: .*holds a run already", done.out, re.M)
    assert results() == before
