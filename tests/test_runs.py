"""Listing, filtering, showing and removing run folders."""

import fcntl
import json

import pytest

from convbench import runs
from tests.report.runs import write_run, write_sweep


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """Give `convbench.runs` its words and get its exit code, what it said and what it complained of."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["runs", *words])
        code = 0
        try:
            runs.main()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def sweep(tmp_path):
    folder = write_sweep(tmp_path / "outputs" / "sweeps" / "abl", {"standard": [0.7, 0.71], "dynamic": [0.8, 0.81]})
    write_run(folder / "conv=dynamic,seed=2", "dynamic", 2, status="failed", error="out of memory", test=None)
    return folder


def names(out):
    return [line.split()[0].rpartition("/")[2] for line in out.splitlines() if line.startswith("outputs/")]


def test_all_runs_below_outputs_are_listed_within_80_columns_with_what_became_of_them(say, sweep):
    code, out, err = say()
    assert (code, err) == (0, "")
    assert "outputs/sweeps/abl/conv=dynamic,seed=0   finished     3/3   80.00  11-21 10:00" in out
    assert "outputs/sweeps/abl/conv=dynamic,seed=2: out of memory" in out
    assert out.endswith("5 runs\n")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "count"),
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
def test_words_keep_the_runs_of_which_they_are_true(say, sweep, words, count):
    code, out, _ = say("list", *words)
    assert code == 0
    assert len([line for line in out.splitlines() if "/3 " in line]) == count


@pytest.mark.parametrize(("word", "near"), [("stauts=failed", "status"), ("optimizer.lrr=0.1", "optimizer.lr")])
def test_a_key_that_no_run_has_is_refused_with_keys_like_it(say, sweep, word, near):
    code, out, err = say(word)
    assert (code, out) == (2, "")
    assert near in err.partition(": choose ")[2]
    assert say("remove", word, "--yes")[0] == 2


def test_show_tells_all_that_is_known_of_a_run(say, sweep):
    _, out, _ = say("show", "conv=dynamic", "seed=1")
    assert "command            python -m convbench.train conv=dynamic seed=1" in out
    (test,) = [line.partition("{")[1:] for line in out.splitlines() if line.startswith("test  ")]
    assert json.loads("".join(test))["accuracy"] == 0.81


def test_remove_asks_unless_told_not_to_and_takes_only_what_was_chosen(say, sweep):
    code, _, err = say("remove", "status=failed")
    assert code == 2
    assert "nobody is there to be asked whether to remove 1 runs: give --yes" in err
    assert (sweep / "conv=dynamic,seed=2").exists()
    code, out, _ = say("remove", "status=failed", "--yes")
    assert code == 0
    assert "1 runs removed" in out
    assert sorted(path.name for path in sweep.iterdir()) == [
        "conv=dynamic,seed=0", "conv=dynamic,seed=1", "conv=standard,seed=0", "conv=standard,seed=1",
    ]  # fmt: skip


@pytest.mark.parametrize("answer", ["n", "", "y"])
def test_the_question_is_answered_by_a_person(say, sweep, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    say("remove", "status=failed")
    assert (sweep / "conv=dynamic,seed=2").exists() == (answer != "y")


def test_nothing_is_removed_without_a_choice_or_while_somebody_works_there(say, sweep):
    code, _, err = say("remove", "--yes")
    assert (code, err) == (2, "error: remove needs to be told what: a folder, or KEY=VALUE\n")
    with (sweep / "conv=dynamic,seed=2" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = say("remove", "status=failed", "seed=2", "--yes")
    assert code == 2
    assert "a process is at work in outputs/sweeps/abl/conv=dynamic,seed=2" in err
    assert (sweep / "conv=dynamic,seed=2").exists()


def test_a_run_whose_process_is_gone_is_killed_and_one_at_work_is_running(say, sweep):
    folder = write_run(sweep / "conv=dynamic,seed=3", "dynamic", 3, status="running")
    assert "conv=dynamic,seed=3   killed " in say()[1]
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "conv=dynamic,seed=3   running " in say()[1]


def test_broken_folders_are_reported_and_the_others_listed(say, sweep):
    (sweep / "conv=dynamic,seed=0" / "results.json").write_text("{")
    (sweep / "conv=dynamic,seed=1" / "results.json").write_bytes(b"\xff\xfe\x00")
    (sweep / "conv=standard,seed=0" / "results.json").write_text("[]")
    (sweep / "conv=standard,seed=1" / "config.yaml").write_text("a: [")
    code, out, err = say("conv=standard")
    assert code == 0
    assert names(out) == ["conv=standard,seed=1"]
    assert err.count("cannot be read: ") == 3
    assert "conv=standard,seed=0: results.json has no status" in err
    assert say("optimizer.lr=0.1", "conv=standard")[0] == 0, "a configuration that cannot be read is no match"


def test_a_word_that_is_neither_folder_nor_filter_is_refused(say, tmp_path):
    code, _, err = say("nowhere")
    assert code == 2
    assert "nowhere is neither a folder nor KEY=VALUE; list, show or remove come first" in err
    assert say()[1] == "there are no runs\n"


def test_help_is_a_page_of_at_most_80_columns_with_examples(say):
    code, out, _ = say("--help")
    assert code == 0
    assert out.count("python -m convbench.runs") >= 5
    assert max(map(len, out.splitlines())) <= 80


def test_it_answers_without_loading_pytorch(run_module, tmp_path):
    import subprocess
    import sys

    probe = (
        "import sys; sys.argv = ['runs']\n"
        "from convbench import runs; runs.main()\n"
        "assert not {'torch', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, check=True, capture_output=True)
