"""The suite `layers` of `convbench.bench`: configuration, table, and files."""

import gc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from tqdm import tqdm

from convbench.benchmarks.layers import Case, measure, plans, totals
from convbench.benchmarks.outputs import bar_chart, write_csv
from convbench.benchmarks.roofline import Roofline, measure_roofline
from convbench.config.options import load_option, options, plain_values
from convbench.convs.factory import ConvOption
from convbench.engine.device import choose_device, describe_device, set_up
from convbench.errors import UserError
from convbench.files import write_json
from convbench.terminal import table


def run_layers(config: DictConfig, folder: Path) -> None:
    """Measure all layers, print the sums over each network, and write `layers.csv`, `layers.json` and plots.

    Args:
        config: composed configuration of `convbench.bench`.
        folder: folder to write to.

    Raises:
        UserError: There is no such convolution, network, precision or memory format.
    """
    device = choose_device(config.engine.device)
    set_up(device, config.engine.threads, deterministic=False)
    torch.manual_seed(config.seed)
    chosen = config.layers
    planned = plans(_factories(chosen.convs), chosen.networks, chosen.precisions, chosen.formats, device)
    rooflines = {precision: measure_roofline(device, precision) for precision in chosen.precisions}
    cases: list[Case] = []
    # Before each measurement of memory, garbage is collected. Without the objects that exist already, which are far
    # more than those of a measurement, a collection takes a tenth of the time.
    gc.freeze()
    try:
        for plan in tqdm(planned, unit="case", disable=None, dynamic_ncols=True):
            case = measure(plan, chosen.batch_size, chosen.rounds, device, rooflines[plan.precision])
            if case is not None:
                cases.append(case)
    finally:
        gc.unfreeze()
    rows = totals(cases)
    for network in chosen.networks:
        _print_table(network, [row for row in rows if row["network"] == network], chosen.batch_size)
    for precision, roofline in rooflines.items():
        print(_roofline_sentence(precision, roofline))
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "layers.csv", [asdict(case) for case in cases])
    measured: dict[str, Any] = {
        "device": describe_device(device),
        "versions": {"torch": torch.__version__},
        "settings": OmegaConf.to_container(chosen),
        "ceilings": {precision: asdict(roofline) for precision, roofline in rooflines.items()},
        "totals": rows,
        "cases": [asdict(case) for case in cases],
    }
    write_json(folder / "layers.json", measured, indent=1)
    for network in chosen.networks:
        bars = {_row_label(row): 1000 * row["training_seconds"] for row in rows if row["network"] == network}
        title = f"Convolutions of {network}, forward and backward, {describe_device(device)}"
        bar_chart(folder / f"layers_{network}.png", bars, title, "ms, all layers of the network together")


def _factories(names: Any) -> dict[str, Callable[..., nn.Module]]:
    """The convolutions with the arguments of their yaml; `skip` and `unsupported` have no effect on the benchmark."""
    factories = {}
    for name in options("conv") if names is None else names:
        if name not in options("conv"):
            raise UserError(f"there is no convolution {name!r}; choose {', '.join(options('conv'))} (layers.convs)")
        factories[name] = ConvOption.of(plain_values(load_option("conv", name, "conv"))).factory
    return factories


def _row_label(row: dict[str, Any]) -> str:
    parts = [row["conv"], row["implementation"]]
    parts += [row["precision"]] if row["precision"] != "none" else []
    parts += ["channels first"] if row["memory_format"] == "channels_first" else []
    return " ".join(parts)


def _print_table(network: str, rows: list[dict[str, Any]], batch_size: int) -> None:
    images = "1 image" if network == "image" else f"{batch_size} images"
    print(f"\nconvolutions of {network}, sum over all its layers, {images}, fastest first")
    print("training: forward and backward pass; +- %: half the interquartile range; MB: peak memory")
    print("share: minimum time according to the roofline model, divided by the measured time\n")
    head = ["convolution", "forward ms", "training ms", "+- %", "MB", "GFLOP/s", "GB/s", "share %"]
    cells = [
        [
            _row_label(row),
            f"{1000 * row['forward_seconds']:.1f}",
            f"{1000 * row['training_seconds']:.1f}",
            f"{100 * row['spread']:.0f}",
            "" if row["memory"] is None else f"{row['memory'] / 1e6:.0f}",
            f"{row['flops_per_second'] / 1e9:.0f}",
            f"{row['bytes_per_second'] / 1e9:.1f}",
            f"{100 * row['share']:.0f}",
        ]
        for row in rows
    ]
    print(table([head, *cells]))


def _roofline_sentence(precision: str, roofline: Roofline) -> str:
    dtype = "float32" if precision == "none" else precision
    return (
        f"\nroofline of this device in {dtype}: {roofline.flops / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{roofline.bandwidth / 1e9:.1f} GB/s in a copy"
    )
