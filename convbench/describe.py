"""`python -m convbench.describe`: the layers and costs of a network, without training it."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from convbench.cli.main import run_command

if TYPE_CHECKING:
    from convbench.models.counting import Summary


def describe(config: DictConfig) -> None:
    """Print whether and why each convolution was replaced, a row for each layer, and the totals."""
    from convbench.experiment.composition import compose  # imports PyTorch (seconds)
    from convbench.terminal import table

    composition = compose(config)
    built, spec, summary = composition.built, composition.spec, composition.built.summary
    print(f"{built.name} for {spec.channels}x{spec.image_size}x{spec.image_size} images")
    if built.matched is not None:
        print(built.matched.summary(summary))
    print(f"{built.swap.summary()}\n")
    swap = [[row.name, row.description, row.status, row.reason] for row in built.swap.rows]
    print(table([["conv", "original layer", "", "why"], *swap], left=4))
    print("\nparameters: number of trainable parameters; MACs: multiply-accumulate operations for one image")
    if summary.uncounted:
        print(f"the MACs do not include {summary.uncounted}")
    print()
    print(table(_layer_rows(summary), left=2, has_total=True))


def _layer_rows(summary: "Summary") -> list[list[str]]:
    """The table of layers: a heading, the layers, and the totals."""
    rows = [["layer", "kind", "output CxHxW", "kernel", "parameters", "MACs"]]
    shape: tuple[int, ...] = ()
    for layer in summary.layers:
        # Layers without costs that keep the shape, such as ReLU and dropout, are left out.
        if layer.parameters or layer.macs or layer.kernel or layer.output_shape != shape:
            kernel = "" if layer.kernel is None else "x".join(map(str, layer.kernel))
            output = "x".join(map(str, layer.output_shape))
            rows.append([layer.name, layer.kind, output, kernel, f"{layer.parameters:,}", f"{layer.macs:,}"])
        shape = layer.output_shape
    return [*rows, ["total", "", "", "", f"{summary.parameters:,}", f"{summary.macs:,}"]]


if __name__ == "__main__":
    run_command("describe", describe)
