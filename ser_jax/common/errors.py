"""The exceptions whose text is meant for the user."""

import io
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The text is one sentence: which file or key, what is wrong, what to do."""

    exit_code = 1


class Interrupted(UserError):  # noqa: N818 — it is no error
    """The user stopped the run, and everything is saved."""

    exit_code = 130  # as the shell counts Ctrl-C


def exit_with_message(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits; what the user can mend becomes one line on stderr and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be bytes that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except UserError as error:
        message, code = str(error), error.exit_code
    except OSError as error:  # a full disk, missing rights: the system's own words and the file
        message, code = str(error), UserError.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted; nothing half written is left.", Interrupted.exit_code
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
