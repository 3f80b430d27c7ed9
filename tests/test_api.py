"""The Python interface: the examples of docs/python.md, and each function with unusual arguments."""

import re
import resource
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convbench
from convbench.errors import UserError

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
EARLIER_RUNS = Path(__file__).parent / "run_folders" / "earlier_version"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))


def test_the_examples_of_the_documentation_run_in_order(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    code = ""
    for language, text in blocks:
        if language == "python":
            code += text
        else:
            code += (
                f"import subprocess, sys\nsubprocess.run([sys.executable, *{shlex.split(text)[1:]!r}], check=True)\n"
            )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def processor_seconds(*words: str) -> float:
    """The least processor time of three processes, which other processes of the machine change little."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(3))


def test_importing_the_package_imports_nothing_else_and_takes_less_than_a_tenth_of_a_second() -> None:
    code = "import sys, convbench; assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)"
    assert processor_seconds("-c", code) - processor_seconds("-c", "pass") < 0.1


def test_help_is_printed_within_a_second_of_processor_time_and_without_torch() -> None:
    code = "import sys, runpy; sys.argv[1:] = ['--help']; runpy.run_module('convbench.train', run_name='__main__')\n"
    code += "assert 'torch' not in sys.modules"
    assert processor_seconds("-c", code) < 1


def test_importing_a_command_does_not_replace_the_function_of_the_same_name() -> None:
    import importlib

    function = convbench.compare
    module = importlib.import_module("convbench.compare")
    assert convbench.compare is function
    assert callable(function)
    assert module.compare is not function


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (Path(convbench.__file__).parents[1] / "conf" / "conv").glob("*.yaml"))
)
def test_every_option_of_conv_can_replace_a_layer_by_its_name(name: str) -> None:
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1))
    swapped, report = convbench.swap_convs(layer, name, skip=[])
    assert len(report.swapped) == 1
    assert swapped(torch.randn(2, 8, 6, 6)).shape == (2, 8, 6, 6)
    kind = type(swapped[0])
    assert getattr(convbench.convs, kind.__name__) is kind


def test_an_option_uses_the_skip_of_its_yaml_unless_skip_is_given() -> None:
    _, report = convbench.swap_convs(network(), "dynamic")
    assert [row.reason for row in report.skipped] == ["first"]
    _, report = convbench.swap_convs(network(), "dynamic", skip=["1x1"], num_experts=2)
    assert [row.reason for row in report.skipped] == ["1x1"]


@pytest.mark.parametrize(
    "conv",
    [
        convbench.convs.WeightedSumConv2d,
        "convbench.convs.weighted_sum.WeightedSumConv2d",
        partial(convbench.convs.WeightedSumConv2d, implementation="folded"),
        lambda *layer, **others: convbench.convs.WeightedSumConv2d(*layer, **others),
    ],
    ids=["class", "path", "partial", "function"],
)
def test_classes_dotted_paths_and_functions_can_replace_layers(conv: Any) -> None:
    swapped, report = convbench.swap_convs(network(), conv)
    assert len(report.swapped) == 3
    assert swapped(torch.randn(1, 3, 9, 9)).shape == (1, 8, 5, 5)


@pytest.mark.parametrize(
    ("conv", "arguments"),
    [("weighted_sums", {}), ("dynamic", {"experts": 3}), (convbench.convs.StandardConv2d, {"stride": 2})],
)
def test_wrong_arguments_of_swap_convs_raise_a_user_error(conv: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        convbench.swap_convs(network(), conv, **arguments)


def test_set_temperature_sets_the_temperature_of_every_convolution_that_has_one() -> None:
    swapped, _ = convbench.swap_convs(network(), "odconv", skip=[])
    convbench.set_temperature(swapped, 7.5)
    assert [layer.temperature.item() for layer in swapped if hasattr(layer, "temperature")] == [7.5] * 3
    with pytest.raises(UserError):
        convbench.set_temperature(swapped, 0)


def test_the_auxiliary_loss_is_the_sum_over_the_convolutions_and_zero_without_any() -> None:
    assert convbench.auxiliary_loss(network()).item() == 0
    swapped, _ = convbench.swap_convs(network(), "blueprint_s", unsupported="skip")
    losses: list[Tensor] = [layer.auxiliary_loss() for layer in swapped if hasattr(layer, "auxiliary_loss")]
    total = convbench.auxiliary_loss(swapped)
    torch.testing.assert_close(total, sum(losses, torch.zeros(())))
    total.backward()
    assert swapped[2].squeeze_weight.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def run() -> Any:
    return convbench.load_run(EARLIER_RUNS / "finished")


def test_a_run_has_results_rows_configuration_and_classes(run: Any) -> None:
    assert run.status == "finished"
    assert run.results["params"] == run.record.results["params"] > 0
    assert [row["epoch"] for row in run.rows] == [1, 2]
    assert run.config["conv"]["_target_"].endswith("WeightedSumConv2d")
    assert len(run.classes) == 10


def test_the_transform_gives_equal_inputs_for_a_path_an_image_and_an_array(run: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    given = [tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(pixels), pixels]
    first, *others = [run.transform(image) for image in given]
    assert first.shape == (3, 16, 16)
    assert all(torch.equal(first, other) for other in others)


def test_the_network_of_a_run_has_the_predictions_of_the_command(run: Any, tmp_path: Path, run_here: Any) -> None:
    import csv
    import shutil

    folder, images = tmp_path / "run", tmp_path / "images"
    shutil.copytree(EARLIER_RUNS / "finished", folder)
    images.mkdir()
    generator = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(images / f"{index}.png")
    assert run_here("evaluate", f"run={folder}", f"images={images}").code == 0
    with next(folder.rglob("predictions.csv")).open() as file:
        predictions = {row["id"]: row["label"] for row in csv.DictReader(file)}
    trained = convbench.load_run(folder).network()
    with torch.no_grad():
        batch = torch.stack([run.transform(path) for path in sorted(images.iterdir())])
        guesses = [run.classes[index] for index in trained(batch).argmax(1).tolist()]
    assert predictions == {f"{index}.png": guess for index, guess in enumerate(guesses)}


def test_loading_a_network_does_not_change_the_number_of_threads(run: Any) -> None:
    assert run.config["engine"]["threads"] == 1
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run.network()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_folders_that_are_not_runs_and_unknown_settings_are_refused(tmp_path: Path) -> None:
    for call in (lambda: convbench.load_run(tmp_path), lambda: convbench.compare([tmp_path / "none"])):
        with pytest.raises(UserError):
            call()
    with pytest.raises(UserError):
        convbench.compare([EARLIER_RUNS / "sweep"], target=3)


def test_a_comparison_consists_of_rows_of_plain_values() -> None:
    table = convbench.compare([EARLIER_RUNS / "sweep"], difference=1.0)
    assert [row["conv"] for row in table.rows] == ["standard", "dynamic"]
    assert all(isinstance(value, str | int | float | None) for row in table.rows for value in row.values())
    assert {row["n"] for row in table.rows} == {1}
    assert table.findings
