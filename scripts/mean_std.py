"""Mean and standard deviation per channel of a dataset's training images, to write into its yaml.

python scripts/mean_std.py data=dog_cat_bird data.root=DIR
"""

import sys

from hydra import compose, initialize
from hydra.utils import instantiate

from convbench.data.normalisation import channel_statistics


def main(overrides: list[str]) -> None:
    """Print the statistics of the images to train on, as `data=NAME` and other overrides choose them."""
    with initialize(version_base="1.3", config_path="../conf"):
        config = compose("train", overrides=overrides)
    train = instantiate(config.data, _convert_="all").load().train
    mean, std = channel_statistics(train.images, train.indices)
    print(f"# over {len(train):,} training images")
    print(f"mean: [{', '.join(f'{value:.4f}' for value in mean)}]")
    print(f"std: [{', '.join(f'{value:.4f}' for value in std)}]")


if __name__ == "__main__":
    main(sys.argv[1:])
