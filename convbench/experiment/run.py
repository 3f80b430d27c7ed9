"""A training run: composition, training, test, and the results in the run folder."""

import contextlib
import logging
import time
from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig

from convbench.config.instantiation import instantiate
from convbench.data.identity import identify
from convbench.diagnostics.diagrams import Diagrams
from convbench.engine import checkpoint, distributed
from convbench.engine.device import describe_device
from convbench.engine.memory import peak_memory, reset_peak_memory
from convbench.engine.metrics import SplitScore
from convbench.engine.scoring import evaluate
from convbench.engine.trainer import EVALUATION_ADVICE, Trainer, check_finite
from convbench.experiment.composition import Composition, compose, recorded_identity
from convbench.experiment.description import choices, facts, final_scores
from convbench.experiment.training import EarlierChoices, Training, build_training
from convbench.loggers.results import Results
from convbench.loggers.sink import RunStart, Sink
from convbench.run_folders.provenance import circumstances, differences, implementations_text
from convbench.run_folders.run_folder import RunFolder
from convbench.tuning.compilation import record_compilation

log = logging.getLogger("convbench")


class TrainingRun:
    """A training run and its folder.

    Args:
        config: a configuration that `convbench.config.schema.check` accepts.
        folder: the run folder, which already contains the configuration.
        began: the value of `time.perf_counter()` at the start of the run, in seconds; for a resumed run, minus the
            duration of its earlier parts.
    """

    def __init__(self, config: DictConfig, folder: RunFolder, began: float) -> None:
        self.config = config
        self.folder = folder
        self.began = began

    def execute(self) -> bool:
        """Build everything, describe it to the loggers, train, test, and write the results.

        Returns:
            Whether a signal asked to stop too late for this run, so that whatever follows it has to be stopped.
        """
        identity = recorded_identity(self.folder)
        is_new = identity is None and not self.folder.last_checkpoint.exists()
        composition = compose(self.config, identity)
        reset_peak_memory(composition.device)
        earlier = EarlierChoices(self.folder.record.implementations, self.folder.results.get("compiled"))
        parts = self.folder.record.parts()
        self._record_composition(composition)
        training = self._build_training(composition, earlier, is_new)
        if not is_new:
            self.folder.write_config(self.config)  # the location of the data may have changed
        trainer = self._trainer(training)
        self.folder.update_results(
            swap=[asdict(row) for row in training.swap.rows],
            compiled=training.compilation.is_on,
            classes=list(composition.spec.classes),
            images=training.images.counts,
            computed=[*parts, self._part(training, trainer.progress.epoch, parts)],
        )
        with contextlib.ExitStack() as stack:
            # Only process 0 has loggers.
            sinks = self._sinks(training, trainer) if distributed.rank() == 0 else []
            for sink in sinks:
                stack.enter_context(sink)
            start = RunStart(
                self.folder.path,
                facts(self.config, self.folder, composition, training),
                training.step.has_temperature,
                trainer.images_seen,
            )
            for sink in sinks:
                sink.on_run_start(start)
            trainer.fit(sinks)
            self._record_compilation(training, trainer)
            self._test(training, trainer)
            if sinks:
                chosen, scores = choices(self.config, self.folder), final_scores(self.folder)
                for sink in sinks:
                    sink.on_run_end(chosen, scores)
        return trainer.is_stop_requested

    def _record_composition(self, composition: Composition) -> None:
        """Write the name and the costs of the network to the results."""
        built = composition.built
        self.folder.update_results(
            model=built.name,
            params=built.summary.parameters,
            macs=built.summary.macs,
            not_counted=[
                {"operator": operator, "layers": list(names)} for operator, names in built.summary.not_counted.items()
            ],
            matched=None if built.matched is None else asdict(built.matched),
            device=describe_device(composition.device),
        )

    def _build_training(self, composition: Composition, earlier: EarlierChoices, is_new: bool) -> Training:
        """Read the images, record their identity if the run is new, and build everything that trains on them."""
        loaded = composition.source.load()
        if is_new and distributed.rank() == 0:
            identity = asdict(identify(composition.spec, loaded))
            files = identity.pop("files")
            if files is not None:
                self.folder.write_data(files)
            self.folder.update_results(identity=identity)
        return build_training(self.config, composition, loaded, earlier)

    def _sinks(self, training: Training, trainer: Trainer) -> list[Sink]:
        """The loggers: the run folder, those of the group `logger`, and the diagrams that are sent to the latter."""
        chosen: list[Sink] = [instantiate(node, f"logger.{name}") for name, node in self.config.logger.items()]
        sinks: list[Sink] = [Results(self.folder, self.began, trainer.progress.epoch), *chosen]
        if self.config.engine.watch:
            step, precision = training.step, self.config.engine.autocast
            val = training.evaluation("val")
            sinks.append(Diagrams(step.network, val, precision, chosen, self.folder, step.anneal.end))
        return sinks

    def _part(self, training: Training, from_epoch: int, earlier: list[dict[str, Any]]) -> dict[str, Any]:
        """How the part of the run that starts now is computed; logs a warning on differences from the previous part.

        Args:
            training: everything that the run trains with.
            from_epoch: the number of epochs trained before this part.
            earlier: the earlier parts of the run.
        """
        engine, images = self.config.engine, training.images
        part = {
            "from_epoch": from_epoch,
            **circumstances(self.config, describe_device(training.step.device), torch.get_num_threads()),
            "processes": distributed.world_size(),
            "compiled": training.compilation.is_on,
            "implementations": implementations_text([(row.name, row.implementation) for row in training.swap.rows]),
            "cuda_graph": engine.cuda_graph,
            "images": "file" if images.splits.on_disk else "host" if images.is_prefetched else "device",
            "accumulate": engine.accumulate,
            "shards": engine.shards,
        }
        changed = differences(earlier[-1], part) if earlier else ""
        if changed:
            log.warning("this part of the run and the previous one are computed differently: %s", changed)
        return part

    def _trainer(self, training: Training) -> Trainer:
        """The training loop, resumed from the last checkpoint if there is one."""
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

    def _record_compilation(self, training: Training, trainer: Trainer) -> None:
        """Record the time that compilation took and the time of a step, on which later runs base their decision."""
        compilation = training.compilation
        if distributed.rank() == 0 and compilation.seconds is not None and trainer.step_seconds is not None:
            record_compilation(training.measurements, compilation.name, compilation.seconds, trainer.step_seconds)

    def _test(self, training: Training, trainer: Trainer) -> None:
        """Evaluate the test set with the weights of the last epoch and of the epoch of the best validation accuracy."""
        best = dict(trainer.progress.best)
        test, split = None, training.images.splits.test
        if split is not None and split.labels is not None:
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
            best_score = best["test"]
            log.info("\ntest   last epoch             loss %.4f  accuracy %.2f %%", test.loss, 100 * test.accuracy)
            log.info(
                "test   best val. (epoch %3d)  loss %.4f  accuracy %.2f %%",
                best["epoch"],
                best_score["loss"],
                100 * best_score["accuracy"],
            )
        log.info("everything is in %s", self.folder.path)

    def _test_score(self, training: Training, which: str) -> SplitScore:
        """The score of the network on the test set; `which` names the epoch of its weights in the error message."""
        score = evaluate(training.step.network, training.evaluation("test"), self.config.engine.autocast)
        check_finite(score.loss, f"test loss of the {which} epoch", EVALUATION_ADVICE)
        return score
