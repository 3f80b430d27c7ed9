"""Whether the conv keeps its weights, its results and the memory format it is given."""

import copy
import io
import pickle
from collections.abc import Iterator

import torch

from convbench.examination.subject import Finding, Subject, difference, run, sizes


def state(subject: Subject) -> Iterator[Finding]:
    """Save, load into a conv with other values, copy and pickle: all have to compute the same bits."""
    conv, x = subject.make(), subject.images()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.add_(0.01 * torch.ones_like(parameter))  # so that nothing is as it was drawn
    conv.eval()
    wanted = conv(x)
    file = io.BytesIO()
    torch.save(conv.state_dict(), file)
    file.seek(0)
    loaded = subject.make().eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    others = {"loaded": loaded, "copied": copy.deepcopy(conv), "pickled": pickle.loads(pickle.dumps(conv))}
    wrong = [how for how, other in others.items() if not torch.equal(other(x), wanted)]
    text = f"computes otherwise when {' and '.join(wrong)}" if wrong else "saved, copied and pickled to the same bits"
    yield Finding("state_dict", "FAIL" if wrong else "PASS", text)


def determinism(subject: Subject) -> Iterator[Finding]:
    """The same input has to give the same bits."""
    conv, x = subject.make(), subject.images()
    (y, gradients), (again, gradients_again) = run(conv, x), run(conv, x)
    same = torch.equal(y, again) and all(torch.equal(gradients[key], gradients_again[key]) for key in gradients)
    text = "the same input gives the same bits" if same else "the same input gives other bits"
    yield Finding("determinism", "PASS" if same else "WARN", text)


def channels_last(subject: Subject) -> Iterator[Finding]:
    """Channels last in memory has to give the same results, and should come out as it went in."""
    conv, x = subject.make(dtype=torch.float64), subject.images(dtype=torch.float64)
    wanted, scale = run(conv, x), sizes(conv, x)
    conv.to(memory_format=torch.channels_last)
    got = run(conv, x.to(memory_format=torch.channels_last))
    if not difference(got, wanted, scale) < 1e-10:
        yield Finding("channels_last", "FAIL", "gives other results than channels first")
    elif not got[0].is_contiguous(memory_format=torch.channels_last):
        yield Finding("channels_last", "WARN", "same results, but channels first comes out: a copy for the next layer")
    else:
        yield Finding("channels_last", "PASS", "same results, and channels last comes out")
