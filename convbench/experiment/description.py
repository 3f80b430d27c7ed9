"""What a run tells of itself: facts for a person, choices and scores for tables."""

from omegaconf import DictConfig

from convbench.engine import distributed
from convbench.engine.device import describe_device
from convbench.experiment.composition import Composition
from convbench.experiment.training import Training
from convbench.run_folders.folder import RunFolder


def facts(config: DictConfig, folder: RunFolder, composition: Composition, training: Training) -> dict[str, str]:
    """What was composed, a line for a person by name."""
    spec, built, compilation = composition.spec, composition.built, training.compilation
    uncounted = f"; not counted: {built.summary.uncounted}" if built.summary.uncounted else ""
    done = folder.record.epochs_done
    return {
        "data": f"{folder.results['data']}: {_image_counts(training)}; "
        f"{spec.channels}x{spec.image_size}x{spec.image_size}, {len(spec.classes)} classes",
        "model": f"{built.name}: {built.summary.parameters:,} parameters, "
        f"{_with_unit(built.summary.macs)} MACs an image{uncounted}",
        **({} if built.matched is None else {"budget": built.matched.summary(built.summary)}),
        "conv": f"{folder.results['conv']}: {training.swap.summary()}",
        "run": f"{config.epochs} epoch{'s' * (config.epochs > 1)} of {len(training.train)} steps of "
        f"{config.batch_size} images, seed {config.seed}" + (f"; going on after epoch {done}" if done else ""),
        "device": _computation(config, composition, training),
        **({"compile": compilation.why} if compilation.why else {}),
        "folder": str(folder.path),
    }


def choices(config: DictConfig, folder: RunFolder) -> dict[str, str | float | bool]:
    """What distinguishes this run from others: the options, and the plain values of the keys that people vary."""
    chosen: dict[str, str | float | bool] = dict(folder.results["choices"])
    for group in ("optimizer", "model", "conv"):
        values = config[group].items_ex(resolve=True)
        chosen |= {f"{group}.{key}": value for key, value in values if isinstance(value, str | float | int)}
    return {key: value for key, value in chosen.items() if not key.endswith("_target_")} | {
        key: config[key] for key in ("seed", "epochs", "batch_size", "label_smoothing")
    }


def final_scores(folder: RunFolder) -> dict[str, float]:
    """Costs and scores of a finished run, by the tag under which sinks show them."""
    results = folder.results
    scores = {"final/params": results["params"], "final/macs": results["macs"]}
    scores["final/seconds_per_epoch"] = results["seconds_per_epoch"]
    for split in ("val", "test"):
        if results[split]:
            scores |= {f"final/{split}_{name}": results[split][name] for name in ("loss", "accuracy")}
    return scores


def _image_counts(training: Training) -> str:
    counts = training.images.counts
    return ", ".join(
        f"{counts[name]:,} {name}" if name in counts else f"no {name} set" for name in ("train", "val", "test")
    )


def _computation(config: DictConfig, composition: Composition, training: Training) -> str:
    device = describe_device(composition.device)
    if distributed.world_size() > 1:
        device = f"{distributed.world_size()} processes, each {device}"
    precision = "float32" if config.engine.autocast == "none" else f"autocast {config.engine.autocast}"
    memory_format = "channels_last" if config.engine.channels_last else "channels first"
    return ", ".join([device, precision, memory_format, "compiled" if training.compilation.is_on else "eager"])


def _with_unit(number: int) -> str:
    """1234567 as `1.23 M`."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{number / factor:.2f} {letter}"
    return str(number)
