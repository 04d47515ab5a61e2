"""Exceptions whose text is shown to the user."""


class UserError(Exception):
    """Bad input. The text is one sentence: which file or key, what is wrong, how to fix it."""

    exit_code = 1


class Interrupted(UserError):  # noqa: N818 — not an error
    """The user stopped the run, and everything is saved."""

    exit_code = 130  # as shells report Ctrl-C
