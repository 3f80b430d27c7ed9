"""One training run, from its configuration to its folder."""

import logging
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from convbench.build import Before, Composition, Training, build_training, compose
from convbench.computed import circumstances, differences, implementations_text, parts_of
from convbench.data.identity import Identity, identify
from convbench.data.types import Splits
from convbench.engine import checkpoint, world
from convbench.engine.compilation import remember_compiled
from convbench.engine.device import describe_device, peak_memory, reset_peak_memory
from convbench.engine.evaluation import evaluate
from convbench.engine.metrics import SplitScore
from convbench.engine.trainer import EVALUATION_ADVICE, Trainer, check_finite
from convbench.engine.watch import Watch
from convbench.logs.console import Console
from convbench.logs.files import RunFolder
from convbench.logs.results import Results
from convbench.logs.tensorboard import TensorBoard

log = logging.getLogger("convbench")


def identity_of(folder: RunFolder) -> Identity | None:
    """What a run that exists is about; None for one that has read no data yet.

    One that was begun by a version which kept no identity gets a note: its data cannot be verified.
    """
    said = folder.results.get("identity")
    if said is not None:
        return Identity.from_json(said, folder.read_data())
    if folder.last_checkpoint.exists():
        log.warning("%s was begun by an earlier version: its data cannot be verified", folder.path)
    return None


