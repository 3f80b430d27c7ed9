"""The exception that means that a user can mend the cause; what is said of any other; exit codes."""

from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """With which codes the commands end, beside 0 for done."""

    FAILED = 1
    USER_ERROR = 2
    SWEEP_FAILED = 3  # a sweep of which some jobs have not finished
    INTERRUPTED = 130


class UserError(ValueError):
    """A configuration, file or folder that cannot work as given.

    The message is one sentence for a person: what was given, what is allowed, which key to change. The command line
    prints it without a traceback and exits with 2; any other exception is a failure and exits with 1.
    """


def find_user_error(error: BaseException | None) -> UserError | None:
    """The `UserError` in a chain of causes (Hydra wraps what a constructor raises), or None."""
    return next((link for link in causes(error) if isinstance(link, UserError)), None)


def reason(error: BaseException) -> str:
    """Why a run failed, in a line."""
    mendable = find_user_error(error)
    if mendable is not None:
        return str(mendable)
    said = (str(error).strip() or "no message").splitlines()[0]
    # PyTorch has a class of its own for this on a GPU only
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_memory or "not enough memory" in said or "can't allocate memory" in said:
        return f"out of memory: {said}; a smaller batch_size needs less, and so does engine.accumulate=2"
    return f"{type(error).__name__}: {said}"


def first_cause(error: BaseException) -> str:
    """What began a chain of errors, in a line: PyTorch's compiler wraps what went wrong several times."""
    *_, first = causes(error)
    return reason(first)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
