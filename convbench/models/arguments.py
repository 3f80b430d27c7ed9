"""What the constructors of all networks check, with the same words."""

from collections.abc import Sequence

from convbench.errors import UserError


def checked_widths(network: str, widths: Sequence[int] | None, default: Sequence[int]) -> tuple[int, ...]:
    """The channels of each stage: those given, or the network's own.

    Raises:
        UserError: if there are not as many as stages, or one is below 1.
    """
    chosen = tuple(default if widths is None else widths)
    if len(chosen) != len(default) or any(width < 1 for width in chosen):
        raise UserError(f"widths {list(chosen)} must be {len(default)} positive numbers for {network} (model.widths)")
    return chosen


def check_dropout(dropout: float) -> None:
    """See that it is a probability below 1.

    Raises:
        UserError: if it is not.
    """
    if not 0 <= dropout < 1:
        raise UserError(f"a dropout of {dropout} is out of range: give at least 0 and below 1 (model.dropout)")


def check_image_size(network: str, image_size: int, least: int) -> None:
    """See that something is left of the image before the linear layers.

    Raises:
        UserError: if nothing is.
    """
    if image_size < least:
        raise UserError(
            f"images of {image_size}x{image_size} are too small for {network}, which needs at least {least}x{least}: "
            f"give a larger data.image_size, or another model"
        )
