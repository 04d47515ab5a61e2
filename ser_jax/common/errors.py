"""The exceptions whose text is meant for the user."""


class UserError(Exception):
    """Bad input. The text is one sentence: which file or key, what is wrong, what to do."""

    exit_code = 1


class Interrupted(UserError):  # noqa: N818 — it is no error
    """The user stopped the run, and everything is saved."""

    exit_code = 130  # as the shell counts Ctrl-C
