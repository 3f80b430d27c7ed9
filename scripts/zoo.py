"""Examine and train all convolutions, and write docs/zoo.md: `python scripts/zoo.py [--costs | --write]`.

The script writes to docs/zoo.json: every convolution in a ResNet-20 (parameters, multiply-accumulate operations, the
verdict of the doctor), every network, and the results of a sweep over convolutions on dog_cat_bird. The runs of the
sweep are in outputs/zoo/; finished runs are kept, and stopped runs are resumed. With `--costs` everything but the sweep
is measured again. With `--write` nothing is measured, and only the page is written.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from pages import markdown_table, write_section

from convbench.config.instantiation import instantiate
from convbench.config.options import conf_folder, load_option, options
from convbench.config.resolvers import register_resolvers
from convbench.errors import UserError
from convbench.experiment.network import BuiltNetwork, build_network
from convbench.files import to_json

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "outputs" / "zoo"
MEASURED = ROOT / "docs" / "zoo.json"
PAGE = ROOT / "docs" / "zoo.md"

NETWORK = ("model.depth=20",)
# The convolutions in the sweep: those that take less than a minute per epoch on two cores. from_scratch is left out,
# because it computes the standard convolution.
SWEPT = ("standard", "weighted_sum", "blueprint_s", "depthwise_separable", "grouped", "ghost", "partial", "coordconv")
SWEPT += ("weight_standardised", "large_kernel", "pyramidal", "dynamic")
PETS = ("experiment=dog_cat_bird", "epochs=5", "seed=0", "engine.compile=false")
KEPT = ("params", "macs", "seconds_per_epoch", "test", "device", "versions", "epochs", "model", "swap")


def built(*overrides: str) -> BuiltNetwork:
    """The network of a configuration for the data set `shapes`: 3x32x32 images and ten classes."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    return build_network(config, instantiate(config.data, "data").spec())


def verdict(conv: str) -> str:
    """The summary of the doctor's findings for a convolution: the last line of its output."""
    command = [sys.executable, "-m", "convbench.doctor", f"conv={conv}"]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    return done.stdout.strip().splitlines()[-1].partition(": ")[2]


def examine() -> dict[str, Any]:
    """The costs and the verdict of the doctor of every convolution in the network `NETWORK`."""
    examined = {}
    for conv in options("conv"):
        network = built(*NETWORK, f"conv={conv}")
        examined[conv] = {
            "network": network.name,
            "params": network.summary.parameters,
            "macs": network.summary.macs,
            "swapped": len(network.swap.swapped),
            "convs": len(network.swap.rows),
            "doctor": verdict(conv),
        }
    return examined


def networks() -> dict[str, Any]:
    """The costs of every network with the arguments in its yaml and standard convolutions."""
    counted = {}
    for model in options("model"):
        try:
            network = built(f"model={model}")
        except UserError as error:  # timm may not be installed
            print(f"the network {model} is left out: {error}")
            continue
        summary = network.summary
        counted[model] = {"network": network.name, "params": summary.parameters, "macs": summary.macs}
    return counted


def sweep() -> dict[str, Any]:
    """The results of a training run on real images for every convolution in `SWEPT`; missing runs are trained."""
    status = {}
    for path in RUNS.glob("*/results.json"):
        status[json.loads(path.read_text())["conv"]] = (path.parent, json.loads(path.read_text())["status"])
    for folder, state in status.values():
        if state != "finished":
            subprocess.run([sys.executable, "-m", "convbench.train", f"resume={folder}"], cwd=ROOT, check=True)
    if missing := [conv for conv in SWEPT if conv not in status]:
        arguments = ["-m", *PETS, f"conv={','.join(missing)}", f"hydra.sweep.dir='{RUNS}'"]
        subprocess.run([sys.executable, "-m", "convbench.train", *arguments], cwd=ROOT, check=True)
    results = [json.loads(path.read_text()) for path in RUNS.glob("*/results.json")]
    return {result["conv"]: {key: result[key] for key in KEPT} for result in sorted(results, key=lambda r: r["conv"])}


