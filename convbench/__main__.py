"""`python -m convbench` and the console script `convbench`: list the commands, or run one of them."""

import os
import subprocess
import sys

COMMANDS = {
    "train": "train a network with a swapped convolution; with -m a sweep of many",
    "describe": "layers and costs of a network, without training it",
    "doctor": "check that a convolution is correct and can be trained",
    "evaluate": "test scores and predictions of a trained network",
    "compare": "a report on runs: tables, charts and significant differences",
    "runs": "list, show and remove run folders",
    "bench": "measure implementations of convolutions and training loops",
    "apply_kernel": "convolve a picture with a kernel",
}

_PAGE = """\
convbench - swap the convolution, keep everything else equal, and measure

  convbench COMMAND ...     or     python -m convbench.COMMAND ...

{commands}

A first run, less than a minute on two CPU cores:
  convbench train conv=weighted_sum epochs=3

The options of a command:   convbench COMMAND --help
The Python interface:   docs/python.md
"""


def main() -> None:
    """Print the list of commands, or run a command as `python -m convbench.COMMAND` does."""
    command, *words = sys.argv[1:] or ["--help"]
    if command in ("--help", "-h", "help"):
        width = max(map(len, COMMANDS))
        print(_PAGE.format(commands="\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())), end="")
    elif command in COMMANDS:
        # Run the command as the main module, because the launchers of sweeps find the function of a job by its name.
        line = [sys.executable, "-m", f"convbench.{command}", *words]
        if os.name == "posix":
            os.execv(line[0], line)
        sys.exit(subprocess.run(line, check=False).returncode)
    else:
        names = ", ".join(COMMANDS)
        print(f"error: there is no command {command}: choose {names}, or --help", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
