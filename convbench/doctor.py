"""`python -m convbench.doctor conv=NAME`: is a convolution what it says it is, and can one train with it?"""

import sys
import textwrap
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench import cli
from convbench.config import conv_name

_COLUMNS = 80


def doctor(config: DictConfig) -> None:
    """Examine a conv type and print a row for each finding; exits with 1 if any fails."""
    from hydra.core.hydra_config import HydraConfig

    from convbench.examine.examination import examine, summary  # PyTorch: seconds

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
    from convbench.convs.base import Conv2dBase
    from convbench.convs.factory import conv_class, conv_factory
    from convbench.examine.subject import Subject

    keys: Any = OmegaConf.to_container(config.conv, resolve=True)
    arguments = {key: value for key, value in keys.items() if key not in ("_target_", "skip", "unsupported")}
    factory, kind = conv_factory(keys["_target_"], **arguments), conv_class(keys["_target_"])
    if not issubclass(kind, Conv2dBase):
        return Subject(name, factory, "", (), config.seed)
    implementation = arguments.get("implementation", kind.counted_as)  # its key may have been taken away
    return Subject(name, factory, implementation, tuple(kind.implementations), config.seed)


if __name__ == "__main__":
    cli.run("doctor", doctor)
