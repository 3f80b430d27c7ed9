"""`python -m convbench.compare FOLDER...`: a report on runs, with statistical tests of the differences."""

from pathlib import Path

from omegaconf import DictConfig

from convbench.cli.main import run_command


def compare(config: DictConfig) -> None:
    """Read run folders and write the report."""
    # These modules import scipy and matplotlib, which takes a second that --help does not need.
    from convbench.report.settings import settings_of
    from convbench.report.writing import write_report

    folders = [Path(folder) for folder in config.folders]
    output = Path(config.output or (folders[0] / "report" if len(folders) == 1 else Path("outputs") / "report"))
    print(write_report(folders, output, settings_of(config)))


if __name__ == "__main__":
    run_command("compare", compare, folders_key="folders")
