"""`python -m convbench.describe`: what a network is made of and what it costs; trains nothing."""

from omegaconf import DictConfig

from convbench.cli.main import run_command


def describe(config: DictConfig) -> None:
    """Print what became of each convolution of the plain network, a row for each layer, and the totals."""
    from convbench.experiment.composition import compose  # PyTorch: seconds
    from convbench.models.counting import Layer
    from convbench.terminal import table

    composition = compose(config)
    summary, spec = composition.built.summary, composition.spec

    def cells(layer: Layer) -> list[str]:
        kernel = "" if layer.kernel is None else "x".join(map(str, layer.kernel))
        output = "x".join(map(str, layer.output_shape))
        return [layer.name, layer.kind, output, kernel, f"{layer.parameters:,}", f"{layer.macs:,}"]

    rows = [["layer", "kind", "output CxHxW", "kernel", "parameters", "MACs"]]
    shape: tuple[int, ...] = ()
    for layer in summary.layers:  # a ReLU or a dropout has nothing to tell
        if layer.parameters or layer.macs or layer.kernel or layer.output_shape != shape:
            rows.append(cells(layer))
        shape = layer.output_shape
    rows += [["total", "", "", "", f"{summary.parameters:,}", f"{summary.macs:,}"]]
    print(f"{composition.built.name} for {spec.channels}x{spec.image_size}x{spec.image_size} images")
    if composition.built.matched is not None:
        print(composition.built.matched.summary(summary))
    print(f"{composition.built.swap.summary()}\n")
    swap = [[row.name, row.description, row.status, row.reason] for row in composition.built.swap.rows]
    print(table([["conv", "of the plain network", "", "why"], *swap], left=4))
    print("\nparameters: trainable numbers; MACs: multiply-accumulate operations for one image")
    if summary.uncounted:
        print(f"not counted: {summary.uncounted}")
    print()
    print(table(rows, left=2, has_total=True))


if __name__ == "__main__":
    run_command("describe", describe)
