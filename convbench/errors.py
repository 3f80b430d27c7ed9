"""Exception for errors that the user can correct, one-line descriptions of all errors, and exit codes."""

from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the commands, other than 0 for success."""

    FAILED = 1
    USER_ERROR = 2
    SWEEP_FAILED = 3  # some jobs of a sweep have not finished
    INTERRUPTED = 130


class UserError(ValueError):
    """Invalid configuration, file or folder, which the user can correct.

    The message is one sentence: what was given, what is allowed, and which key to change. The command line prints it
    without a traceback and exits with code 2; any other exception is a failure and exits with code 1.
    """


def find_user_error(error: BaseException | None) -> UserError | None:
    """First `UserError` in a chain of causes, or None; Hydra wraps the exceptions of constructors."""
    return next((link for link in causes(error) if isinstance(link, UserError)), None)


def reason(error: BaseException) -> str:
    """Describe the cause of a failure in one line."""
    user_error = find_user_error(error)
    if user_error is not None:
        return str(user_error)
    message = (str(error).strip() or "no message").splitlines()[0]
    # PyTorch raises OutOfMemoryError only on a GPU; on the CPU it raises a RuntimeError with one of these messages.
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_memory or "not enough memory" in message or "can't allocate memory" in message:
        return f"out of memory: {message}; a smaller batch_size needs less memory, and so does engine.accumulate=2"
    return f"{type(error).__name__}: {message}"


def first_cause(error: BaseException) -> str:
    """Describe the original error of a chain in one line; PyTorch's compiler wraps errors several times."""
    *_, first = causes(error)
    return reason(first)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the error that caused it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
