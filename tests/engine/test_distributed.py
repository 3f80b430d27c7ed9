"""Several processes that train one network, started by the real torchrun, gradients over gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY

# Without batch norm and dropout, whose numbers depend on which images pass together.
PLAIN = ("model=lenet", "data.image_size=28", "data.train=250", "data.val=51", "data.test=50", "batch_size=32")
PLAIN += ("optimizer.lr=0.05", "engine.threads=1", "engine.watch=false")
LOSSES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def torchrun(folder: Path, *words: str, processes: int = 2) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.Popen(
        [*launcher, *words], cwd=folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def train(folder: Path, *arguments: str) -> str:
    process = torchrun(folder, "-m", "convbench.train", *arguments)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_losses(first: Path, second: Path) -> None:
    for one, other in zip(rows(first), rows(second), strict=True):
        for key in LOSSES:
            assert one[key] == pytest.approx(other[key], rel=1e-5), key


def test_two_processes_come_to_the_losses_of_one_and_the_first_alone_writes(run_module: Any, tmp_path: Path) -> None:
    chosen = (*PLAIN, "epochs=3", "conv=weighted_sum", "conv.implementation=auto", "engine.cache=cache")
    said = train(tmp_path, *chosen, "hydra.run.dir=two")
    assert "2 processes" in said
    assert "250 train, 51 val, 50 test" in said
    assert said.count("everything is in two") == 1
    assert run_module("train", *chosen, "engine.shards=2", "hydra.run.dir=one").code == 0
    assert_same_losses(tmp_path / "one", tmp_path / "two")
    writers = {path.name.split(".")[-2] for path in (tmp_path / "two").glob("events.*")}
    assert len(writers) == 1, "events.out.tfevents.TIME.HOST.PROCESS.NUMBER"
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    assert results[0]["test"] == pytest.approx(results[1]["test"], rel=1e-5)
    assert results[0]["identity"] == results[1]["identity"]
    assert [result["computed"][0]["processes"] for result in results] == [1, 2]


def test_the_printed_scores_are_those_of_the_networks_that_were_saved(run_here: Any, tmp_path: Path) -> None:
    # Batch norm, at a learning rate that drives the running statistics of two processes apart; test images in three
    # batches, the last one not full; validation images in one, so that the second process has none.
    words = (*TINY, "data.val=16", "data.test=40", "optimizer.lr=1", "hydra.run.dir=run", "engine.watch=false")
    train(tmp_path, *words)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for checkpoint, score in (("last", results["test"]), ("best", results["best"]["test"])):
        assert run_here("evaluate", "run=run", f"checkpoint={checkpoint}").code == 0
        metrics = json.loads((tmp_path / "run" / "evaluation" / f"test-{checkpoint}" / "metrics.json").read_text())
        assert (metrics["loss"], metrics["accuracy"]) == (score["loss"], score["accuracy"])


# Each process changes its buffers, all make them one, and the first one says what they have come to.
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
everywhere = distributed.all_gather_object({name: buffer.tolist() for name, buffer in norm.named_buffers()})
if distributed.rank() == 0:
    print("equal", all(buffers == everywhere[0] for buffers in everywhere))
    print("kept", norm.temperature.item() == torch.tensor(0.1).item())
    print("mean", *norm.running_mean.tolist(), "var", *norm.running_var.tolist(), int(norm.num_batches_tracked))
distributed.destroy_process_group()
"""


def test_buffers_of_all_processes_become_their_mean_and_equal_ones_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "buffers.py").write_text(BUFFERS)
    said, _ = torchrun(tmp_path, "buffers.py", processes=3).communicate(timeout=120)
    assert "equal True" in said
    assert "kept True" in said
    assert "mean 1.0 2.0 var 2.0 2.0 5" in said


def test_all_processes_take_one_folder_even_if_its_name_tells_the_time(tmp_path: Path) -> None:
    train(tmp_path, *PLAIN, "epochs=1")
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 1


def test_sigterm_stops_all_at_one_step_and_the_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    # Of what each process has its own: dropout, running statistics, sums of an epoch that is cut in the middle.
    long = (*PLAIN[1:], "model=mnist_net", "data.train=2000", "epochs=5")
    train(tmp_path, *long, "hydra.run.dir=whole")
    process = torchrun(tmp_path, "-m", "convbench.train", *long, "hydra.run.dir=cut")
    metrics = tmp_path / "cut" / "metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert json.loads((tmp_path / "cut" / "results.json").read_text())["status"] == "interrupted", said
    train(tmp_path, "resume=cut")
    for whole, cut in zip(rows(tmp_path / "whole"), rows(tmp_path / "cut"), strict=True):
        for key in LOSSES:
            assert whole[key] == cut[key], key


def test_parts_of_a_batch_come_to_the_losses_of_the_whole(run_module: Any, tmp_path: Path) -> None:
    for parts in (1, 4):
        assert run_module("train", *PLAIN, "epochs=2", f"engine.accumulate={parts}", f"hydra.run.dir={parts}").code == 0
    assert_same_losses(tmp_path / "1", tmp_path / "4")
    refused = run_module("train", *PLAIN, "engine.accumulate=3")
    assert refused.code == 2
    assert "32 images a step cannot be split into 3 equal parts; give another number (engine.accumulate)" in refused.err


# Counts how often a training step of the built loop exchanges gradients, by DistributedDataParallel's own hook.
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
del training, batch
distributed.destroy_process_group()
"""


def test_parts_of_a_batch_exchange_gradients_no_more_often_than_the_whole(tmp_path: Path) -> None:
    (tmp_path / "exchanges.py").write_text(EXCHANGES)
    said = {}
    for parts in (1, 4):
        process = torchrun(tmp_path, "exchanges.py", *PLAIN, f"engine.accumulate={parts}")
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        said[parts] = [line for line in out.splitlines() if line.startswith("exchanges")]
    assert said[1] == said[4]
    assert said[1]


def test_a_sweep_and_an_uneven_batch_are_refused_once(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "-m", "convbench.train", "-m", "seed=0,1")
    said, _ = process.communicate(timeout=120)
    assert said.count("a sweep cannot be run by torchrun; start torchrun for each run (-m)") == 1
    process = torchrun(tmp_path, "-m", "convbench.train", *PLAIN, "batch_size=33")
    said, _ = process.communicate(timeout=120)
    assert said.count("a batch of 33 cannot be divided between 2 processes; give a multiple of 2 (batch_size)") == 1
