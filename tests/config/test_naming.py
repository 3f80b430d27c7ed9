import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from convbench.config import torchrun
from convbench.config.naming import config_hash, conv_name, folder_name, run_folder
from convbench.config.options import environment
from convbench.config.resolvers import register_resolvers
from convbench.errors import UserError
from convbench.run_folders.provenance import code_digest

GOOD: dict[str, Any] = {
    "seed": 0,
    "epochs": 10,
    "batch_size": 128,
    "label_smoothing": 0.0,
    "temperature": {"start": 30.0, "end": 1.0, "epochs": 10.0},
    "optimizer": {"lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4},
    "schedule": {"warmup_epochs": 0.0},
    "engine": {
        "device": "auto",
        "autocast": "none",
        "channels_last": True,
        "compile": False,
        "cuda_graph": False,
        "deterministic": False,
        "threads": None,
        "log_every": 50,
        "watch": True,
    },
    "resume": None,
}


def config(key: str | None = None, value: object = None) -> Any:
    made = OmegaConf.create(GOOD)
    if key is not None:
        OmegaConf.update(made, key, value)
    return made


def flat(node: Any, prefix: str = "") -> list[str]:
    return [
        name
        for key, value in node.items()
        for name in (flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


@pytest.mark.parametrize("key", [key for key in flat(GOOD) if key not in ("resume", "engine.threads")])
def test_the_hash_changes_with_any_key(key: str) -> None:
    assert config_hash(config(key, "something else")) != config_hash(config())


def test_the_hash_does_not_change_with_resume_nor_with_the_order_of_keys() -> None:
    digest = config_hash(config())
    assert config_hash(config("resume", "outputs/runs/x")) == digest
    assert config_hash(OmegaConf.create(dict(reversed(GOOD.items())))) == digest
    without = config()
    del without.resume
    assert config_hash(without) == digest


def test_the_hash_ignores_folders_threads_and_the_sweep() -> None:
    def made(**changes: Any) -> str:
        plain = {
            "datasets": "/here",
            "data": {"root": "${datasets}/cats", "size": 32},
            "engine": {"cache": "/a", "threads": 2, "compile": True},
            "sweep": {"name": None, "fail_fast": False},
            "seed": 0,
        }
        loaded = OmegaConf.create(plain)
        for key, value in changes.items():
            OmegaConf.update(loaded, key.replace("__", "."), value)
        return config_hash(loaded)

    for change in ({"datasets": "/there"}, {"engine__cache": "/b"}, {"engine__threads": None}, {"sweep__name": "x"}):
        assert made(**change) == made(), change
    for change in ({"data__root": "/there/dogs"}, {"engine__compile": False}, {"seed": 1}):
        assert made(**change) != made(), change


def test_the_hash_without_the_seed_is_equal_for_all_runs_of_a_variant() -> None:
    assert config_hash(config("seed", 1), leave_out=("seed",)) == config_hash(config(), leave_out=("seed",))
    assert config_hash(config("epochs", 99), leave_out=("seed",)) != config_hash(config(), leave_out=("seed",))


def test_the_hash_without_the_seed_contains_values_that_refer_to_the_seed() -> None:
    referring, plain = config("label_smoothing", "${seed}"), config("label_smoothing", 0)
    assert config_hash(referring, leave_out=("seed",)) == config_hash(plain, leave_out=("seed",))


def test_computing_the_hash_does_not_change_the_configuration() -> None:
    before = OmegaConf.to_yaml(config())
    after = config()
    config_hash(after)
    assert OmegaConf.to_yaml(after) == before


def test_the_digest_of_the_code_is_the_same_in_every_process() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "from convbench.run_folders.provenance import code_digest; print(code_digest())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert printed == code_digest()
    assert len(printed) == 12


def test_the_hash_is_twelve_hexadecimal_digits_of_the_resolved_values() -> None:
    digest = config_hash(config())
    assert len(digest) == 12
    assert set(digest) <= set("0123456789abcdef")
    written, interpolated = ({"a": 1, "b": b, "resume": None} for b in (1, "${a}"))
    assert config_hash(OmegaConf.create(interpolated)) == config_hash(OmegaConf.create(written))


def test_the_hash_is_stable_across_versions() -> None:
    assert config_hash(OmegaConf.create({"epochs": 3, "optimizer": {"lr": 0.1}, "resume": None})) == "7860f13406a1"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("convbench.convs.weighted_sum.WeightedSumConv2d", "weighted_sum"),
        ("my_package.convs.MyConv2d", "MyConv2d"),
        ("convbenchmark.MyConv2d", "MyConv2d"),
    ],
)
def test_a_conv_is_named_after_its_option_or_after_the_users_class(target: str, name: str) -> None:
    assert conv_name(OmegaConf.create({"conv": {"_target_": target}}), "weighted_sum") == name


@pytest.mark.parametrize(
    "overrides", ["conv-weighted_sum_seed-1", "optimizer.lr-0.1_+model.width-2", "epochs-3", "note-my-data_2"]
)
def test_the_folder_name_equals_the_overrides_if_all_characters_are_safe(overrides: str) -> None:
    assert folder_name(overrides) == overrides


def test_a_run_without_overrides_is_named_defaults() -> None:
    assert folder_name("") == "defaults"


@pytest.mark.parametrize(
    "overrides",
    [
        "data.root=/home/me/my pictures,seed=1",
        "data.root=..\\..\\pictures",
        "conv.skip=[first,layer1.*]",
        "data.hint='a \"quoted\" text: what?'",
        "data.root=a\nb",
        ",".join(f"model.key{index}=value" for index in range(40)),
        "data.root=" + "数据" * 50,
        "[]",
    ],
)
def test_a_folder_name_is_a_short_and_safe_component_of_a_path(overrides: str, tmp_path: Path) -> None:
    name = folder_name(overrides)
    assert not set(name) & set("/\\:*?\"'<>|[]{}()=, \n")
    assert not name.startswith((".", "-"))
    assert len(name.encode()) <= 140
    (tmp_path / name).mkdir()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x" * 200, "x" * 199 + "y"),
        ("data.root=a/b", "data.root=a-b"),
        ("data.root=a/b", "data.root=a b"),
        ("conv.skip=[first]", "conv.skip=first"),
        ("", "[]"),
    ],
)
def test_a_digest_distinguishes_shortened_names(one: str, other: str) -> None:
    assert folder_name(one) != folder_name(other)
    assert folder_name(one) == folder_name(one)


