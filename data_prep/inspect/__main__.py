"""Write a page to see and hear a corpus.

    python -m data_prep.inspect --config=configs/cnn2d.py --out=inspect/
    python -m data_prep.inspect --config=configs/cnn2d.py --config.corpus.name=ravdess \\
        --config.corpus.root=data/ravdess --out=inspect-ravdess/ --clips=5

--out receives index.html, which opens from disk, its pictures and audio, and inspect.json with all
numbers. An older page is replaced once the new one is complete.
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ser_jax.common import cli


def main() -> None:
    # Not the global flags: those of launch.py have the same names.
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", None, "A file in configs/.", flag_values=values, lock_config=True
    )
    out = flags.DEFINE_string("out", None, "The folder of the page.", flag_values=values)
    clips = flags.DEFINE_integer(
        "clips", 3, "Clips per emotion to see and hear.", flag_values=values
    )
    flags.mark_flags_as_required(["config", "out"], flag_values=values)
    if {"--help", "-h"} & set(sys.argv):
        print(__doc__, *(f"--{name}: {values[name].help}" for name in values), sep="\n")
        return
    rest = cli.parser(values, config)(sys.argv)
    if rest[1:]:
        sys.exit(f"error: the argument {rest[1]!r} is not a flag; see --help.")

    def write() -> None:
        from data_prep.inspect.inspection import inspect  # only now: --help is quick

        print(f"The page is {inspect(config.value, Path(out.value), clips.value)}.")

    cli.exit_with_message(write)


if __name__ == "__main__":
    main()
