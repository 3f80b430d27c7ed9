"""`python -m convbench.describe`: what a network is made of and what it costs; trains nothing."""

from omegaconf import DictConfig

from convbench import cli
from convbench.config import check


def describe(config: DictConfig) -> None:
    """Print a row for each layer, and the totals."""
    check(config)
    from convbench.build import compose  # PyTorch: seconds
    from convbench.count import Layer
    from convbench.report.table import table

    composition = compose(config)
    summary, spec = composition.summary, composition.spec

    def cells(layer: Layer) -> list[str]:
        kernel = "" if layer.kernel is None else "x".join(map(str, layer.kernel))
        shape = "x".join(map(str, layer.output_shape))
        return [layer.name, layer.kind, shape, kernel, f"{layer.parameters:,}", f"{layer.macs:,}"]

    rows = [["layer", "kind", "output CxHxW", "kernel", "parameters", "MACs"]]
    # a ReLU or a dropout has nothing to tell
    rows += [cells(layer) for layer in summary.layers if layer.parameters or layer.macs or layer.kernel]
    rows += [["total", "", "", "", f"{summary.parameters:,}", f"{summary.macs:,}"]]
    print(f"{composition.model} for {spec.channels}x{spec.image_size}x{spec.image_size} images")
    print(composition.swap.summary())
    print("parameters: trainable numbers; MACs: multiply-accumulate operations for one image\n")
    print(table(rows, left=2, has_total=True))


if __name__ == "__main__":
    cli.run("describe", describe)
