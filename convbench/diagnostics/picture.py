"""Images as tensors: reading a file, convolution with a kernel, and writing a PNG file."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convbench.convs.base import PADDING_MODES, one_of
from convbench.convs.from_scratch import LOOPS_LIMIT, FromScratchConv2d
from convbench.convs.standard import StandardConv2d
from convbench.data.pixels import PixelError, Pixels
from convbench.errors import UserError
from convbench.files import atomic_path

_CONVS = dict.fromkeys(FromScratchConv2d.implementations, FromScratchConv2d) | {"library": StandardConv2d}


@dataclass(frozen=True)
class Picture:
    """An image as a tensor, with its transparency and colour profile.

    Attributes:
        colours: Pixel values from 0 to `top`, float32 `(C, H, W)`; C is 1 for grey and 3 for RGB.
        alpha: Opacity, uint8 `(H, W)`, or None for an opaque image.
        top: Largest pixel value: 255, or 65535 for an opaque grey image of 9 to 16 bits.
        profile: ICC colour profile of the file, or None.
    """

    colours: Tensor
    alpha: np.ndarray | None = None
    top: int = 255
    profile: bytes | None = None

    def __str__(self) -> str:
        channels, height, width = self.colours.shape
        kind = ("grey" if channels == 1 else "RGB") + ("" if self.alpha is None else " with alpha")
        return f"{width}x{height} pixels, {kind}, {8 if self.top == 255 else 16} bits"

    @classmethod
    def read(cls, path: Path) -> "Picture":
        """Decode a file and apply its orientation; palettes and other colour spaces are converted to RGB.

        Raises:
            UserError: The file is not an image, or its pixel values have no defined black and white.
        """
        try:
            pixels = Pixels.read(path)
            if pixels.is_deep and not pixels.has_transparency:
                grey = np.rint(65535 * pixels.to_unit_range()).astype(np.float32)
                return cls(torch.from_numpy(grey)[None], top=65535)
            image = pixels.in_8_bits()
        except PixelError as error:
            raise UserError(f"{path} {error}: save it with 8 or 16 bits (image)") from error
        except Exception as error:  # image readers raise many types: OSError, SyntaxError, struct.error
            raise UserError(f"cannot read {path} as an image ({error}): give another file (image)") from error
        is_converted = pixels.image.mode in ("CMYK", "LAB")
        profile = None if is_converted else image.info.get("icc_profile")
        planes = _planes(image)
        if image.mode in ("L", "RGB"):
            return cls(planes, profile=profile)
        return cls(planes[:-1], planes[-1].byte().numpy(), profile=profile)

    def filtered(
        self, kernel: Sequence[Sequence[float]], implementation: str, padding_mode: str
    ) -> tuple["Picture", float]:
        """Convolve each colour channel with a kernel, then round and clip the result to the range of pixel values.

        The image keeps its size. The kernel is not flipped, as in `nn.Conv2d` (cross-correlation).

        Args:
            kernel: K_h rows of K_w numbers.
            implementation: An implementation of `from_scratch`, or `library` for PyTorch's convolution.
            padding_mode: Padding beyond the border: `reflect`, `replicate`, `circular` or `zeros`.

        Returns:
            The filtered image with the same alpha, and the time of the convolution after a warmup call, in
            milliseconds.

        Raises:
            UserError: The implementation or the padding does not exist, or does not support the image and the kernel.
        """
        weight = torch.tensor(kernel, dtype=torch.float32)
        self._check(weight, implementation, padding_mode)
        channels = self.colours.shape[0]
        conv = _CONVS[implementation](
            channels,
            channels,
            tuple(weight.shape),
            padding="same",
            groups=channels,
            bias=False,
            padding_mode=padding_mode,
            implementation=implementation,
        )
        with torch.inference_mode():
            conv.weight.copy_(weight.expand_as(conv.weight))
            conv(self.colours[None])
            start = time.perf_counter()
            result = conv(self.colours[None])[0]
            milliseconds = 1000 * (time.perf_counter() - start)
            return replace(self, colours=result.round().clamp(0, self.top)), milliseconds

    def beside(self, other: "Picture") -> "Picture":
        """This image on the left of another one of the same size and type."""
        alpha = None if self.alpha is None or other.alpha is None else np.hstack([self.alpha, other.alpha])
        return replace(self, colours=torch.cat([self.colours, other.colours], 2), alpha=alpha)

    def write(self, path: Path) -> None:
        """Write a PNG file.

        Raises:
            UserError: The file cannot be written.
        """
        pixels = self.colours.numpy().astype(np.uint8 if self.top == 255 else np.uint16)
        planes = [*pixels] if self.alpha is None else [*pixels, self.alpha]
        image = Image.fromarray(planes[0] if len(planes) == 1 else np.dstack(planes))
        try:
            with atomic_path(path) as temporary:
                image.save(temporary, format="PNG", icc_profile=self.profile)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror or error}): give another folder (output)") from error

    def _check(self, weight: Tensor, implementation: str, padding_mode: str) -> None:
        if implementation not in _CONVS:
            raise UserError(f"there is no implementation {implementation!r}; choose {one_of(_CONVS)} (implementation)")
        if padding_mode not in PADDING_MODES:
            raise UserError(f"there is no padding {padding_mode!r}; choose {one_of(PADDING_MODES)} (padding_mode)")
        (height, width), (kh, kw) = self.colours.shape[1:], weight.shape
        # The padding of these modes comes from the image, so it must be smaller than the image.
        fits = kh // 2 < height and kw // 2 < width
        if padding_mode in ("reflect", "circular") and not fits:
            raise UserError(
                f"a {kh}x{kw} kernel is too large for an image of {width}x{height} pixels with padding_mode "
                f"{padding_mode}; choose zeros or replicate (padding_mode)"
            )
        products = self.colours.numel() * weight.numel()
        if implementation == "loops" and products > LOOPS_LIMIT:
            others = one_of(name for name in _CONVS if name != "loops")
            raise UserError(
                f"loops would take {products:,} multiplications for {self}, but only {LOOPS_LIMIT:,} are allowed; "
                f"choose {others} or a smaller image (implementation)"
            )


def _planes(image: Image.Image) -> Tensor:
    """The pixels of an 8-bit image, float32 `(C, H, W)`."""
    pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    return torch.from_numpy(pixels.astype(np.float32))
