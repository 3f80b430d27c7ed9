"""`convbench.runs`: listing, filtering, showing and removing run folders."""

import fcntl
import json
import subprocess
import sys

import pytest

from convbench import runs
from tests.report.runs import write_run, write_sweep


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run `convbench.runs` with some arguments; returns its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["runs", *arguments])
        code = 0
        try:
            runs.main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def sweep(tmp_path):
    folder = write_sweep(tmp_path / "outputs" / "sweeps" / "abl", {"standard": [0.7, 0.71], "dynamic": [0.8, 0.81]})
    write_run(folder / "conv=dynamic,seed=2", "dynamic", 2, status="failed", error="out of memory", test=None)
    return folder


def names(out):
    return [line.split()[0].rpartition("/")[2] for line in out.splitlines() if line.startswith("outputs/")]


def test_all_runs_in_outputs_are_listed_with_their_status_within_80_columns(command, sweep):
    code, out, err = command()
    assert (code, err) == (0, "")
    assert "outputs/sweeps/abl/conv=dynamic,seed=0   finished     3/3   80.00  11-21 10:00" in out
    assert "outputs/sweeps/abl/conv=dynamic,seed=2: out of memory" in out
    assert out.endswith("5 runs\n")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["conv=dynamic"], 3),
        (["conv=dynamic", "status=failed"], 1),
        (["status=failed", "status=finished"], 5),
        (["seed=1"], 2),
        (["optimizer.lr=0.1"], 5),
        (["optimizer.lr=0.2"], 0),
        (["model=resnet"], 5),
        (["outputs/sweeps/abl/conv=dynamic,seed=0"], 1),
    ],
)
def test_folders_and_key_value_pairs_select_runs(command, sweep, arguments, count):
    code, out, _ = command("list", *arguments)
    assert code == 0
    assert len([line for line in out.splitlines() if "/3 " in line]) == count


@pytest.mark.parametrize("value", ["images/" * 40, "gr\udcf6\udcdfe", "two\nlines", "[1,2]"])
def test_a_value_of_any_length_with_any_characters_selects_a_run(command, sweep, value):
    write_run(sweep / "another", "standard", 9, changes={"data.root": value})
    assert names(command(f"data.root={value}")[1]) == ["another"]


@pytest.mark.parametrize(("word", "similar"), [("stauts=failed", "status"), ("optimizer.lrr=0.1", "optimizer.lr")])
def test_the_message_on_an_unknown_key_names_similar_keys(command, sweep, word, similar):
    code, out, err = command(word)
    assert (code, out) == (2, "")
    assert similar in err.replace(word.partition("=")[0], "")
    assert command("remove", word, "--yes")[0] == 2


def test_show_prints_all_results_of_a_run(command, sweep):
    _, out, _ = command("show", "conv=dynamic", "seed=1")
    assert "command            python -m convbench.train conv=dynamic seed=1" in out
    (test,) = [line.partition("{")[1:] for line in out.splitlines() if line.startswith("test  ")]
    assert json.loads("".join(test))["accuracy"] == 0.81


def test_remove_needs_a_confirmation_and_removes_only_the_selected_runs(command, sweep):
    code, _, err = command("remove", "status=failed")
    assert code == 2
    assert "--yes" in err
    assert (sweep / "conv=dynamic,seed=2").exists()
    code, out, _ = command("remove", "status=failed", "--yes")
    assert code == 0
    assert "1 run removed" in out
    assert sorted(path.name for path in sweep.iterdir()) == [
        "conv=dynamic,seed=0", "conv=dynamic,seed=1", "conv=standard,seed=0", "conv=standard,seed=1",
    ]  # fmt: skip


@pytest.mark.parametrize("answer", ["n", "", "y"])
def test_remove_asks_for_a_confirmation_on_a_terminal(command, sweep, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    command("remove", "status=failed")
    assert (sweep / "conv=dynamic,seed=2").exists() == (answer != "y")


def test_nothing_is_removed_without_a_selection_or_while_a_process_works_in_the_folder(command, sweep):
    code, _, err = command("remove", "--yes")
    assert (code, "KEY=VALUE" in err) == (2, True)
    assert len(list(sweep.iterdir())) == 5
    with (sweep / "conv=dynamic,seed=2" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = command("remove", "status=failed", "seed=2", "--yes")
    assert code == 2
    assert "outputs/sweeps/abl/conv=dynamic,seed=2" in err
    assert (sweep / "conv=dynamic,seed=2").exists()


def test_a_running_run_without_a_process_has_the_status_killed(command, sweep):
    folder = write_run(sweep / "conv=dynamic,seed=3", "dynamic", 3, status="running")
    assert "conv=dynamic,seed=3   killed " in command()[1]
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "conv=dynamic,seed=3   running " in command()[1]


def test_unreadable_folders_are_reported_and_the_others_are_listed(command, sweep):
    (sweep / "conv=dynamic,seed=0" / "results.json").write_text("{")
    (sweep / "conv=dynamic,seed=1" / "results.json").write_bytes(b"\xff\xfe\x00")
    (sweep / "conv=standard,seed=0" / "results.json").write_text("[]")
    (sweep / "conv=standard,seed=1" / "config.yaml").write_text("a: [")
    code, out, err = command("conv=standard")
    assert code == 0
    assert names(out) == ["conv=standard,seed=1"]
    assert len(err.splitlines()) == 3
    for name in ("conv=dynamic,seed=0", "conv=dynamic,seed=1", "conv=standard,seed=0"):
        assert f"/{name}: results.json " in err
    assert command("optimizer.lr=0.1", "conv=standard")[0] == 0, "an unreadable configuration does not match"


def test_an_argument_that_is_neither_a_folder_nor_key_value_is_refused(command, tmp_path):
    code, _, err = command("nowhere")
    assert code == 2
    assert "nowhere" in err
    assert "KEY=VALUE" in err


def test_an_empty_folder_has_no_runs(command):
    code, out, err = command()
    assert (code, len(out.splitlines()), err) == (0, 1, "")


def test_help_is_a_page_of_at_most_80_columns_with_examples(command):
    code, out, _ = command("--help")
    assert code == 0
    assert out.count("python -m convbench.runs") >= 5
    assert max(map(len, out.splitlines())) <= 80


def test_runs_does_not_import_pytorch(tmp_path):
    probe = (
        "import sys; sys.argv = ['runs']\n"
        "from convbench import runs; runs.main()\n"
        "assert not {'torch', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, check=True, capture_output=True)
