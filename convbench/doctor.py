"""`python -m convbench.doctor conv=NAME`: check that a convolution is implemented correctly and can be trained."""

import sys
import textwrap
from typing import Any

from omegaconf import DictConfig

from convbench.cli.main import run_command
from convbench.config.naming import conv_name
from convbench.config.options import plain_values

_COLUMNS = 80


def doctor(config: DictConfig) -> None:
    """Examine a convolution and print a row for each finding; exits with code 1 if an examination fails."""
    from hydra.core.hydra_config import HydraConfig

    from convbench.examination.suite import examine, summary  # imports PyTorch (seconds)

    subject = _subject(config, conv_name(config, HydraConfig.get().runtime.choices["conv"]))
    findings = []
    for finding in examine(subject):
        findings.append(finding)
        head = f"{finding.verdict}  {finding.name:<16}  "
        print(textwrap.fill(finding.text, _COLUMNS, initial_indent=head, subsequent_indent=" " * len(head)), flush=True)
    print(f"\n{subject.name}: {summary(findings)}")
    if any(finding.verdict == "FAIL" for finding in findings):
        sys.exit(1)


def _subject(config: DictConfig, name: str) -> Any:
    """The convolution to examine, with all of its implementations if it is one of the built-in types."""
    from convbench.convs.base import Conv2dBase
    from convbench.convs.factory import ConvOption, conv_class
    from convbench.examination.subject import Subject

    option = ConvOption.of(plain_values(config.conv))
    kind = conv_class(option.target)
    if not issubclass(kind, Conv2dBase):
        return Subject(name, option.factory, "", (), config.seed)
    # The user may have removed the key `conv.implementation`.
    implementation = option.arguments.get("implementation", kind.reference_implementation)
    return Subject(name, option.factory, implementation, tuple(kind.implementations), config.seed)


if __name__ == "__main__":
    run_command("doctor", doctor)
