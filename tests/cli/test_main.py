"""The command line before anything is trained: help, flags, overrides, error messages and exit codes."""

import os
import re
import resource
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from convbench.cli.overrides import quote_path, without_repetitions
from convbench.config.options import conf_folder, options
from tests.conftest import TINY

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
    """Run `convbench.train`, assert its exit code and that it has not imported PyTorch, and return its output."""
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
def test_help_and_cfg_job_take_less_than_two_seconds_of_cpu_time(run_module, flags):
    """CPU time depends less on other processes than wall-clock time.

    Hydra takes half of it to list the options of every installed launcher.
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


def test_a_value_out_of_range_is_reported_without_importing_torch(tmp_path):
    assert "(epochs)" in run_without_torch(tmp_path, "epochs=0", code=2)


def test_the_message_on_an_unknown_option_lists_the_existing_options(run_here):
    done = run_here("train", "conv=wighted_sum")
    assert done.code == 2
    assert "conv/wighted_sum" in done.err
    for option in ("dynamic", "from_scratch", "standard", "weighted_sum"):
        assert option in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("module", "word", "similar"),
    [
        ("train", "epochz=3", "epochs"),
        ("train", "model.dept=20", "model.depth"),
        ("train", "+loss=focal", "(loss)"),
        ("train", "+engine.clip=1.0", "(engine.clip)"),
        ("train", "++optimizer.lrr=1", "optimizer.lr"),
        ("describe", "modle.depth=20", "model.depth"),
        ("bench", "layers.round=3", "layers.rounds"),
        ("doctor", "+sead=3", "seed"),
        ("evaluate", "checkpont=last", "checkpoint"),
        ("compare", "diference=3", "difference"),
        ("apply_kernel", "+kernal=emboss", "kernel"),
    ],
)
def test_the_message_on_an_unknown_key_names_similar_keys_and_does_not_advise_to_add_it(
    run_here, module, word, similar
):
    required = {"evaluate": ["run=x"], "compare": ["."], "apply_kernel": ["image=x"]}.get(module, [])
    done = run_here(module, word, *required)
    assert done.code == 2
    assert similar in done.err.splitlines()[0]
    assert "use +" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "words", [["epochs=0"], ["+loss=focal"], ["conv=wighted_sum"], ["model=-1"], ["schedule=[]", "data.flipx=1"]]
)
def test_a_command_with_a_mistake_creates_no_folder(run_here, tmp_path, words):
    assert run_here("train", *words).code == 2
    assert not list(tmp_path.iterdir())


def test_an_unknown_key_fails_every_job_of_a_sweep(run_here, results):
    done = run_here("train", "-m", "+loss=focal,dice", "sweep.report=false")
    assert done.code == 3
    assert [(result["status"], "(loss)" in result["error"]) for _, result in results()] == [("failed", True)] * 2


def test_the_message_names_an_unknown_key_in_a_users_experiment_file(run_here, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text("# @package _global_\nearly_stopping: 3\n")
    done = run_here("train", "--config-dir", str(tmp_path / "mine"), "experiment=mine")
    assert (done.code, "(early_stopping)" in done.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [["-m", "epochs=0", "seed=1,2"], ["epochs=0", "-m", "seed=1,2"], ["epochs=0", "seed=1,2", "--multirun"]],
)
def test_flags_may_stand_anywhere_on_the_command_line(run_here, results, arguments):
    assert run_here("train", *arguments, "sweep.report=false").code == 3
    assert sorted(folder.name for folder, _ in results()) == ["seed-1", "seed-2"]


def test_an_unknown_flag_gives_a_message_of_one_line(run_here):
    done = run_here("train", "--verbose")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "--verbose" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("seed=0,0", "seed=0"),
        ("seed=0,1,0", "seed=0,1"),
        ("optimizer.lr=0.1,1e-1", "optimizer.lr=0.1"),
        ("optimizer.lr=1,1.0,2", "optimizer.lr=1,2"),
        ("conv=standard,standard", "conv=standard"),
        ("model.widths=[1,2],[1, 2],[2,1]", "model.widths=[1,2],[2,1]"),
        ("engine.compile=true,1", "engine.compile=true,1"),
        ("engine.compile=auto,'auto'", "engine.compile=auto"),
        ("seed=range(0,3)", "seed=range(0,3)"),
        ("seed=0,1", "seed=0,1"),
        ("conv.skip=[]", "conv.skip=[]"),
        ("a=[", "a=["),
    ],
)
def test_a_value_that_a_sweep_repeats_is_one_job(word, kept, capsys):
    assert [text.replace(" ", "") for text in without_repetitions([word])] == [kept.replace(" ", "")]
    assert (word.partition("=")[0] in capsys.readouterr().out) == (kept != word)


def test_an_argument_that_is_not_an_override_gives_exit_code_2(run_here):
    done = run_here("train", "weighted_sum")
    assert done.code == 2
    assert "Traceback" not in done.err


def test_hydra_full_error_prints_the_traceback(run_module):
    done = run_module("train", "epochs=0", HYDRA_FULL_ERROR="1")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "(epochs)" in done.err


@pytest.mark.parametrize(
    ("module", "arguments", "key"),
    [("train", ["data=folder"], "data.root"), ("evaluate", [], "run"), ("apply_kernel", [], "image")],
)
def test_the_message_names_a_missing_key_without_default(run_here, module, arguments, key):
    done = run_here(module, *arguments)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert f"{key}=" in done.err


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("resume=runs/a_conv=dynamic,seed=1", "resume='runs/a_conv=dynamic,seed=1'"),
        ("run=it's", "run='it\\'s'"),
        ("data.root=C:\\new\\it's", "data.root='C:\\new\\it\\'s'"),
        ("sweep.name=5", "sweep.name='5'"),
        ("image=a dog, 1=2.png", "image='a dog, 1=2.png'"),
        ("output=a,b", "output='a,b'"),
        ("run='already quoted'", "run='already quoted'"),
        ("resume=null", "resume=null"),
        ("conv=standard,dynamic", "conv=standard,dynamic"),
        ("--help", "--help"),
    ],
)
def test_only_values_of_path_keys_are_quoted(word, quoted):
    assert quote_path(word) == quoted


@pytest.mark.parametrize("path", ["a\\b", "a\\", "it's", "a\\'b", "a\\\\'", "x=1,2", "a b\nc", 'a"b'])
def test_hydra_parses_a_quoted_path_to_the_same_path(path):
    quoted = quote_path(f"resume={path}")
    assert OverridesParser.create().parse_override(quoted).value() == path


def run_with_closed_pipe(module, *arguments, folder, **environment):
    """Run a command whose standard output is a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-m", f"convbench.{module}", *arguments],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(("module", "arguments"), [("runs", []), ("train", ["--help"]), ("train", ["--cfg", "job"])])
