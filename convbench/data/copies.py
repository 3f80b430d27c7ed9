"""Pictures that occur more than once: in two splits, where the test no longer tells, or under two classes."""

import logging
from collections.abc import Mapping

import numpy as np

from convbench.data.digests import DIGEST_BYTES, pixel_digests
from convbench.data.types import Split

log = logging.getLogger("convbench")

_EXAMPLES = 3
_PAIRS = (("test", "train"), ("test", "val"), ("val", "train"))


def warn_of_copies(name: str, splits: Mapping[str, Split]) -> None:
    """Say in one line how many images occur in two splits, or under two classes of the training set; else nothing.

    Images are the same if all of their decoded pixels are.

    Args:
        name: of the data set.
        splits: `train`, `val` and, where there is one, `test`.
    """
    rows = {split: images.indices.tolist() for split, images in splits.items()}
    digests = {
        split: np.frombuffer(b"".join(pixel_digests(images)), f"u{DIGEST_BYTES}") for split, images in splits.items()
    }

    def picture(split: str, position: int) -> str:
        return splits[split].names[rows[split][position]]

    found: list[tuple[str, list[str]]] = []
    for split, other in _PAIRS:
        if split not in splits:
            continue
        positions = np.flatnonzero(np.isin(digests[split], digests[other]))
        pairs = [
            f"{picture(split, at)} = {picture(other, int(np.argmax(digests[other] == digests[split][at])))}"
            for at in positions[:_EXAMPLES]
        ]
        found.append((f"{len(positions)} of {len(rows[split])} {split} images are also in {other}", pairs))
    labels = splits["train"].labels
    if labels is not None:
        groups = _under_two_classes(digests["train"], labels.numpy()[rows["train"]])
        pairs = [" = ".join(picture("train", at) for at in group[:2]) for group in groups[:_EXAMPLES]]
        found.append((f"{len(groups)} pictures of train are there under more than one class", pairs))

    said = [(sentence, pairs) for sentence, pairs in found if pairs]
    if said:
        each = max(1, _EXAMPLES // len(said))
        log.warning("%s: %s", name, "; ".join(f"{text} ({', '.join(pairs[:each])})" for text, pairs in said))


def _under_two_classes(digests: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Positions of equal pictures with different labels: for each picture one position a label."""
    pairs, first = np.unique(np.stack([digests, labels.astype(np.uint64)], 1), axis=0, return_index=True)
    pictures, counts = np.unique(pairs[:, 0], return_counts=True)
    return [first[pairs[:, 0] == picture] for picture in pictures[counts > 1]]
