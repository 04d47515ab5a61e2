"""Command lines: errors as one line on stderr, and flags of programs that take a config."""

import contextlib
import io
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ser_jax.common import interrupts
from ser_jax.common.config import expand_home, unknown
from ser_jax.common.errors import Interrupted, UserError

_EXAMPLE = "--config=configs/cnn2d.py"


def exit_with_message(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its code; an error that the user can fix is one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name need not be valid UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with interrupts.never_lost():
            code = main()
        sys.exit(code)
    except UserError as error:
        message, code = str(error), error.exit_code
    except OSError as error:  # such as a full disk or missing rights; the text names the file
        message, code = str(error), UserError.exit_code
    except KeyboardInterrupt as stop:
        print(
            f"error: {str(stop) or 'interrupted; no file is left half written.'}", file=sys.stderr
        )
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(Interrupted.exit_code)  # sys.exit would wait for the threads of pools
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def program(module: str) -> str:
    """Return what the user typed to start a command: its script, or python -m with its module."""
    script = Path(sys.argv[0]).name
    return script if script.startswith("ser-") else f"python -m {module}"


def path_flag(text: str) -> Path:
    """Convert an argument to a path; "~" is the home folder also in --out=~/x, unlike in shells."""
    return Path(os.path.expanduser(text))


def parser(flag_values: Any, config: Any) -> Callable[[list[str]], list[str]]:
    """Return absl's flag parser, with a one-line error in place of a traceback.

    It locks the config flag's value, and turns absl's logs off unless --verbosity=0 is given.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            quiet = ["--verbosity=-1"] if "verbosity" in flag_values else []
            arguments = flag_values([argv[0], *quiet, *argv[1:]])
            config.value.lock()  # raises if the config file is missing
            expand_home(config.value)
            return arguments
        except Exception as error:  # absl and ml_collections raise many types
            file = _config_file(argv)
            if not file:
                sys.exit(f"error: give a config as {_EXAMPLE}; configs/ has them all.")
            if not Path(file.split(":")[0]).exists():
                sys.exit(f"error: there is no config {file}; give one such as {_EXAMPLE}.")
            if reason := _unknown_key(argv, type(flag_values)()):
                sys.exit(f"error: {reason}")
            line = str(error).replace("\\n", "\n").splitlines()[-1].strip()
            line = line.removeprefix("ValueError: ")
            sys.exit("error: " + (line.rstrip("'\"\\") if line.count("'") % 2 else line))

    return parse


def _config_file(argv: list[str]) -> str:
    """Return the value of the last --config=FILE, or --config FILE; "" if there is none."""
    file = ""
    for argument, following in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            file = value if equals else following
    return file


def _unknown_key(argv: list[str], values: Any) -> str:
    """Return a sentence on the first --config.KEY that the config file lacks; "" if there is none.

    ml_collections names neither the section nor, for a section, the key. `values` are new flags.
    """
    from ml_collections import config_flags

    file = [argv[0], f"--config={_config_file(argv)}"]
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=file)
    try:
        values(file)
        settings = config.value.to_dict()
    except Exception:  # the file itself is wrong, which the original error says
        return ""
    given = (a.lstrip("-").split("=")[0] for a in argv[1:] if a.startswith("-"))
    keys = (name.removeprefix("config.") for name in given if name.startswith("config."))
    return next(filter(None, (unknown(key, settings) for key in keys)), "")
