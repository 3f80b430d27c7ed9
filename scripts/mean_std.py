"""Print the mean and standard deviation of each channel of the training images, for the yaml of a data set.

Example: `python scripts/mean_std.py data=dog_cat_bird data.root=DIR`.
"""

import sys

from hydra import compose, initialize
from hydra.utils import instantiate

from convbench.data.normalisation import channel_statistics


def main(overrides: list[str]) -> None:
    """Print the statistics of the training images; the overrides are those of `convbench.train`."""
    with initialize(version_base="1.3", config_path="../conf"):
        config = compose("train", overrides=overrides)
    train = instantiate(config.data, _convert_="all").load().train
    mean, std = channel_statistics(train.images, train.indices)
    print(f"# over {len(train):,} training images")
    print(f"mean: [{', '.join(f'{value:.4f}' for value in mean)}]")
    print(f"std: [{', '.join(f'{value:.4f}' for value in std)}]")


if __name__ == "__main__":
    main(sys.argv[1:])
