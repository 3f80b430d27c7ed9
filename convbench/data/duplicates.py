"""Detection of duplicate images: in two splits, which biases the evaluation, or with two different labels."""

import logging
from collections.abc import Mapping

import numpy as np

from convbench.data.digests import DIGEST_BYTES, pixel_digests
from convbench.data.types import Split

log = logging.getLogger("convbench")

_EXAMPLES = 3
_PAIRS = (("test", "train"), ("test", "val"), ("val", "train"))


def warn_about_duplicates(name: str, splits: Mapping[str, Split]) -> None:
    """Log one warning if images occur in two splits, or in two classes of the training set.

    Two images are duplicates if all of their decoded pixels are equal.

    Args:
        name: name of the data set.
        splits: the splits `train`, `val` and, if there is one, `test`.
    """
    rows = {split: images.indices.tolist() for split, images in splits.items()}
    digests = {
        split: np.frombuffer(b"".join(pixel_digests(images)), f"u{DIGEST_BYTES}") for split, images in splits.items()
    }

    def image_name(split: str, position: int) -> str:
        return splits[split].names[rows[split][position]]

    found: list[tuple[str, list[str]]] = []
    for split, other in _PAIRS:
        if split not in splits:
            continue
        positions = np.flatnonzero(np.isin(digests[split], digests[other]))
        pairs = [
            f"{image_name(split, position)} = "
            f"{image_name(other, int(np.argmax(digests[other] == digests[split][position])))}"
            for position in positions[:_EXAMPLES]
        ]
        found.append((f"{len(positions)} of {len(rows[split])} {split} images are also in {other}", pairs))
    labels = splits["train"].labels
    if labels is not None:
        groups = _in_several_classes(digests["train"], labels.numpy()[rows["train"]])
        pairs = [" = ".join(image_name("train", position) for position in group[:2]) for group in groups[:_EXAMPLES]]
        found.append((f"{len(groups)} train images occur in more than one class", pairs))

    duplicates = [(finding, pairs) for finding, pairs in found if pairs]
    if duplicates:
        examples = max(1, _EXAMPLES // len(duplicates))
        findings = (f"{finding} ({', '.join(pairs[:examples])})" for finding, pairs in duplicates)
        log.warning("%s: %s", name, "; ".join(findings))


def _in_several_classes(digests: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Positions of equal images with different labels: one array per image, with one position per label."""
    pairs, first = np.unique(np.stack([digests, labels.astype(np.uint64)], 1), axis=0, return_index=True)
    distinct, counts = np.unique(pairs[:, 0], return_counts=True)
    return [first[pairs[:, 0] == image] for image in distinct[counts > 1]]
