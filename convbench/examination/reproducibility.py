"""Saving and copying of weights, determinism, and the memory format channels_last."""

import copy
import io
import pickle
from collections.abc import Iterator

import torch

from convbench.examination.subject import Finding, Subject, difference, run, sizes


def state(subject: Subject) -> Iterator[Finding]:
    """Save and load, copy, and pickle a convolution: every result must have bitwise equal outputs."""
    conv, x = subject.make(), subject.images()
    with torch.no_grad():
        for parameter in conv.parameters():
            # The convolution that loads the weights is initialised with the same seed, so they have to change.
            parameter.add_(0.01 * torch.ones_like(parameter))
    conv.eval()
    expected = conv(x)
    file = io.BytesIO()
    torch.save(conv.state_dict(), file)
    file.seek(0)
    loaded = subject.make().eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = {"loaded": loaded, "copied": copy.deepcopy(conv), "pickled": pickle.loads(pickle.dumps(conv))}
    wrong = [how for how, other in copies.items() if not torch.equal(other(x), expected)]
    text = (
        f"outputs change when {' and '.join(wrong)}" if wrong else "outputs bitwise equal when saved, copied or pickled"
    )
    yield Finding("state_dict", "FAIL" if wrong else "PASS", text)


def determinism(subject: Subject) -> Iterator[Finding]:
    """Run the same input twice: outputs and gradients should be bitwise equal."""
    conv, x = subject.make(), subject.images()
    (y, gradients), (again, gradients_again) = run(conv, x), run(conv, x)
    is_equal = torch.equal(y, again) and all(torch.equal(gradients[key], gradients_again[key]) for key in gradients)
    text = f"a second run of the same input is {'' if is_equal else 'not '}bitwise equal"
    yield Finding("determinism", "PASS" if is_equal else "WARN", text)


def channels_last(subject: Subject) -> Iterator[Finding]:
    """Compare results in channels_last and channels_first; channels_last inputs should give channels_last outputs."""
    conv, x = subject.make(dtype=torch.float64), subject.images(dtype=torch.float64)
    expected, scale = run(conv, x), sizes(conv, x)
    conv.to(memory_format=torch.channels_last)
    got = run(conv, x.to(memory_format=torch.channels_last))
    if not difference(got, expected, scale) < 1e-10:
        yield Finding("channels_last", "FAIL", "results differ from those in channels_first")
    elif not got[0].is_contiguous(memory_format=torch.channels_last):
        yield Finding(
            "channels_last", "WARN", "results are equal, but the output is channels_first: the next layer copies it"
        )
    else:
        yield Finding("channels_last", "PASS", "results are equal, and the output is channels_last")
