"""What a person meets on the command line before anything is trained."""

import resource
import subprocess
import sys

import pytest

from convbench.cli import quote_path
from convbench.config import conf_folder, options

ENTRY_POINTS = ("train", "describe", "evaluate", "bench", "compare", "doctor", "apply_kernel")


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_help_is_a_page_of_at_most_80_columns_with_examples(run_here, module):
    done = run_here(module, "--help")
    assert done.code == 0
    assert f"python -m convbench.{module}" in done.out
    assert done.out.count(f"python -m convbench.{module}") >= 3
    assert max(map(len, done.out.splitlines())) <= 80


def test_help_of_train_names_every_group_with_its_options_and_five_examples(run_here):
    page = run_here("train", "--help").out
    words = " ".join(page.split())
    groups = {path.name for path in conf_folder().iterdir() if path.is_dir()} - {"hydra"}
    assert {"conv", "data", "launcher", "model", "search"} < groups
    for group in groups:
        assert options(group)
        assert f" {group}: {', '.join(options(group))} " in words
    assert page.partition("Examples")[2].count("python -m convbench.train ") == 5


def run_without_torch(folder, *arguments, code=0):
    """Run `convbench.train`, see that it ends with `code` and has imported nothing heavy, and give what it said."""
    probe = (
        "import sys, runpy; sys.argv[0] = 'train'; code = 0\n"
        "try: runpy.run_module('convbench.train', run_name='__main__')\n"
        "except SystemExit as stop: code = stop.code or 0\n"
        f"assert code == {code}, code\n"
        "assert not {'torch', 'torchvision', 'tensorboard'} & {name.split('.')[0] for name in sys.modules}"
    )
    command = [sys.executable, "-c", probe, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]])
def test_help_and_cfg_job_do_not_import_torch(tmp_path, flags):
    assert run_without_torch(tmp_path, *flags)


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]])
def test_help_and_cfg_job_take_less_than_two_seconds(run_module, flags):
    """Of processor time, which other work on the machine stretches less than the clock on the wall.

    Half of it is Hydra's, which lists the options of every launcher that is installed.
    """

    def children_seconds():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = []
    for _ in range(3):
        before = children_seconds()
        assert run_module("train", *flags).code == 0
        seconds.append(children_seconds() - before)
    assert min(seconds) < 2.0, seconds


def test_a_slip_in_a_value_is_answered_without_loading_torch(tmp_path):
    assert "epochs=0 is out of range" in run_without_torch(tmp_path, "epochs=0", code=2)


def test_an_unknown_option_is_answered_with_the_options_there_are(run_here):
    done = run_here("train", "conv=wighted_sum")
    assert done.code == 2
    assert "Could not find 'conv/wighted_sum'" in done.err
    for option in ("dynamic", "from_scratch", "standard", "weighted_sum"):
        assert option in done.err
    assert "Traceback" not in done.err


def test_an_unknown_key_is_answered_with_keys_like_it(run_here):
    done = run_here("train", "epochz=3")
    assert done.code == 2
    assert "Could not override 'epochz'" in done.err
    assert "Keys like it: epochs" in done.err
    assert "Traceback" not in done.err


def test_an_unknown_key_of_a_group_is_answered_with_keys_like_it(run_here):
    done = run_here("train", "model.dept=20")
    assert done.code == 2
    assert "model.depth" in done.err


def test_a_word_that_is_no_override_is_answered_with_exit_code_2(run_here):
    done = run_here("train", "weighted_sum")
    assert done.code == 2
    assert "Traceback" not in done.err


def test_hydra_full_error_brings_the_traceback_back(run_module):
    done = run_module("train", "epochs=0", HYDRA_FULL_ERROR="1")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "epochs=0 is out of range" in done.err


@pytest.mark.parametrize(
    ("module", "arguments", "key"),
    [("train", ["data=folder"], "data.root"), ("evaluate", [], "run"), ("apply_kernel", [], "image")],
)
def test_a_key_without_a_default_that_was_not_given_is_named(run_here, module, arguments, key):
    done = run_here(module, *arguments)
    assert (done.code, done.err) == (2, f"error: {key} has no default value: give {key}=...\n")


@pytest.mark.parametrize(
    ("typed", "passed_on"),
    [
        ("resume=runs/a_conv=dynamic,seed=1", "resume='runs/a_conv=dynamic,seed=1'"),
        ("run=it's", "run='it\\'s'"),
        ("image=a dog, 1=2.png", "image='a dog, 1=2.png'"),
        ("output=a,b", "output='a,b'"),
        ("run='already quoted'", "run='already quoted'"),
        ("resume=null", "resume=null"),
        ("conv=standard,dynamic", "conv=standard,dynamic"),
        ("--help", "--help"),
    ],
)
def test_paths_are_taken_as_they_are(typed, passed_on):
    assert quote_path(typed) == passed_on
