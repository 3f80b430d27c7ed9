"""`python -m convbench.apply_kernel image=FILE kernel=NAME`: convolve a picture with a kernel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from convbench.cli.main import run_command
from convbench.errors import UserError

# "Unboxing the blackbox: convolutions" (S4)
KERNELS: dict[str, list[list[float]]] = {
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "edge": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
}
_MAX_WEIGHT = 1e6  # the largest magnitude of a kernel's weights, so that float32 cannot overflow


def apply_kernel(config: DictConfig) -> None:
    """Convolve the picture with the kernel, write the result and print what was done."""
    name, kernel = named_kernel(config.kernel)
    source = Path(str(config.image))
    if not source.is_file():
        raise UserError(f"there is no picture {source}; give the path of one (image)")
    from convbench.diagnostics.picture import Picture  # imports PyTorch (seconds)

    picture = Picture.read(source)
    result, milliseconds = picture.filtered(kernel, config.implementation, config.padding_mode)
    folder = source.parent if config.output is None else Path(str(config.output))
    target = folder / f"{source.stem}_{name}.png"
    (picture.beside(result) if config.side_by_side else result).write(target)
    rows = " ".join(f"[{' '.join(f'{number:g}' for number in row)}]" for row in kernel)
    print(f"picture         {source}: {picture}")
    print(f"kernel          {name}: {rows}")
    print(f"implementation  {config.implementation}, {milliseconds:.2f} ms; padding {config.padding_mode}")
    print(f"written         {target}")


def named_kernel(given: Any) -> tuple[str, list[list[float]]]:
    """A kernel and its name, which becomes a part of the file name.

    Args:
        given: a name in `KERNELS`, or K_h rows of K_w numbers, whose name is their size such as `5x5`.

    Raises:
        UserError: for an unknown name, or for rows that are not of equal length or contain other values than numbers.
    """
    rows = OmegaConf.to_container(given) if isinstance(given, ListConfig) else given
    if isinstance(rows, list):
        if not _is_rectangle(rows):
            raise UserError(
                f"kernel={rows} must be rows of equally many numbers, none above {_MAX_WEIGHT:g} or below "
                f"{-_MAX_WEIGHT:g}, such as [[1,0,-1],[2,0,-2]] (kernel)"
            )
        return f"{len(rows)}x{len(rows[0])}", rows
    if rows not in KERNELS:
        raise UserError(
            f"there is no kernel {rows!r}; choose {', '.join(KERNELS)} or give rows of numbers, "
            "such as [[1,0,-1],[2,0,-2]] (kernel)"
        )
    return rows, KERNELS[rows]


def _is_rectangle(rows: Sequence[Any]) -> bool:
    return (
        all(isinstance(row, list) for row in rows)
        and len({len(row) for row in rows}) == 1
        and len(rows[0]) > 0
        and all(
            isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= _MAX_WEIGHT
            for row in rows
            for number in row
        )
    )


if __name__ == "__main__":
    run_command("apply_kernel", apply_kernel)
