"""Tests of data-parallel training with several processes, started by torchrun, with the gloo backend."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY

# A network without batch norm and dropout, so that the results do not depend on how a batch is divided.
PLAIN = ("model=lenet", "data.image_size=28", "data.train=250", "data.val=51", "data.test=50", "batch_size=32")
PLAIN += ("optimizer.lr=0.05", "engine.threads=1", "engine.watch=false")
LOSSES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def torchrun(folder: Path, *arguments: str, processes: int = 2) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.Popen(
        [*launcher, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def train(folder: Path, *arguments: str) -> str:
    process = torchrun(folder, "-m", "convbench.train", *arguments)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_losses(first: Path, second: Path) -> None:
    for one, other in zip(rows(first), rows(second), strict=True):
        for key in LOSSES:
            assert one[key] == pytest.approx(other[key], rel=1e-5), key


def test_two_processes_have_the_losses_of_one_process_and_only_process_0_writes(
    run_module: Any, tmp_path: Path
) -> None:
    arguments = (*PLAIN, "epochs=3", "conv=weighted_sum", "conv.implementation=auto", "engine.cache=cache")
    output = train(tmp_path, *arguments, "hydra.run.dir=two")
    assert "2 processes" in output
    assert "250 train, 51 val, 50 test" in output
    for row in rows(tmp_path / "two"):
        printed = re.findall(rf"^ +{row['epoch']} +{row['train_loss']:.4f} ", output, re.M)
        assert len(printed) == 1, "only process 0 prints"
    assert run_module("train", *arguments, "engine.shards=2", "hydra.run.dir=one").code == 0
    assert_same_losses(tmp_path / "one", tmp_path / "two")
    writers = {path.name.split(".")[-2] for path in (tmp_path / "two").glob("events.*")}
    assert len(writers) == 1  # the name of an event file is events.out.tfevents.TIME.HOST.PROCESS.NUMBER
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    assert results[0]["test"] == pytest.approx(results[1]["test"], rel=1e-5)
    assert results[0]["identity"] == results[1]["identity"]
    assert [result["computed"][0]["processes"] for result in results] == [1, 2]


def test_the_test_scores_of_two_processes_are_those_of_the_saved_networks(run_here: Any, tmp_path: Path) -> None:
    # The learning rate makes the running statistics of the two processes differ. The test images fill two and a half
    # batches, the validation images one batch, so that process 1 has none.
    arguments = (*TINY, "data.val=16", "data.test=40", "optimizer.lr=1", "hydra.run.dir=run", "engine.watch=false")
    train(tmp_path, *arguments)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for checkpoint, score in (("last", results["test"]), ("best", results["best"]["test"])):
        assert run_here("evaluate", "run=run", f"checkpoint={checkpoint}").code == 0
        metrics = json.loads((tmp_path / "run" / "evaluation" / f"test-{checkpoint}" / "metrics.json").read_text())
        assert (metrics["loss"], metrics["accuracy"]) == (score["loss"], score["accuracy"])


# Each process changes its buffers, all average them, and process 0 prints the result.
BUFFERS = """
import torch
from torch import nn
from convbench.engine import distributed

distributed.init_process_group()
norm = nn.BatchNorm2d(2)
norm.register_buffer("temperature", torch.tensor(0.1))
norm.running_mean += torch.tensor([1.0, 2.0]) * distributed.rank()
norm.running_var *= 1 + distributed.rank()
norm.num_batches_tracked += 5 - distributed.rank()
distributed.average_buffers(norm)
gathered = distributed.all_gather_object({name: buffer.tolist() for name, buffer in norm.named_buffers()})
if distributed.rank() == 0:
    print("equal", all(buffers == gathered[0] for buffers in gathered))
    print("unchanged", norm.temperature.item() == torch.tensor(0.1).item())
    print("mean", *norm.running_mean.tolist(), "var", *norm.running_var.tolist(), int(norm.num_batches_tracked))
