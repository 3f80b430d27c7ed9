"""`python -m convbench.bench suite=layers`: measure what is fast, instead of believing it."""

from pathlib import Path

from omegaconf import DictConfig

from convbench import cli


def bench(config: DictConfig) -> None:
    """Measure a suite, print its table, and write everything to a folder."""
    folder = Path(config.output)
    if config.suite == "layers":
        from convbench.timing.suite_layers import run_layers  # PyTorch: seconds

        run_layers(config, folder)
    else:
        from convbench.timing.suite_loop import run_loop

        run_loop(config, folder)
    print(f"everything is in {folder}")


if __name__ == "__main__":
    cli.run("bench", bench)
