"""`python -m convbench.evaluate run=FOLDER`: what a trained network gets right and wrong."""

from omegaconf import DictConfig

from convbench.cli.main import run_command


def evaluate(config: DictConfig) -> None:
    """Measure the split of a run, or predict a folder of unlabelled images."""
    from convbench.experiment.evaluation import Evaluation

    evaluation = Evaluation.of(config.run, config.checkpoint, config.engine.device, config.data.root, config.datasets)
    if config.images is None:
        evaluation.measure(config.split, tuple(config.columns), config.strip_suffix)
    else:
        evaluation.predict_folder(config.images, tuple(config.columns), config.strip_suffix)


if __name__ == "__main__":
    run_command("evaluate", evaluate)