def test_the_folder_of_a_new_run_is_named_after_time_and_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(run_folder(None, "conv-dynamic_seed-3"))
    assert folder.parent == Path("outputs/runs")
    date, time, overrides = folder.name.split("_", 2)
    assert (len(date), len(time)) == (10, 8)
    assert overrides == "conv-dynamic_seed-3"


def test_runs_started_in_the_same_second_have_different_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(Path(run_folder(None, "seed=1")))
        folders[-1].mkdir(parents=True)
    assert len(set(folders)) == 3


def test_a_run_to_resume_keeps_its_folder(tmp_path: Path) -> None:
    assert run_folder(str(tmp_path), "resume=somewhere") == str(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}/nothing.*\(resume\)$"):
        run_folder(f"{tmp_path}/nothing", "")
    assert not (tmp_path / "nothing").exists()


def test_the_resolvers_call_the_functions_and_cache_the_sweep_folder() -> None:
    register_resolvers()
    register_resolvers()  # registering twice is allowed
    made = OmegaConf.create(
        {"name": "${folder_name:'a/b'}", "one": "${sweep_folder:null}", "two": "${sweep_folder:null}"}
    )
    assert made.name == folder_name("a/b")
    assert made.one == made.two  # all jobs of a sweep share its folder


def test_an_empty_environment_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVBENCH_DATA", "")
    assert environment("CONVBENCH_DATA", "datasets") == "datasets"
    monkeypatch.setenv("CONVBENCH_DATA", "/here")
    assert environment("CONVBENCH_DATA", "datasets") == "/here"
    monkeypatch.setenv("WORLD_SIZE", "")
    assert torchrun.world_size() == 1


def test_the_modules_that_check_a_configuration_do_not_import_pytorch() -> None:
    code = "import sys, convbench.config.options, convbench.cli.main, convbench.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
