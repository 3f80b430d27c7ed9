"""`convbench.evaluate`: the scores and predictions that it prints and writes for a trained network."""

import csv
import json
import shutil

import pytest
import torch
from PIL import Image

from tests.conftest import TINY
from tests.experiment.runs import write_pictures
from tests.test_files import strict_json


@pytest.fixture
def run(run_here, results):
    run_here("train", *TINY, "conv=dynamic")
    return results()[0]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_the_test_metrics_equal_those_of_the_run(run_here, run, checkpoint):
    folder, result = run
    done = run_here("evaluate", f"run={folder}", f"checkpoint={checkpoint}")
    assert done.code == 0, done.err
    place = folder / "evaluation" / f"test-{checkpoint}"
    metrics = json.loads((place / "metrics.json").read_text())
    expected = result["best"]["test"] if checkpoint == "best" else result["test"]
    assert metrics["accuracy"] == expected["accuracy"]
    assert metrics["loss"] == expected["loss"]


def test_the_evaluation_uses_the_implementations_that_auto_chose_for_training(run_here, results):
    run_here("train", *TINY, "epochs=1", "conv=weighted_sum", "conv.implementation=auto")
    ((folder, result),) = results()
    assert run_here("evaluate", f"run={folder}").code == 0
    metrics = json.loads((folder / "evaluation" / "test-best" / "metrics.json").read_text())
    assert metrics["loss"] == result["best"]["test"]["loss"]


def test_a_class_without_images_has_no_accuracy_and_the_files_are_valid_json(run_here, results, tmp_path):
    root = write_pictures(tmp_path / "pictures" / "train").parent
    shutil.copytree(root / "train" / "cat", root / "test" / "cat")  # no dogs
    words = ("data=folder", f"data.root={root}", "data.image_size=16", "batch_size=8", "epochs=1")
    assert run_here("train", *TINY[3:], *words).code == 0
    ((folder, _),) = results()
    printed = run_here("evaluate", f"run={folder}").out
    by_class = strict_json((folder / "evaluation" / "test-best" / "metrics.json").read_text())["accuracy_by_class"]
    assert by_class["dog"] is None
    assert 0 <= by_class["cat"] <= 1
    assert next(line for line in printed.splitlines() if line.startswith("1 dog")).split() == [
        "1",
        "dog",
        "0",
        "0",
        "-",
    ]


def test_the_loss_is_finite_even_if_probabilities_underflow_to_zero(run_here, run):
    folder, _ = run
    path = folder / "checkpoints" / "best.pt"
    state = torch.load(path, weights_only=True)
    name = [key for key in state["network"] if key.endswith("weight")][-1]
    state["network"][name] *= 1e6  # the last layer, so that probabilities are 0 in float32
    torch.save(state, path)
    assert run_here("evaluate", f"run={folder}").code == 0
    metrics = strict_json((folder / "evaluation" / "test-best" / "metrics.json").read_text())
    assert 1000 < metrics["loss"] < 1e10


def test_confusion_matrix_predictions_and_accuracy_by_class_agree(run_here, run):
    folder, _ = run
    printed = run_here("evaluate", f"run={folder}").out
    place = folder / "evaluation" / "test-best"
    head, *matrix = rows(place / "confusion_matrix.csv")
    classes = head[1:]
    assert [row[0] for row in matrix] == classes
    counts = torch.tensor([[int(cell) for cell in row[1:]] for row in matrix])
    predictions = rows(place / "predictions.csv")
    assert predictions[0] == ["file", "label", "predicted", "probability"]
    for true, row in zip(classes, counts.tolist(), strict=True):
        for guess, count in zip(classes, row, strict=True):
            assert sum(line[1:3] == [true, guess] for line in predictions[1:]) == count
    by_class = json.loads((place / "metrics.json").read_text())["accuracy_by_class"]
    assert list(by_class.values()) == pytest.approx((counts.diag() / counts.sum(1)).tolist())
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert all(f"{index} {name}" in printed for index, name in enumerate(classes))


