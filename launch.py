"""Prepare, train, evaluate, report: the main job and each of its parts.

python launch.py --config=configs/cnn2d.py
python launch.py --config=configs/cnn2d.py --mode=prepare
python launch.py --config=configs/cnn1d.py --config.optimizer.learning_rate=3e-4 --workdir=runs/mine
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from ser_jax.errors import exit_with_message

MODES = ("all", "prepare", "train", "evaluate", "report")

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; runs/<config>-<protocol>.")
MODE = flags.DEFINE_enum("mode", "all", MODES, "One part of the job, or all of it.")
flags.mark_flag_as_required("config")


def parse(argv: list[str]) -> list[str]:
    """absl's parser, quiet (--verbosity=0 undoes it), with a sentence in place of a traceback."""
    try:
        arguments = flags.FLAGS([argv[0], "--verbosity=-1", *argv[1:]])
        CONFIG.value.lock()  # a config file that is missing shows only now
        return arguments
    except Exception as error:  # absl and ml_collections raise nearly every kind
        line = str(error).replace("\\n", "\n").splitlines()[-1].strip().removeprefix("ValueError: ")
        sys.exit("error: " + (line.rstrip("'\"\\") if line.count("'") % 2 else line))


def main(argv: list[str]) -> None:
    """Runs what --mode asks for. Imports wait for it, so that --help is quick."""
    if argv[1:]:
        sys.exit(f"error: the argument {argv[1]!r} belongs to no flag; see --help.")
    config, mode = CONFIG.value, MODE.value
    workdir = Path(WORKDIR.value or f"runs/{config.name}-{config.split.name}")
    if mode != "report":
        from data_prep.prepare import prepare

        records = prepare(config)
    if mode in ("all", "train"):
        from ser_jax.train import train

        train(config, records, workdir)
    if mode in ("all", "evaluate"):
        from ser_jax.evaluate import evaluate

        evaluate(config, records, workdir)
    if mode in ("all", "report"):
        from ser_jax.report import write

        print(f"The report is {write(workdir)}.")


if __name__ == "__main__":
    app.run(lambda argv: exit_with_message(lambda: main(argv)), flags_parser=parse)
