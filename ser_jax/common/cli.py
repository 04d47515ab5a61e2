"""How programs that take a config read their flags."""

import io
import sys
from collections.abc import Callable
from typing import Any

from ser_jax.common.errors import Interrupted, UserError


def parser(flag_values: Any, config: Any) -> Callable[[list[str]], list[str]]:
    """absl's parser, quiet (--verbosity=0 undoes it), with a sentence in place of a traceback.

    Args:
      flag_values: absl's flags.FLAGS, or a program's own.
      config: the flag of the config, which is locked.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            quiet = ["--verbosity=-1"] if "verbosity" in flag_values else []
            arguments = flag_values([argv[0], *quiet, *argv[1:]])
            config.value.lock()  # a config file that is missing shows only now
            return arguments
        except Exception as error:  # absl and ml_collections raise nearly every kind
            line = str(error).replace("\\n", "\n").splitlines()[-1].strip()
            line = line.removeprefix("ValueError: ")
            sys.exit("error: " + (line.rstrip("'\"\\") if line.count("'") % 2 else line))

    return parse


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
