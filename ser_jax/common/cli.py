"""How programs that take a config read their flags."""

import sys
from collections.abc import Callable
from typing import Any


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
