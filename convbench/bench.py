"""`python -m convbench.bench suite=layers`: measure the speed of convolutions or of training loops."""

from pathlib import Path

from omegaconf import DictConfig

from convbench.cli.main import run_command


def bench(config: DictConfig) -> None:
    """Run a suite of measurements, print its table, and write the results to a folder."""
    folder = Path(config.output)
    if config.suite == "layers":
        from convbench.benchmarks.layers_suite import run_layers  # imports PyTorch (seconds)

        run_layers(config, folder)
    else:
        from convbench.benchmarks.loop_suite import run_loop

        run_loop(config, folder)
    print(f"everything is in {folder}")


if __name__ == "__main__":
    run_command("bench", bench)
