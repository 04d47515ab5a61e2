"""Prepare, train, evaluate, report: the main job and each of its parts.

python launch.py --config=configs/cnn2d.py
python launch.py --config=configs/cnn2d.py --mode=prepare
python launch.py --config=configs/cnn1d.py --config.optimizer.learning_rate=3e-4 --workdir=runs/mine
python launch.py --config=configs/study.py
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from ser_jax.common import cli, runtime
from ser_jax.common.cli import exit_with_message

MODES = ("all", "prepare", "train", "evaluate", "report")

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; runs/<config>-<protocol>.")
MODE = flags.DEFINE_enum("mode", "all", MODES, "One part of the job, or all of it.")
BEAM = flags.DEFINE_string("beam_runner", "", "Prepare with Apache Beam, as by DirectRunner.")
BEAM_OPTIONS = flags.DEFINE_list("beam_options", [], "For Beam: region=…,project=…")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes that train.")
COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of the first process, if need be.")
N_PROCESSES = flags.DEFINE_integer("num_processes", -1, "How many, if nobody else can tell.")
PROCESS = flags.DEFINE_integer("process_id", -1, "The number of this one, likewise.")
flags.mark_flag_as_required("config")


def prepare(config: ConfigDict) -> Path:
    """The folder of the records that the config describes, built if need be."""
    from data_prep.prepare import prepare

    def make() -> Path:
        return prepare(config, beam_runner=BEAM.value, beam_options=BEAM_OPTIONS.value)

    if not DISTRIBUTED.value:
        return make()
    from ser_jax.parallel import processes

    return processes.first_then_others(make)


def main(argv: list[str]) -> None:
    """Runs what --mode asks for. Imports wait for it, so that --help is quick."""
    if argv[1:]:
        sys.exit(f"error: the argument {argv[1]!r} belongs to no flag; see --help.")
    runtime.use_compilation_cache()
    config, mode, is_first = CONFIG.value, MODE.value, True
    if DISTRIBUTED.value:
        from ser_jax.parallel import processes

        is_first = processes.initialise(COORDINATOR.value, N_PROCESSES.value, PROCESS.value)
    if "runs" in config:
        from ser_jax.study import runner

        if mode != "all":
            sys.exit(f"error: --mode={mode} is a part of one run; a study does all of it.")
        runner.run(config, Path(WORKDIR.value or config.name), prepare)
    else:
        workdir = Path(WORKDIR.value or f"runs/{config.name}-{config.split.name}")
        run(config, workdir, mode, is_first)


def run(config: ConfigDict, workdir: Path, mode: str, is_first: bool) -> None:
    """One run, or a part of it; of several processes the first writes the report."""
    if mode != "report":
        records = prepare(config)
    if mode in ("all", "train"):
        from ser_jax.train.loop import train

        train(config, records, workdir)
    if mode in ("all", "evaluate"):
        from ser_jax.evaluate.test_set import evaluate

        evaluate(config, records, workdir)
    if mode in ("all", "report") and is_first:
        from data_prep.prepare import recordings
        from ser_jax.report.run_report import write

        page = write(workdir, recordings(config), config.report.clips_a_cell)
        print(f"The report is {page}.")


if __name__ == "__main__":
    runtime.use_large_pages()
    parse = cli.parser(flags.FLAGS, CONFIG)
    app.run(lambda argv: exit_with_message(lambda: main(argv)), flags_parser=parse)
