"""The callback of sweeps: failed jobs are logged with their reasons, and a summary and a report close the sweep."""

import json
import re

from tests.conftest import TINY


def test_a_sweep_prints_its_progress_after_each_job_and_ends_with_a_report(run_here, tmp_path):
    done = run_here("train", "-m", *TINY, "epochs=1", "conv=standard,weighted_sum", "seed=0,1", "sweep=ablation")
    assert re.findall(r"^sweep ablation: (\d) done, (\d) running, (\d) failed, (\d) left", done.out, re.M) == [
        ("1", "0", "0", "3"), ("2", "0", "0", "2"), ("3", "0", "0", "1"), ("4", "0", "0", "0"),
    ]  # fmt: skip
    assert re.search(r"3 done, .* left, about \d+ s to go$", done.out, re.M)
    report = tmp_path / "outputs" / "sweeps" / "ablation" / "report"
    assert f"{report.relative_to(tmp_path)}/index.html" in done.out
    assert {"index.html", "table.md", "table.csv", "curves_epochs.png", "pareto.svg"} <= {
        path.name for path in report.iterdir()
    }
    assert "| standard | 2 |" in (report / "table.md").read_text()


def test_a_failed_job_is_logged_at_once_and_the_other_jobs_run(run_here, results):
    short = (*TINY, "epochs=1", "sweep.report=false")
    done = run_here("train", "-m", *short, "conv=weighted_sum", "conv.implementation=linear,fft,folded")
    assert done.code == 3
    outcomes = {folder.name.removeprefix("conv.implementation-"): result for folder, result in results()}
    assert {name: result["status"] for name, result in outcomes.items()} == {
        "linear": "finished", "fft": "failed", "folded": "finished",
    }  # fmt: skip
    error = outcomes["fft"]["error"]
    assert "'fft'" in error
    assert "(conv.implementation)" in error
    notice = done.out.index(f"FAILED conv.implementation-fft: {error}")
    assert notice < done.out.rindex("epoch    train"), "the failure is logged before the next job trains"
    assert re.search(rf"^conv.implementation-fft +failed: {re.escape(error)}$", done.out, re.M)
    assert "2 of 3 jobs finished" in done.out
    assert "Traceback" not in done.err


# A convolution that raises an error during training, and one that allocates more memory than any machine has.
FAULTY_CONVS = """
import torch
from torch import nn

class Raising(nn.Conv2d):
    calls = 0

    def forward(self, x):
        Raising.calls += 1
        if self.training and Raising.calls > 30:
            raise RuntimeError("the error of this convolution")
        return super().forward(x)

class Hungry(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + torch.empty(2**50, device=x.device).sum()
"""


def test_an_exception_and_a_lack_of_memory_are_logged_with_their_reasons(run_module, tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY_CONVS)
    convs = "conv._target_=torch.nn.Conv2d,faulty.Raising,faulty.Hungry"
    done = run_module("train", "-m", *TINY, convs, "sweep=faulty", PYTHONPATH=str(tmp_path))
    assert done.code == 3
    sweep = tmp_path / "outputs" / "sweeps" / "faulty"
    for name, why in (("Raising", "RuntimeError: the error of this convolution"), ("Hungry", "out of memory: ")):
        (folder,) = sweep.glob(f"*{name}*")
        result = json.loads((folder / "results.json").read_text())
        assert result["status"] == "failed"
        assert why in result["error"]
        assert f"in forward\n    {'raise' if name == 'Raising' else 'return'}" in (folder / "traceback.txt").read_text()
        assert re.search(rf"^FAILED conv\._target_-faulty\.{name}: {why}", done.out, re.M)
        assert re.search(rf"^{re.escape(folder.name)} +failed: {why}", done.out, re.M)
        table = (sweep / "report" / "table.md").read_text()
        assert re.search(rf"^- {re.escape(folder.name)} .*{why}", table, re.M)
    assert "engine.accumulate=2" in done.out
    assert "1 of 3 jobs finished" in done.out
    assert "Traceback" not in done.out + done.err
