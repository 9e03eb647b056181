"""The one exception that a user can cause, and mend."""


class MinidalleError(Exception):
    """A fault that the user can mend: one line that names the cause, the file and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """
