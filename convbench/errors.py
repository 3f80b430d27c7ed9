"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A configuration, file or folder that cannot work as given.

    The message is one sentence for a person: what was given, what is allowed, which key to change. The command line
    prints it without a traceback and exits with 2; any other exception is a failure and exits with 1.
    """
