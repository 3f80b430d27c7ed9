"""`python -m convbench.evaluate run=FOLDER`: what a trained network gets right and wrong."""

from omegaconf import DictConfig

from convbench import cli


def evaluate(config: DictConfig) -> None:
    """Measure the split of a run, or predict a folder of unlabelled images."""
    from convbench.report.evaluation import Evaluation

    evaluation = Evaluation.of(config.run, config.checkpoint, config.engine.device, config.data.root, config.datasets)
    if config.images is None:
        evaluation.measure(config.split, tuple(config.columns), config.strip_suffix)
    else:
        evaluation.predict_folder(config.images, tuple(config.columns), config.strip_suffix)


if __name__ == "__main__":
    cli.run("evaluate", evaluate)
