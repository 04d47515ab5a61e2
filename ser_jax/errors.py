"""The exceptions whose text is meant for the user."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The text is one sentence: which file or key, what is wrong, what to do."""

    exit_code = 1


class Interrupted(UserError):  # noqa: N818 — it is no error
    """The user stopped the run, and everything is saved."""

    exit_code = 130  # as the shell counts Ctrl-C


def exit_with_message(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits; a UserError becomes one line on stderr and its exit code."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
