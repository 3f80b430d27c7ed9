"""Built-in synthetic data set of ten classes of shapes, which needs no download.

The signed distance to the outline of a shape (negative inside, Euclidean near the edge) gives an antialiased mask.
Colour, position, size, rotation and texture are drawn independently of the class, so that only the outline determines
the class. Waves, a random line and pixel noise keep the accuracy of small networks below 100 %.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from convbench.data.normalisation import check_statistics, given_or_computed
from convbench.data.types import ImageSpec, Split, Splits
from convbench.errors import UserError

Array = np.ndarray

_CHUNK_PIXELS = 2**18  # pixels that are drawn at a time, so that temporary arrays fit into the CPU cache


def _fold(x: Array, y: Array, corners: int) -> tuple[Array, Array]:
    """Map points by symmetry to one half of one of `corners` equal sectors, the one centred on the +x axis."""
    sector = 2 * np.pi / corners
    angle = np.abs(np.remainder(np.arctan2(y, x) + sector / 2, sector) - sector / 2)
    radius = np.hypot(x, y)
    return radius * np.cos(angle), radius * np.sin(angle)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _disc(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - 0.9


def _ring(x: Array, y: Array) -> Array:
    return np.abs(np.hypot(x, y) - 0.72) - 0.2


def _square(x: Array, y: Array) -> Array:
    return _box(x, y, 0.78, 0.78)


def _frame(x: Array, y: Array) -> Array:
    return np.abs(_box(x, y, 0.62, 0.62)) - 0.18


def _triangle(x: Array, y: Array) -> Array:
    return _fold(-x, y, 3)[0] - 0.6


def _star(x: Array, y: Array) -> Array:
    along, across = _fold(x, y, 5)
    # The edge runs from the tip at radius 1.1 to the notch at radius 0.45, rotated by 36 degrees.
    edge = np.array([0.45 * np.cos(np.pi / 5) - 1.1, 0.45 * np.sin(np.pi / 5)])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (along - 1.1) * np.float32(normal[0]) + across * np.float32(normal[1])


def _cross(x: Array, y: Array) -> Array:
    return np.minimum(_box(x, y, 1.0, 0.3), _box(x, y, 0.3, 1.0))


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(np.hypot(x + 0.2, y) - 0.95, 0.75 - np.hypot(x - 0.25, y))


def _half_disc(x: Array, y: Array) -> Array:
    return np.maximum(np.hypot(x, y + 0.4) - 1.0, -0.4 - y)


def _arrow(x: Array, y: Array) -> Array:
    head = np.maximum(-0.1 - x, (x - 1.0) * np.float32(0.64) + np.abs(y) * np.float32(0.77))
    return np.minimum(head, _box(x + 0.5, y, 0.5, 0.28))


# Signed distance functions of points (x, y), in coordinates in which each shape fills about the unit circle.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "arrow": _arrow,
    "crescent": _crescent,
    "cross": _cross,
    "disc": _disc,
    "frame": _frame,
    "half_disc": _half_disc,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}


def draw(shape: str, count: int, image_size: int, seed: Sequence[int]) -> Iterator[Array]:
    """Draw images of one shape in chunks.

    Args:
        shape: key of `SHAPES`.
        count: number of images.
        image_size: H = W in pixels.
        seed: seed of these images; equal seeds give equal images.

    Yields:
        uint8 `(n, 3, H, W)`, `count` images in total.
    """
    random = np.random.default_rng(seed)
    axis = ((np.arange(image_size, dtype=np.float32) + 0.5) * 2 / image_size - 1).astype(np.float32)
    y, x = (plane[None] for plane in np.meshgrid(axis, axis, indexing="ij"))  # (1, H, W), from -1 to 1
    step = max(1, _CHUNK_PIXELS // image_size**2)
    for start in range(0, count, step):
        yield _draw_chunk(SHAPES[shape], min(step, count - start), x, y, random)


def _draw_chunk(
    shape: Callable[[Array, Array], Array], n: int, x: Array, y: Array, random: np.random.Generator
) -> Array:
    def uniform(low: float, high: float, *dimensions: int) -> Array:
        """One float32 draw per image and dimension, `(n, *dimensions, 1, 1)`, which broadcasts over `(H, W)`."""
        values = random.random((n, *dimensions, 1, 1), dtype=np.float32)
        return values * np.float32(high - low) + np.float32(low)

    pixel = np.float32(2 / x.shape[-1])

    background = uniform(0, 0.5, 3)
    image = background + _texture(x, y, uniform)
    _paint(image, _line(x, y, uniform) / pixel, uniform(0, 1, 3))

    # A shape is brighter than its background in all channels and rotated by at most 23 degrees. With arbitrary contrast
    # and rotation, a small network needs many epochs before its accuracy rises above chance.
    scale, angle = uniform(0.55, 0.85), uniform(-0.4, 0.4)
    dx, dy = (x - uniform(-0.3, 0.3)) / scale, (y - uniform(-0.3, 0.3)) / scale
    distance = shape(dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle))
    _paint(image, distance * scale / pixel, background + uniform(0.2, 0.5, 3) + _texture(x, y, uniform))
    image += random.standard_normal(image.shape, dtype=np.float32) * uniform(0.02, 0.2, 1)
    return (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def _texture(x: Array, y: Array, uniform: Callable[..., Array]) -> Array:
    """Linear gradient plus sine wave with random directions and colours, `(n, 3, H, W)`, centred on 0."""
    gradient_angle, wave_angle = uniform(0, 2 * np.pi), uniform(0, 2 * np.pi)
    gradient = x * np.cos(gradient_angle) + y * np.sin(gradient_angle)
    wave = np.sin((x * np.cos(wave_angle) + y * np.sin(wave_angle)) * uniform(4, 20) + uniform(0, 2 * np.pi))
    return gradient[:, None] * uniform(-0.2, 0.2, 3) + wave[:, None] * uniform(-0.06, 0.06, 3)


def _line(x: Array, y: Array, uniform: Callable[..., Array]) -> Array:
    """Signed distance to a thin line of random position, angle and length, `(n, H, W)`."""
    angle, half_length = uniform(0, np.pi), uniform(0.1, 0.8)
    dx, dy = x - uniform(-1, 1), y - uniform(-1, 1)
    along = np.abs(dx * np.cos(angle) + dy * np.sin(angle)) - half_length
    across = dy * np.cos(angle) - dx * np.sin(angle)
    return np.hypot(np.maximum(along, 0), across) - uniform(0.03, 0.1)


def _paint(image: Array, distance: Array, colour: Array) -> None:
    """Draw `colour` over `image` where `distance` (in pixels) is negative; the edge is one pixel wide."""
    mask = np.clip(np.float32(0.5) - distance, 0, 1)[:, None]
    image += (colour - image) * mask


class Shapes:
    """RGB images of ten classes of shapes on textured backgrounds, drawn in about a second.

    Args:
        image_size: H = W in pixels, at least 16.
        train, val, test: number of images per split; the labels cycle through the classes, so that these are balanced.
        seed: seed of the images; it is independent of the seed of the run, so that all runs see the same images.
        mean, std: mean and standard deviation of the training images per channel; None to compute them.
        flip: whether a mirrored image is a valid image; the augmentation reads it.

    Raises:
        UserError: if a split has fewer images than classes, or the images are too small to distinguish the shapes.
    """

    def __init__(
        self,
        image_size: int,
        train: int,
        val: int,
        test: int,
        seed: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        flip: bool,
    ) -> None:
        if image_size < 16:
            raise UserError(
                f"data.image_size={image_size} is too small to draw shapes: choose 16 pixels or more (data.image_size)"
            )
        self.counts = {"train": train, "val": val, "test": test}
        for split, count in self.counts.items():
            if count < len(SHAPES):
                raise UserError(
                    f"data.{split}={count} is less than one image for each of the {len(SHAPES)} classes: choose "
                    f"{len(SHAPES)} or more (data.{split})"
                )
        check_statistics(mean, std, channels=3)
        self.image_size = image_size
        self.seed = seed
        self.mean, self.std = mean, std
        self.flip = flip

    def spec(self) -> ImageSpec:
        """Specification of the images: three channels and ten classes."""
        return ImageSpec(channels=3, image_size=self.image_size, classes=tuple(SHAPES))

    def load(self) -> Splits:
        """Draw the three splits, each from a separate random stream."""
        train, val, test = (self._draw_split(number, name) for number, name in enumerate(self.counts))
        return Splits(train, val, test, *given_or_computed(self.mean, self.std, train.images, train.indices))

    def _draw_split(self, number: int, name: str) -> Split:
        count = self.counts[name]
        images = np.empty((count, 3, self.image_size, self.image_size), dtype=np.uint8)
        for label, shape in enumerate(SHAPES):
            rows = images[label :: len(SHAPES)]
            start = 0
            for chunk in draw(shape, len(rows), self.image_size, (self.seed, number, label)):
                rows[start : start + len(chunk)] = chunk
                start += len(chunk)
        return Split(
            images=torch.from_numpy(images),
            labels=torch.arange(count) % len(SHAPES),
            indices=torch.arange(count),
            names=[f"{name}/{row:05d}" for row in range(count)],
        )