def catalogue() -> list[str]:
    """A row for each convolution: the first comment in its yaml, and its implementations."""
    rows = []
    for conv in options("conv"):
        yaml = load_option("conv", conv, "conv")
        first_line = (conf_folder() / "conv" / f"{conv}.yaml").read_text().splitlines()[0]
        names = get_class(yaml._target_).implementations
        rows.append([f"`{conv}`", first_line.removeprefix("# "), ", ".join(f"`{name}`" for name in names)])
    return markdown_table(["conv", "what it does", "implementations"], rows, left=3)


def in_resnet(measured: dict[str, Any]) -> list[str]:
    """A row for each convolution with its costs in the network `NETWORK`."""
    standard = measured["examined"]["standard"]
    rows = [
        [
            f"`{conv}`",
            one["doctor"],
            f"{one['swapped']} of {one['convs']}",
            f"{one['params']:,}",
            f"{one['params'] / standard['params']:.2f}",
            f"{one['macs'] / 1e6:.2f} M",
            f"{one['macs'] / standard['macs']:.2f}",
        ]
        for conv, one in measured["examined"].items()
    ]
    head = ["conv", "doctor", "swapped", "parameters", "relative to standard", "MACs", "relative to standard"]
    return [*markdown_table(head, rows, left=2), "", f"In {standard['network']}, 10 classes, 3x32x32 images."]


def of_networks(measured: dict[str, Any]) -> list[str]:
    """A row for each network with its costs."""
    rows = [
        [f"`{model}`", one["network"], f"{one['params']:,}", f"{one['macs'] / 1e6:.2f} M"]
        for model, one in measured["networks"].items()
    ]
    return markdown_table(["model", "network by default", "parameters", "MACs"], rows, left=2)


def on_real_images(measured: dict[str, Any]) -> list[str]:
    """A row for each convolution of the sweep, highest test accuracy first."""
    runs = sorted(measured["sweep"].items(), key=lambda item: -item[1]["test"]["accuracy"])
    rows = []
    for conv, run in runs:
        swapped = sum(row["status"] == "swapped" for row in run["swap"])
        rows.append(
            [
                f"`{conv}`",
                f"{100 * run['test']['accuracy']:.2f}",
                f"{run['test']['loss']:.3f}",
                f"{run['params']:,}",
                f"{run['macs'] / 1e6:.2f} M",
                f"{swapped} of {len(run['swap'])}",
                f"{run['seconds_per_epoch']:.1f}",
            ]
        )
    first, convs = runs[0][1], ",".join(sorted(measured["sweep"]))
    return [
        *markdown_table(["conv", "test %", "test loss", "parameters", "MACs", "swapped", "s/epoch"], rows),
        "",
        f"`python -m convbench.train -m {' '.join(PETS)} conv={convs}`, {first['model']},",
        f"{first['epochs']} epochs, on {first['device']}, torch {first['versions']['torch']}, n = 1.",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="measure nothing; only write the page")
    os.environ.setdefault("CONVBENCH_DATA", str(ROOT / "datasets"))
    register_resolvers()
    parser.add_argument("--costs", action="store_true", help="train nothing; keep the results of the sweep")
    arguments = parser.parse_args()
    if not arguments.write:
        trained = json.loads(MEASURED.read_text())["sweep"] if arguments.costs else sweep()
        found = {"examined": examine(), "networks": networks(), "sweep": trained}
        MEASURED.write_text(to_json(found, indent=1) + "\n")
    results = json.loads(MEASURED.read_text())
    write_section(PAGE, "catalogue", "zoo.py", catalogue())
    write_section(PAGE, "resnet", "zoo.py", in_resnet(results))
    write_section(PAGE, "networks", "zoo.py", of_networks(results))
    write_section(PAGE, "real images", "zoo.py", on_real_images(results))
