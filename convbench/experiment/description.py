"""The description of a run for loggers: readable facts, hyper-parameters, and final scores."""

from omegaconf import DictConfig

from convbench.engine import distributed
from convbench.engine.device import describe_device
from convbench.experiment.composition import Composition
from convbench.experiment.training import Training
from convbench.run_folders.run_folder import RunFolder


def facts(config: DictConfig, folder: RunFolder, composition: Composition, training: Training) -> dict[str, str]:
    """The description of a run at its start: one line of text for each of data, model, conv, run, device and folder.

    Lines on the parameter budget and on compilation are added if there is something to report.
    """
    spec, built, compilation = composition.spec, composition.built, training.compilation
    uncounted = f" without {built.summary.uncounted}" if built.summary.uncounted else ""
    epochs_done = folder.record.epochs_done
    resumed = f"; resumed after epoch {epochs_done}" if epochs_done else ""
    return {
        "data": f"{folder.results['data']}: {_image_counts(training)}; "
        f"{spec.channels}x{spec.image_size}x{spec.image_size}, {len(spec.classes)} classes",
        "model": f"{built.name}: {built.summary.parameters:,} parameters, "
        f"{_with_unit(built.summary.macs)} MACs an image{uncounted}",
        **({} if built.matched is None else {"budget": built.matched.summary(built.summary)}),
        "conv": f"{folder.results['conv']}: {training.swap.summary()}",
        "run": f"{config.epochs} epoch{'s' * (config.epochs > 1)} of {len(training.train)} steps of "
        f"{config.batch_size} images, seed {config.seed}{resumed}",
        "device": _computation(config, composition, training),
        **({"compile": compilation.why} if compilation.why else {}),
        "folder": str(folder.path),
    }


def choices(config: DictConfig, folder: RunFolder) -> dict[str, str | float | bool]:
    """The hyper-parameters of a run: the options of the groups, and the values of the keys that are commonly varied."""
    chosen: dict[str, str | float | bool] = dict(folder.results["choices"])
    for group in ("optimizer", "model", "conv"):
        values = config[group].items_ex(resolve=True)
        chosen |= {f"{group}.{key}": value for key, value in values if isinstance(value, str | float | int)}
    return {key: value for key, value in chosen.items() if not key.endswith("_target_")} | {
        key: config[key] for key in ("seed", "epochs", "batch_size", "label_smoothing")
    }


def final_scores(folder: RunFolder) -> dict[str, float]:
    """The costs and scores of a finished run, by the tag under which the loggers show them."""
    results = folder.results
    scores = {"final/params": results["params"], "final/macs": results["macs"]}
    scores["final/seconds_per_epoch"] = results["seconds_per_epoch"]
    for split in ("val", "test"):
        if results[split]:
            scores |= {f"final/{split}_{name}": results[split][name] for name in ("loss", "accuracy")}
    return scores


def _image_counts(training: Training) -> str:
    """The numbers of images: `4,000 train, 1,000 val, no test set`."""
    counts = training.images.counts
    return ", ".join(
        f"{counts[name]:,} {name}" if name in counts else f"no {name} set" for name in ("train", "val", "test")
    )


def _computation(config: DictConfig, composition: Composition, training: Training) -> str:
    """The device, precision, memory format and compilation: `cpu (2 threads), float32, channels_last, eager`."""
    device = describe_device(composition.device)
    if distributed.world_size() > 1:
        device = f"{distributed.world_size()} processes, each {device}"
    precision = "float32" if config.engine.autocast == "none" else f"autocast {config.engine.autocast}"
    memory_format = "channels_last" if config.engine.channels_last else "channels first"
    return ", ".join([device, precision, memory_format, "compiled" if training.compilation.is_on else "eager"])


def _with_unit(number: int) -> str:
    """A number with a unit prefix: 1234567 becomes `1.23 M`."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{number / factor:.2f} {letter}"
    return str(number)