distributed.exit_process(0)
"""


def test_average_buffers_computes_the_mean_and_does_not_change_equal_buffers(tmp_path: Path) -> None:
    (tmp_path / "buffers.py").write_text(BUFFERS)
    output, _ = torchrun(tmp_path, "buffers.py", processes=3).communicate(timeout=120)
    assert "equal True" in output
    assert "unchanged True" in output
    assert "mean 1.0 2.0 var 2.0 2.0 5" in output


def test_all_processes_use_one_run_folder_even_if_its_name_contains_the_time(tmp_path: Path) -> None:
    train(tmp_path, *PLAIN, "epochs=1")
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 1


def test_a_run_stopped_by_sigterm_and_resumed_is_bit_identical_to_an_uninterrupted_run(tmp_path: Path) -> None:
    # The state that differs between processes: dropout, running statistics and the sums of an interrupted epoch.
    long = (*PLAIN[1:], "model=mnist_net", "data.train=2000", "epochs=5")
    train(tmp_path, *long, "hydra.run.dir=uninterrupted")
    process = torchrun(tmp_path, "-m", "convbench.train", *long, "hydra.run.dir=interrupted")
    metrics = tmp_path / "interrupted" / "metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert json.loads((tmp_path / "interrupted" / "results.json").read_text())["status"] == "interrupted", output
    train(tmp_path, "resume=interrupted")
    for expected, resumed in zip(rows(tmp_path / "uninterrupted"), rows(tmp_path / "interrupted"), strict=True):
        for key in LOSSES:
            assert expected[key] == resumed[key], key


def test_gradient_accumulation_has_the_losses_of_the_whole_batch(run_module: Any, tmp_path: Path) -> None:
    for parts in (1, 4):
        assert run_module("train", *PLAIN, "epochs=2", f"engine.accumulate={parts}", f"hydra.run.dir={parts}").code == 0
    assert_same_losses(tmp_path / "1", tmp_path / "4")
    refused = run_module("train", *PLAIN, "engine.accumulate=3")
    assert refused.code == 2
    assert "(engine.accumulate)" in refused.err
    assert "32" in refused.err


# Counts with a communication hook of DistributedDataParallel how often training steps exchange gradients.
EXCHANGES = """
import sys, torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from convbench.experiment.composition import compose as compose_objects
from convbench.experiment.training import build_training
from convbench.config.options import conf_folder
from convbench.config.resolvers import register_resolvers
from convbench.engine import distributed

distributed.init_process_group()
register_resolvers()
with initialize_config_dir(str(conf_folder()), version_base="1.3"):
    config = compose("train", overrides=sys.argv[1:])
composition = compose_objects(config)
training = build_training(config, composition, composition.source.load())
count = 0

def counting(state, bucket):
    global count
    count += 1
    return allreduce_hook(state, bucket)

training.step.parallel.register_comm_hook(None, counting)
for index, batch in zip(range(3), training.train.epoch(0)):
    training.step(index, *batch)
if distributed.rank() == 0:
    print("exchanges", count)
distributed.exit_process(0)
"""


def test_gradient_accumulation_exchanges_gradients_no_more_often_than_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "exchanges.py").write_text(EXCHANGES)
    exchanges = {}
    for parts in (1, 4):
        process = torchrun(tmp_path, "exchanges.py", *PLAIN, f"engine.accumulate={parts}")
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        exchanges[parts] = [line for line in output.splitlines() if line.startswith("exchanges")]
    assert exchanges[1] == exchanges[4]
    assert exchanges[1]


def test_a_sweep_and_a_batch_that_cannot_be_divided_are_refused_with_one_message(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "-m", "convbench.train", "-m", "seed=0,1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert output.count("(-m)") == 1, output
    process = torchrun(tmp_path, "-m", "convbench.train", *PLAIN, "batch_size=33")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert output.count("(batch_size)") == 1, output
    assert "33" in output


# As on two machines of which the second one has other data: only process 1 has an error.
DIFFERENT = """
import os, runpy, sys
sys.argv[1:] = [*sys.argv[1:], "data.train=7"] if os.environ["RANK"] == "1" else sys.argv[1:]
runpy.run_module("convbench.train", run_name="__main__")
"""


def test_an_error_that_occurs_in_another_process_only_is_printed_with_the_number_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "different.py").write_text(DIFFERENT)
    process = torchrun(tmp_path, "different.py", *PLAIN)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.findall(r"^error: (process \d+: )?.*\((.+)\)$", output, re.M) == [("process 1: ", "data.train")], output
