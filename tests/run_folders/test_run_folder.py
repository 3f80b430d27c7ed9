import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from convbench.errors import UserError
from convbench.run_folders.run_folder import RunFolder, atomic_path
from tests.test_files import strict_json


def run_folder(path: Path, **results: object) -> RunFolder:
    folder = RunFolder(path)
    folder.write_config(OmegaConf.create({"epochs": 3}))
    folder.update_results(**results)
    return folder


def test_results_are_valid_json_even_if_a_loss_diverges(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.update_results(
        train={"loss": math.nan, "accuracy": 0.1}, history=[1.0, math.inf, (-math.inf, 2)], status="failed", val=None
    )
    assert strict_json(folder.results_path.read_text()) == {
        "train": {"loss": None, "accuracy": 0.1},
        "history": [1.0, None, [None, 2]],
        "status": "failed",
        "val": None,
    }


def test_results_are_updated_entry_by_entry(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.update_results(status="running", error=None)
    folder.update_results(status="finished", params=3)
    assert strict_json(folder.results_path.read_text()) == {"status": "finished", "error": None, "params": 3}


def test_results_that_cannot_be_serialised_leave_the_file_unchanged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.update_results(status="running")
    with pytest.raises(TypeError):
        folder.update_results(status=object())
    assert strict_json(folder.results_path.read_text()) == {"status": "running"}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_file_is_replaced_atomically_and_only_if_no_error_occurs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # so that the replacement stays within one file system
    assert path.read_text() == "half"
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text("other") + "an error after it was written"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_opened_run_has_its_results_and_its_configuration(tmp_path: Path) -> None:
    run_folder(tmp_path / "run", status="finished", seed=3)
    opened = RunFolder.open(str(tmp_path / "run"), "run")
    assert opened.results == {"status": "finished", "seed": 3}
    assert opened.read_config().epochs == 3
    opened.update_results(status="running")
    assert RunFolder.open(tmp_path / "run", "run").results == {"status": "running", "seed": 3}


@pytest.mark.parametrize("missing", ["config.yaml", "results.json", "folder"])
def test_opening_a_folder_that_is_not_a_run_raises_an_error_that_names_the_key(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "run"
    if missing != "folder":
        run_folder(path, status="finished")
        (path / missing).unlink()
    with pytest.raises(UserError, match=rf"{path} .*\(resume\)$"):
        RunFolder.open(path, "resume")


def test_the_configuration_is_written_with_references_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", "there")
    folder = RunFolder(tmp_path)
    config = {"flip": True, "augment": {"flip": "${flip}"}, "root": "${oc.env:SOME_FOLDER}"}
    folder.write_config(OmegaConf.create(config))
    monkeypatch.delenv("SOME_FOLDER")
    read = folder.read_config()
    assert (read.flip, read.augment.flip, read.root) == (True, True, "there")
    assert "${" not in folder.config_path.read_text()


def test_each_epoch_appends_a_line_of_valid_json_to_the_metrics(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"epoch": 1, "train_loss": 0.5})
    folder.append_metrics({"epoch": 2, "train_loss": math.nan})
    rows = [strict_json(line) for line in folder.metrics_path.read_text().splitlines()]
    assert rows == [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": None}]


def test_truncating_the_metrics_drops_later_rows_and_an_incomplete_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch})
    with folder.metrics_path.open("a") as file:
        file.write('{"epoch": 4, "tra')
    assert folder.truncate_metrics(2) == [{"epoch": 1}, {"epoch": 2}]
    assert folder.metrics_path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    folder.append_metrics({"epoch": 3})
    assert folder.truncate_metrics(9) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    assert folder.truncate_metrics(0) == []
    assert folder.metrics_path.read_text() == ""


def test_truncating_missing_metrics_gives_no_rows_and_creates_no_file(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).truncate_metrics(3) == []
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_run_have_their_documented_paths(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    places = (
        folder.results_path,
        folder.config_path,
        folder.metrics_path,
        folder.last_checkpoint,
        folder.best_checkpoint,
    )
    assert [str(place.relative_to(tmp_path)) for place in places] == [
        "results.json",
        "config.yaml",
        "metrics.jsonl",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
    ]
