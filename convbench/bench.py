"""`python -m convbench.bench suite=layers`: measure what is fast, instead of believing it."""

from pathlib import Path

from omegaconf import DictConfig

from convbench.cli.main import run_command


def bench(config: DictConfig) -> None:
    """Measure a suite, print its table, and write everything to a folder."""
    folder = Path(config.output)
    if config.suite == "layers":
        from convbench.benchmarks.layers_suite import run_layers  # PyTorch: seconds

        run_layers(config, folder)
    else:
        from convbench.benchmarks.loop_suite import run_loop

        run_loop(config, folder)
    print(f"everything is in {folder}")


if __name__ == "__main__":
    run_command("bench", bench)