class Run:
    """A training run and its folder.

    Args:
        config: what to train.
        folder: of the run, started already.
        began: `time.perf_counter()` at its start, earlier parts of a resumed run included.
    """

    def __init__(self, config: DictConfig, folder: RunFolder, began: float) -> None:
        self.config = config
        self.folder = folder
        self.began = began

    def carry_out(self) -> bool:
        """Compose, say what was composed, train, test, and write down what came out.

        Returns:
            Whether a signal came too late to stop this run, so that what follows it has to be stopped.
        """
        identity = identity_of(self.folder)
        composition = compose(self.config, identity)
        reset_peak_memory(composition.device)
        before = self._before()
        parts = parts_of(self.folder.results)
        self.folder.update_results(
            model=composition.built.name,
            params=composition.built.summary.parameters,
            macs=composition.built.summary.macs,
            not_counted=[
                {"operator": operator, "layers": list(names)}
                for operator, names in composition.built.summary.not_counted.items()
            ],
            matched=None if composition.built.matched is None else asdict(composition.built.matched),
            device=describe_device(composition.device),
        )
        is_new = identity is None and not self.folder.last_checkpoint.exists()
        training = build_training(
            self.config,
            composition,
            before,
            on_loaded=partial(self._record_data, composition) if is_new and world.rank() == 0 else None,
        )
        if not is_new:
            self.folder.write_config(self.config)  # the data may have been found in another place
        trainer = self._trainer(training)
        self.folder.update_results(
            swap=[asdict(row) for row in training.swap.rows],
            compiled=training.compilation.is_on,
            classes=list(composition.spec.classes),
            images=training.images,
            computed=[*parts, self._part(training, trainer.progress.epoch, parts)],
        )
        if world.rank() != 0:
            trainer.fit([])
            self._test(training, trainer)
            return trainer.is_stopped
        tensorboard = TensorBoard(self.folder.path, trainer.images_seen)
        results = Results(self.folder, self.began, trainer.progress.epoch)
        with Console(training.step.has_temperature) as console, tensorboard:
            console.header(self._header(composition, training))
            reporters = [console, results, tensorboard]
            if self.config.engine.watch:
                reporters.append(self._watch(training, tensorboard))
            trainer.fit(reporters)
            compilation = training.compilation
            if compilation.seconds is not None and trainer.step_seconds is not None:
                remember_compiled(training.remembered, compilation.name, compilation.seconds, trainer.step_seconds)
            self._test(training, trainer)
            tensorboard.outcome(self._choices(), self._scores())
        return trainer.is_stopped

    def _choices(self) -> dict[str, str | float | bool]:
        """What distinguishes this run from others: the options, and the plain values of the keys people vary."""
        chosen: dict[str, str | float | bool] = dict(self.folder.results["choices"])
        for group in ("optimizer", "model", "conv"):
            values = self.config[group].items_ex(resolve=True)
            chosen |= {f"{group}.{key}": value for key, value in values if isinstance(value, str | float | int)}
        return {key: value for key, value in chosen.items() if not key.endswith("_target_")} | {
            key: self.config[key] for key in ("seed", "epochs", "batch_size", "label_smoothing")
        }

    def _scores(self) -> dict[str, float]:
        results = self.folder.results
        scores = {"final/params": results["params"], "final/macs": results["macs"]}
        scores["final/seconds_per_epoch"] = results["seconds_per_epoch"]
        for split in ("val", "test"):
            if results[split]:
                scores |= {f"final/{split}_{name}": results[split][name] for name in ("loss", "accuracy")}
        return scores

    def _record_data(self, composition: Composition, loaded: Splits) -> None:
        """Keep what this run is about."""
        identity = asdict(identify(composition.spec, loaded))
        files = identity.pop("files")
        if files is not None:
            self.folder.write_data(files)
        self.folder.update_results(identity=identity)

    def _part(self, training: Training, from_epoch: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        """How the part of this run that begins now is computed; says what has changed since the part before."""
        engine = self.config.engine
        part = {
            "from_epoch": from_epoch,
            **circumstances(self.config, describe_device(training.step.device), torch.get_num_threads()),
            "processes": world.size(),
            "compiled": training.compilation.is_on,
            "implementations": implementations_text([(row.name, row.implementation) for row in training.swap.rows]),
            "cuda_graph": engine.cuda_graph,
            "images": "file" if training.splits.on_disk else "host" if training.train.is_streamed else "device",
            "accumulate": engine.accumulate,
            "shards": engine.shards,
        }
        changed = differences(before[-1], part) if before else ""
        if changed:
            log.warning("this part of the run is not computed as the part before it: %s", changed)
        return part

    def _before(self) -> Before:
        """What this run, if it is being resumed, chose when it began."""
        rows = self.folder.results.get("swap", [])
        return Before({row["name"]: row["implementation"] for row in rows}, self.folder.results.get("compiled"))

    def _watch(self, training: Training, board: TensorBoard) -> Watch:
        step, val = training.step, training.evaluation("val")
        return Watch(step.network, val, self.config.engine.autocast, board, self.folder, step.anneal.end)

    def _trainer(self, training: Training) -> Trainer:
        trainer = Trainer(
            step=training.step,
            train=training.train,
            val=training.evaluation("val"),
            precision=self.config.engine.autocast,
            folder=self.folder,
            log_every=self.config.engine.log_every,
        )
        if self.folder.last_checkpoint.exists():
            trainer.resume()
        return trainer

    def _header(self, composition: Composition, training: Training) -> dict[str, str]:
        """What was composed, for a person."""
        config, spec, splits, summary = self.config, composition.spec, training.splits, composition.built.summary
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        counts = [
            f"no {name} set" if split is None else f"{training.images[name]:,} {name}" for name, split in parts.items()
        ]
        start = self.folder.results["epochs_done"]
        engine = [
            describe_device(composition.device),
            "float32" if config.engine.autocast == "none" else f"autocast {config.engine.autocast}",
            "channels_last" if config.engine.channels_last else "channels first",
            "compiled" if training.compilation.is_on else "eager",
        ]
        if world.size() > 1:
            engine[0] = f"{world.size()} processes, each {engine[0]}"
        matched = composition.built.matched
        return {
            "data": f"{self.folder.results['data']}: {', '.join(counts)}; "
            f"{spec.channels}x{spec.image_size}x{spec.image_size}, {len(spec.classes)} classes",
            "model": f"{composition.built.name}: {summary.parameters:,} parameters, "
            f"{_engineering(summary.macs)} MACs an image"
            + (f"; not counted: {summary.uncounted}" if summary.uncounted else ""),
            **({} if matched is None else {"budget": matched.summary(summary)}),
            "conv": f"{self.folder.results['conv']}: {training.swap.summary()}",
            "run": f"{config.epochs} epochs of {len(training.train)} steps of {config.batch_size} images, "
            f"seed {config.seed}" + (f"; going on after epoch {start}" if start else ""),
            "device": ", ".join(engine),
            **({"compile": training.compilation.why} if training.compilation.why else {}),
            "folder": str(self.folder.path),
        }

    def _test(self, training: Training, trainer: Trainer) -> None:
        """Read the test set, once: with the last weights and with those of the best validation accuracy."""
        best = dict(trainer.progress.best)
        test = None
        if training.splits.test is not None and training.splits.test.labels is not None:
            test = self._test_score(training, "last")
            state = checkpoint.load(self.folder.best_checkpoint, training.step.device)
            training.step.network.load_state_dict(state["network"])
            best["test"] = self._test_score(training, "best")._asdict()
        self.folder.update_results(
            status="finished",
            test=None if test is None else test._asdict(),
            best=best,
            peak_memory_bytes=peak_memory(training.step.device),
            seconds_total=time.perf_counter() - self.began,
        )
        if test is None:
            log.info("\nno labelled test set")
        else:
            of_best = best["test"]
            log.info("\ntest   last epoch             loss %.4f  accuracy %.2f %%", test.loss, 100 * test.accuracy)
            log.info(
                "test   best val. (epoch %3d)  loss %.4f  accuracy %.2f %%",
                best["epoch"],
                of_best["loss"],
                100 * of_best["accuracy"],
            )
        log.info("everything is in %s", self.folder.path)

    def _test_score(self, training: Training, which: str) -> SplitScore:
        score = evaluate(training.step.network, training.evaluation("test"), self.config.engine.autocast)
        check_finite(score.loss, f"test loss of the {which} epoch", EVALUATION_ADVICE)
        return score


def _engineering(number: int) -> str:
    """1234567 as `1.23 M`."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{number / factor:.2f} {letter}"
    return str(number)
