"""Checks of constructor arguments that several networks share."""

from collections.abc import Sequence

from convbench.errors import UserError


def checked_widths(network: str, widths: Sequence[int] | None, default: Sequence[int]) -> tuple[int, ...]:
    """Return the given channels of each stage, or the default if they are None.

    Args:
        network: Name of the network in the error message.
        widths: Number of channels of each stage, or None.
        default: Default number of channels of each stage.

    Raises:
        UserError: The number of widths is not the number of stages, or a width is below 1.
    """
    chosen = tuple(default if widths is None else widths)
    if len(chosen) != len(default) or any(width < 1 for width in chosen):
        raise UserError(f"widths {list(chosen)} must be {len(default)} positive numbers for {network} (model.widths)")
    return chosen


def check_dropout(dropout: float) -> None:
    """Check that the dropout probability is at least 0 and below 1.

    Raises:
        UserError: The probability is out of range.
    """
    if not 0 <= dropout < 1:
        raise UserError(f"dropout {dropout} is out of range: choose a number of at least 0 and below 1 (model.dropout)")


def check_image_size(network: str, image_size: int, least: int) -> None:
    """Check that the feature maps before the linear layers have at least one pixel.

    Args:
        network: Name of the network in the error message.
        image_size: Height and width of the images in pixels.
        least: Smallest height and width that the network supports.

    Raises:
        UserError: The images are too small.
    """
    if image_size < least:
        raise UserError(
            f"images of {image_size}x{image_size} are too small for {network}, which needs at least {least}x{least}: "
            f"choose another network or larger images (data.image_size)"
        )
