"""Run an experiment, prepare → train → evaluate → report, or one of its steps; or a study.

python launch.py --config=configs/cnn2d.py
python launch.py --config=configs/cnn2d.py --mode=prepare
python launch.py --config=configs/cnn1d.py --config.optimizer.learning_rate=3e-4 --workdir=runs/mine
python launch.py --config=configs/study.py
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import functools
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from ser_jax.common import cli, runtime
from ser_jax.common.cli import exit_with_message
from ser_jax.common.config import check, overrides

MODES = ("all", "prepare", "train", "evaluate", "report")

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config>-<protocol>.")
MODE = flags.DEFINE_enum("mode", "all", MODES, "The step to run, or all of them.")
BEAM = flags.DEFINE_string("beam_runner", "", "Prepare with Apache Beam, such as DirectRunner.")
BEAM_OPTIONS = flags.DEFINE_list("beam_options", [], "Options for Beam: region=…,project=…")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Train as one of several processes.")
COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of the first process.")
N_PROCESSES = flags.DEFINE_integer("num_processes", -1, "Number of processes; −1 is automatic.")
PROCESS = flags.DEFINE_integer("process_id", -1, "Number of this process; −1 is automatic.")
flags.mark_flag_as_required("config")


def prepare(config: ConfigDict) -> Path:
    """Return the folder of the config's records, and build it if it does not exist."""
    from data_prep.prepare import prepare

    check_clips = None
    if MODE.value != "prepare":
        from ser_jax.train.experiment import check_corpus

        check_clips = functools.partial(check_corpus, config)

    return first_then_others(lambda: prepare(config, BEAM.value, BEAM_OPTIONS.value, check_clips))


def teach(config: ConfigDict, records: Path) -> None:
    """Ask the config's teacher about the clips, if it has one."""
    if config.train.targets == "teacher":
        from data_prep.prepare import recordings
        from ser_jax.predict import teaching

        first_then_others(lambda: teaching.teach(config, records, recordings(config)))


def first_then_others(make: Callable[[], Any]) -> Any:
    """Return what `make` does, of several processes first in the first one."""
    if not DISTRIBUTED.value:
        return make()
    from ser_jax.parallel import processes

    return processes.first_then_others(make)


def main(argv: list[str]) -> None:
    """Run what --mode selects. Imports are local, so that --help is fast."""
    if argv[1:]:
        sys.exit(f"error: unexpected argument {argv[1]!r}; see --help.")
    runtime.quiet_compiler()
    runtime.use_compilation_cache()
    config, mode, is_first = CONFIG.value, MODE.value, True
    if DISTRIBUTED.value:
        from ser_jax.parallel import processes

        is_first = processes.initialise(COORDINATOR.value, N_PROCESSES.value, PROCESS.value)
    if mode not in ("prepare", "report"):
        runtime.require_devices()
    if "runs" in config:
        from ser_jax.study import runner

        if mode != "all":
            sys.exit(f"error: --mode={mode} applies to a single run; a study runs all steps.")
        runner.run(config, cli.path_flag(WORKDIR.value or config.name), prepare, teach)
    else:
        check(config)
        split = "-inside-".join(filter(None, (config.split.name, config.split.inside)))
        workdir = cli.path_flag(WORKDIR.value or f"runs/{config.name}-{split}")
        if workdir.resolve() == Path.home():
            sys.exit(f"error: --workdir={WORKDIR.value} is the home folder; name a folder in it.")
        run(config, workdir, mode, is_first)


def run(config: ConfigDict, workdir: Path, mode: str, is_first: bool) -> None:
    """Run one experiment, or a step of it; only the first process writes the report."""
    if mode != "report":
        records = prepare(config)
    experiment = None
    if mode in ("all", "train"):
        from ser_jax.train.loop import train

        teach(config, records)
        experiment = train(config, records, workdir)
    if mode in ("all", "evaluate"):
        from ser_jax.evaluate.test_set import evaluate

        evaluate(config, records, workdir, experiment)
    del experiment  # and its examples
    if mode in ("all", "report") and is_first:
        from data_prep.prepare import recordings
        from ser_jax.common.files import read_json
        from ser_jax.report.run_report import write
        from ser_jax.train.workdir import claim

        settings = read_json(workdir / "config.json", "run --mode=train with this --workdir")
        if mode == "report":
            claim(workdir, config, settings.get("records"), is_training=False)
        command = reproduction(settings)
        page = write(workdir, recordings(config), config.report.clips_a_cell, command)
        print(f"The run report is {page}.")


def reproduction(settings: dict) -> str:
    """Return the command, without --workdir, that repeats a run with these settings."""
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    values = flags.FlagValues()
    unchanged = config_flags.DEFINE_config_file("config", flag_values=values)
    values(["", f"--config={file}"])
    defaults = json.loads(unchanged.value.to_json())
    return shlex.join(["python", "launch.py", f"--config={file}", *overrides(defaults, settings)])


if __name__ == "__main__":
    runtime.use_large_pages()
    parse = cli.parser(flags.FLAGS, CONFIG)
    app.run(lambda argv: exit_with_message(lambda: main(argv)), flags_parser=parse)
