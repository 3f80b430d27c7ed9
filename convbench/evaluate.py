"""`python -m convbench.evaluate run=FOLDER`: scores, confusion matrix and predictions of a trained network."""

from omegaconf import DictConfig

from convbench.cli.main import run_command


def evaluate(config: DictConfig) -> None:
    """Evaluate the network on a split of its data set, or predict a folder of unlabelled images."""
    from convbench.experiment.evaluation import Evaluation  # imports PyTorch (seconds)

    evaluation = Evaluation.from_folder(
        config.run, config.checkpoint, config.engine.device, config.data.root, config.datasets
    )
    if config.images is None:
        evaluation.measure(config.split, tuple(config.columns), config.strip_suffix)
    else:
        evaluation.predict_folder(config.images, tuple(config.columns), config.strip_suffix)


if __name__ == "__main__":
    run_command("evaluate", evaluate)
