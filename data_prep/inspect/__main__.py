"""A page that shows a corpus and lets one hear it: what a model will see and hear.

    python -m data_prep.inspect --config=configs/cnn2d.py --out=inspect/
    python -m data_prep.inspect --config=configs/cnn2d.py --config.corpus.name=ravdess \\
        --config.corpus.root=data/ravdess --out=inspect-ravdess/ --clips=5

--out gets index.html, which opens from disk, its pictures and audio, and inspect.json with every
number. A page that is there is replaced once the new one is whole.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from data_prep.inspect.inspection import inspect
from ser_jax.common import cli
from ser_jax.common.cli import exit_with_message


def main() -> None:
    """Reads flags of its own: launch.py has others of the same names."""
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", None, "A file of configs/.", flag_values=values, lock_config=True
    )
    out = flags.DEFINE_string("out", None, "The page's folder.", flag_values=values)
    clips = flags.DEFINE_integer(
        "clips", 3, "So many clips of each emotion to see and hear.", flag_values=values
    )
    flags.mark_flags_as_required(["config", "out"], flag_values=values)
    if {"--help", "-h"} & set(sys.argv):
        print(__doc__, *(f"--{name}: {values[name].help}" for name in values), sep="\n")
        return
    rest = cli.parser(values, config)(sys.argv)
    if rest[1:]:
        sys.exit(f"error: the argument {rest[1]!r} belongs to no flag; see --help.")
    exit_with_message(
        lambda: print(f"The page is {inspect(config.value, Path(out.value), clips.value)}.")
    )


if __name__ == "__main__":
    main()
