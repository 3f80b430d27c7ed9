"""Subjects of examinations for tests."""

from collections.abc import Iterable

from torch import nn

from convbench.config.options import load_option, plain_values
from convbench.convs.base import Conv2dBase
from convbench.convs.factory import ConvOption, conv_class, conv_factory
from convbench.examination.subject import Finding, Subject


def subject_of(kind: type[nn.Module]) -> Subject:
    """The subject for a class of convolutions, with its reference implementation."""
    if issubclass(kind, Conv2dBase):
        names = tuple(kind.implementations)
        return Subject(kind.__name__, conv_factory(kind), kind.reference_implementation, names)
    return Subject(kind.__name__, conv_factory(kind), "", ())


def subject_of_option(conv: str) -> Subject:
    """The subject for an option of the group `conv`."""
    option = ConvOption.of(plain_values(load_option("conv", conv, "conv")))
    kind = conv_class(option.target)
    assert issubclass(kind, Conv2dBase)
    return Subject(conv, option.factory, option.arguments["implementation"], tuple(kind.implementations))


def verdicts(findings: Iterable[Finding]) -> dict[str, str]:
    """The verdict of each examination, by its name."""
    return {finding.name: finding.verdict for finding in findings}