def test_the_validation_split_has_the_validation_score_of_the_best_epoch(run_here, run):
    folder, result = run
    assert run_here("evaluate", f"run={folder}", "split=val").code == 0
    metrics = json.loads((folder / "evaluation" / "val-best" / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(result["best"]["val"]["accuracy"])


@pytest.fixture
def picture_run(run_here, results, tmp_path):
    """A run on class folders, and a flat folder of images without labels."""
    root = write_pictures(tmp_path / "pictures")
    assert (
        run_here("train", *TINY[3:], "data=folder", f"data.root={root}", "data.image_size=16", "batch_size=8").code == 0
    )
    flat = tmp_path / "unlabelled"
    flat.mkdir()
    for index in (2, 0, 1):
        Image.open(root / "cat" / f"{index:02}.png").save(flat / f"{index:04}.png")
    return results()[0][0], flat


def test_predictions_of_unlabelled_images_have_the_two_columns_of_kaggle(run_here, picture_run):
    folder, flat = picture_run
    assert run_here("evaluate", f"run={folder}", f"images={flat}").code == 0
    table = rows(folder / "evaluation" / "unlabelled-best" / "predictions.csv")
    assert table[0] == ["id", "label"]
    assert [row[0] for row in table[1:]] == ["0000.png", "0001.png", "0002.png"]
    assert {row[1] for row in table[1:]} <= {"cat", "dog"}
    options = ("columns=[image,category]", "strip_suffix=true")
    assert run_here("evaluate", f"run={folder}", f"images={flat}", *options).code == 0
    table = rows(folder / "evaluation" / "unlabelled-best" / "predictions.csv")
    assert table[0] == ["image", "category"]
    assert [row[0] for row in table[1:]] == ["0000", "0001", "0002"]


def test_predictions_of_labelled_images_contain_the_file_names(run_here, picture_run, tmp_path):
    folder, _ = picture_run
    assert run_here("evaluate", f"run={folder}").code == 0
    for name, label, *_ in rows(folder / "evaluation" / "test-best" / "predictions.csv")[1:]:
        assert label in name
        assert (tmp_path / "pictures" / name).is_file()


def metrics_of(folder):
    return json.loads((folder / "evaluation" / "test-best" / "metrics.json").read_text())


def test_an_evaluation_uses_the_images_of_the_run_if_the_folder_has_more_or_has_moved(run_here, picture_run, tmp_path):
    """A new split of the larger folder would put training images into the test set."""
    folder, flat = picture_run
    assert run_here("evaluate", f"run={folder}").code == 0
    place = folder / "evaluation" / "test-best"
    metrics, predictions = metrics_of(folder), (place / "predictions.csv").read_text()
    root = tmp_path / "pictures"
    (root / "cat" / "00a.png").write_bytes((flat / "0000.png").read_bytes())
    done = run_here("evaluate", f"run={folder}")
    assert "00a.png" in done.out
    assert (metrics_of(folder), (place / "predictions.csv").read_text()) == (metrics, predictions)
    root.rename(tmp_path / "elsewhere")
    done = run_here("evaluate", f"run={folder}")
    assert done.code == 2
    assert "data.root" in done.err
    assert run_here("evaluate", f"run={folder}", f"data.root={tmp_path / 'elsewhere'}").code == 0
    assert (metrics_of(folder), (place / "predictions.csv").read_text()) == (metrics, predictions)


def test_renamed_classes_are_refused_and_the_message_names_both(run_here, picture_run, tmp_path):
    folder, _ = picture_run
    (tmp_path / "pictures" / "dog").rename(tmp_path / "pictures" / "ant")
    done = run_here("evaluate", f"run={folder}")
    assert done.code == 2
    assert "dog" in done.err
    assert "ant" in done.err
    assert not (folder / "evaluation").exists()


def test_unlabelled_images_are_predicted_without_the_data_set_of_the_run(run_here, picture_run, tmp_path):
    folder, flat = picture_run
    assert run_here("evaluate", f"run={folder}", f"images={flat}").code == 0
    table = rows(folder / "evaluation" / "unlabelled-best" / "predictions.csv")
    shutil.rmtree(tmp_path / "pictures")
    assert run_here("evaluate", f"run={folder}", f"images={flat}").code == 0
    assert rows(folder / "evaluation" / "unlabelled-best" / "predictions.csv") == table


def test_a_run_of_an_earlier_version_is_evaluated_with_a_warning(run_here, picture_run):
    folder, flat = picture_run
    assert run_here("evaluate", f"run={folder}").code == 0
    metrics = metrics_of(folder)
    result = json.loads((folder / "results.json").read_text())
    for key in ("identity", "computed", "images", "classes"):
        del result[key]
    (folder / "results.json").write_text(json.dumps(result))
    (folder / "data.json").unlink()
    done = run_here("evaluate", f"run={folder}")
    assert "earlier version" in done.out
    assert metrics_of(folder) == metrics
    assert run_here("evaluate", f"run={folder}", f"images={flat}").code == 0


def test_an_evaluation_records_how_it_was_computed_and_warns_of_differences(run_here, run):
    folder, result = run
    assert "computed differently" not in run_here("evaluate", f"run={folder}").out
    computed = metrics_of(folder)["computed"]
    (part,) = result["computed"]
    assert {"code", "torch", "device", "threads", "precision"} <= set(computed)
    assert computed == {key: part[key] for key in computed}
    result["computed"][0]["torch"] = "1.0"
    (folder / "results.json").write_text(json.dumps(result))
    printed = run_here("evaluate", f"run={folder}").out
    (line,) = [line for line in printed.splitlines() if "computed differently" in line]
    assert line.endswith(f": torch 1.0 -> {computed['torch']}")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["checkpoint=newest"], ["newest", "best, last", "(checkpoint)"]),
        (["split=train"], ["train", "test, val", "(split)"]),
        (["images=nowhere"], ["nowhere", "(images)"]),
        (["engine.device=tpu"], ["tpu", "(engine.device)"]),
    ],
)
def test_bad_input_gives_a_message_of_one_line_and_exit_code_2(run_here, run, arguments, facts):
    done = run_here("evaluate", f"run={run[0]}", *arguments)
    assert done.code == 2
    (message,) = done.err.splitlines()
    assert all(fact in message for fact in facts), message


def test_a_folder_that_is_not_a_run_is_refused(run_here, tmp_path):
    done = run_here("evaluate", f"run={tmp_path}")
    assert (done.code, done.out) == (2, "")
    assert str(tmp_path) in done.err
    assert "(run)" in done.err