def test_a_closed_pipe_ends_a_short_command_without_an_error(tmp_path, module, arguments):
    done = run_with_closed_pipe(module, *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_does_not_end_a_training_run(tmp_path, results):
    done = run_with_closed_pipe("train", *TINY, "epochs=1", "engine.channels_last=false", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [result["status"] for _, result in results()] == ["finished"]


def test_characters_that_the_terminal_cannot_encode_are_escaped(tmp_path):
    folder = tmp_path / "Größe"
    folder.mkdir()
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "convbench.runs", "Größen"],
        cwd=tmp_path,
        env=os.environ | locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.match(rb"error: .*\bGr\\", done.stderr)
    assert b"Traceback" not in done.stderr


def test_an_empty_environment_variable_counts_as_unset(run_module):
    done = run_module("train", "--cfg", "job", "--resolve", CONVBENCH_DATA="", XDG_CACHE_HOME="", HOME="/home/me")
    assert "datasets: datasets\n" in done.out
    assert "cache: /home/me/.cache/convbench\n" in done.out


OTHER_LOCALE = """
import os, runpy, sys
import numpy as np
from PIL import Image

pixels = np.random.default_rng(0)
for kind in (b"gr\\xf6\\xdfe", b"gr\\xc3\\xb6\\xc3\\x9fe"):
    os.makedirs(os.path.join(b"bilder-\\xff", kind))
    for index in range(12):
        image = Image.fromarray(pixels.integers(0, 256, (16, 16, 3), np.uint8))
        image.save(os.fsdecode(os.path.join(b"bilder-\\xff", kind, b"%02d-\\xe9.png" % index)))

for module, *words in (
    ["train", "data=folder", "data.root=" + os.fsdecode(b"bilder-\\xff"), "data.image_size=16", "data.val_fraction=0.2",
     "data.test_fraction=0.2", "model.depth=8", "model.widths=[16,16,16]", "batch_size=8", "epochs=1",
     "engine.compile=false", "engine.channels_last=false", "engine.watch=false", "hydra.run.dir=run"],
    ["evaluate", "run=run"],
    ["runs", "run", "data.root=" + os.fsdecode(b"bilder-\\xff")],
):
    sys.argv[:] = [module, *words]
    runpy.run_module("convbench." + module, run_name="__main__")
"""


def test_file_names_survive_a_locale_that_lacks_their_characters(tmp_path):
    (tmp_path / "script.py").write_text(OTHER_LOCALE)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | locale, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(b"\n1 run\n")
    predictions = (tmp_path / "run" / "evaluation" / "test-best" / "predictions.csv").read_bytes()
    assert b"gr\xf6\xdfe/" in predictions
    assert "größe/".encode() in predictions
