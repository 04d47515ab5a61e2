"""The training loop: epochs, validation, early stopping, log, checkpoints, resume.

All replicas of a run go through an epoch together.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ser_jax.common import files, interrupts
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.common.runtime import explain_out_of_memory
from ser_jax.data.examples import shuffled_batches, stack_batches
from ser_jax.data.records import open_records
from ser_jax.metrics import classification
from ser_jax.parallel import placement, processes
from ser_jax.train import checkpoints, classical, sources
from ser_jax.train import workdir as train_workdir
from ser_jax.train.evaluator import Evaluator
from ser_jax.train.experiment import Experiment, describe, initial_states, make_experiment
from ser_jax.train.metric_log import MetricLog, console_header, console_line
from ser_jax.train.state import Sums
from ser_jax.train.step import current_learning_rate
from ser_jax.train.trainer import Trainer


def train(config: ConfigDict, records_folder: Path, workdir: Path) -> Experiment:
    """Train, or resume an interrupted training; the workdir keeps the best weights.

    Returns:
      The experiment, for the evaluation.

    Raises:
      UserError: invalid input, a loss that is not finite, or another training in the workdir.
      Interrupted: Ctrl-C or SIGTERM; everything is saved.
    """
    experiment = make_experiment(config, open_records(records_folder))
    lessons = sources.lessons_of(experiment)
    states = initial_states(experiment, sources.targets_of(experiment, lessons))
    if config.init_from:
        states = sources.start_from(experiment, states, Path(config.init_from))
    with _only_training_in(workdir):
        train_workdir.claim(workdir, config, records_folder.parent.name)
        if processes.is_first():
            files.write_json(workdir / "split.json", _checksums(experiment))
            if lessons:
                heard = {fold: lessons.of_fold(fold)[1].to_json() for fold in experiment.splits}
                files.write_json(workdir / sources.TAUGHT, heard)
        if not experiment.model.takes_steps:
            classical.fit(experiment, states, workdir)
            return experiment
        print(describe(experiment, states[0]), flush=True)
        with (
            explain_out_of_memory("replicas.at_once or train.batch_size"),
            interrupts.deferred(raises=False) as stop,
        ):
            trainer = Trainer(experiment, states)
            del states  # the trainer has copied them
            if trainer.layout.describe():
                print(trainer.layout.describe(), flush=True)
            TrainingLoop(experiment, trainer, workdir, stop).run()
            if processes.any_process(stop.received):
                raise Interrupted(
                    "stopped; the training is finished and saved, and the same command continues "
                    "with what is left."
                )
    return experiment


@contextlib.contextmanager
def _only_training_in(workdir: Path) -> Iterator[None]:
    """Refuse a workdir in which another training runs."""
    with contextlib.ExitStack() as stack:
        if processes.is_first():
            refusal = (
                f"another training runs in {workdir}; wait for it, or choose another --workdir."
            )
            stack.enter_context(files.locked(workdir, refusal=refusal))
        yield


def _checksums(experiment: Experiment) -> dict[str, Any]:
    """Return {fold: {set: {clip: SHA-256 of its samples}}}."""
    clips = experiment.records.clips
    return {
        str(fold): {
            part: {clips.ids[row]: clips.sha256[row] for row in rows}
            for part, rows in split.parts().items()
        }
        for fold, split in experiment.splits.items()
    }


class TrainingLoop:
    """The host's side of training: order of examples, metrics, log, checkpoints, signals."""

    def __init__(
        self, experiment: Experiment, trainer: Trainer, workdir: Path, stop: interrupts.StopRequest
    ):
        self._experiment, self._config = experiment, experiment.config
        self._replicas = experiment.replicas
        self._trainer, self._workdir, self._stop = trainer, workdir, stop
        train_M = {fold: experiment.train_M(fold) for fold in experiment.splits}
        self._train_RxM = [train_M[replica.fold] for replica in self._replicas]
        self._val_RxM = [experiment.splits[replica.fold].val for replica in self._replicas]
        self._n_steps = experiment.n_steps
        self._evaluator = Evaluator(experiment, trainer.loader, trainer.layout)
        self._done = 0  # steps, over all epochs
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Run the remaining epochs."""
        self._done = self._trainer.restore(self._workdir)
        n_done = self._done // self._n_steps
        value_R, stopped_R = self._trainer.fetch(lambda state: (state.best.value, state.stopped))
        self._failed_R = stopped_R & ~np.isfinite(value_R)
        board = self._config.train.tensorboard
        with (
            contextlib.closing(MetricLog(self._workdir, n_done, board=board)) as log,
            checkpoints.Writer(
                self._workdir, self._experiment.metadata(), self._trainer.state()
            ) as self._writer,
        ):
            stopped_R = self._run_epochs(log, n_done)
            self._save()
        value_R, epoch_R = self._trainer.fetch(lambda state: (state.best.value, state.best.epoch))
        best = [
            f"{abs(v):.4f} in epoch {e}" if np.isfinite(v) else "failed"
            for v, e in zip(value_R, epoch_R, strict=True)
        ]
        print(
            f"Finished ({'early stopping' if stopped_R.all() else 'all epochs done'}). Best "
            f"validation {self._config.train.monitor}: {', '.join(best)}."
        )

    def _run_epochs(self, log: MetricLog, n_done: int) -> np.ndarray:
        """Run the epochs after the first `n_done`; return which replicas have stopped."""
        n_epochs, n_replicas = self._config.train.epochs, len(self._replicas)
        stopped_R = self._trainer.fetch(lambda state: state.stopped)
        if self._done and n_done < n_epochs and not stopped_R.all():
            print(f"Resuming after step {self._done}, in epoch {n_done + 1}.")
        for epoch in range(n_done + 1, n_epochs + 1):
            if stopped_R.all():
                break
            if epoch == n_done + 1:
                print(console_header(n_replicas), flush=True)
            rows = self._run_epoch(epoch, stopped_R)
            log.write(rows)
            print(console_line(rows, n_epochs, n_replicas), flush=True)
            if processes.any_process(self._stop.received) and epoch < n_epochs:
                raise self._interrupted(epoch)
            self._save_if_due()
            stopped_R = self._trainer.fetch(lambda state: state.stopped)
        return stopped_R

    def _run_epoch(self, epoch: int, stopped_R: np.ndarray) -> list[dict[str, float]]:
        """Train and validate; return a row of metrics per replica."""
        begin, n_left = time.perf_counter(), epoch * self._n_steps - self._done
        self._run_steps(epoch)
        seconds = time.perf_counter() - begin
        sums, rate_R = self._fetch_sums()
        val_sums = self._evaluator.sums(self._trainer.weights(), self._val_RxM)
        val = placement.fetch(val_sums, self._trainer.layout)
        failed_R = ((sums.bad_step >= 0) | ~np.isfinite(val.loss)) & ~stopped_R
        self._report_failures(failed_R, sums.bad_step, rate_R, epoch)
        trained = np.flatnonzero(~stopped_R).tolist()
        n_seen = sum(len(self._train_RxM[number]) for number in trained) * n_left / self._n_steps
        metrics = {
            **_ratios("train", sums),
            "train/l2": sums.l2 / np.maximum(sums.steps, 1),
            **_ratios("val", val),
            "learning_rate": rate_R,
        }
        rows = [
            {
                "epoch": epoch,
                "replica": number,
                **{name: float(value_R[number]) for name, value_R in metrics.items()},
                "seconds": time.perf_counter() - begin,
                "examples_per_second": n_seen / seconds,
            }
            for number in trained
        ]
        self._trainer.end_epoch(val_sums, epoch)
        return rows

    def _run_steps(self, epoch: int) -> None:
        """Run the remaining steps of an epoch."""
        size = self._config.train.batch_size
        label_N = self._experiment.examples.label_N
        balanced = self._config.train.sampling == "balanced"
        order_RxSxB = stack_batches(
            [
                shuffled_batches(
                    train_M, size, replica.seed, epoch, label_N[train_M] if balanced else None
                )
                for train_M, replica in zip(self._train_RxM, self._replicas, strict=True)
            ]
        )
        first = self._done - (epoch - 1) * self._n_steps
        progress = tqdm(
            total=self._n_steps,
            initial=first,
            desc=f"epoch {epoch}",
            unit="step",
            leave=False,
            disable=None,
        )
        with progress:
            for n in self._trainer.advance(order_RxSxB, first):
                self._done += n
                progress.update(n)
                self._check(epoch)

    def _check(self, epoch: int) -> None:
        """Check, between calls of the step programs, for failures, a signal and a save's time."""
        if len(self._replicas) == 1:  # with several, the others finish the epoch first
            sums, rate_R = self._fetch_sums()
            self._report_failures(sums.bad_step >= 0, sums.bad_step, rate_R, epoch)
        if self._done == epoch * self._n_steps:
            return  # validation comes first
        if processes.any_process(self._stop.received):
            raise self._interrupted(epoch)
        self._save_if_due()

    def _save_if_due(self) -> None:
        """Save in the background if the last time is long enough ago."""
        seconds = time.monotonic() - self._saved_at
        if processes.any_process(seconds >= self._config.train.checkpoint_seconds):
            self._save()

    def _save(self) -> None:
        """Begin to save what is new."""
        self._writer.save(self._done, self._trainer.state())
        self._saved_at = time.monotonic()

    def _fetch_sums(self) -> tuple[Sums, np.ndarray]:
        """Fetch training sums and learning rates, with R entries."""
        schedule = self._trainer.schedule
        return self._trainer.fetch(
            lambda state: (state.sums, current_learning_rate(state, schedule))
        )

    def _report_failures(
        self, failed_R: np.ndarray, bad_step_R: np.ndarray, rate_R: np.ndarray, epoch: int
    ) -> None:
        """Report replicas whose loss is not finite; raise an error if all have failed."""
        self._failed_R = self._failed_R | failed_R
        for number in np.flatnonzero(failed_R).tolist():
            bad_step = bad_step_R[number]
            failure = f"the loss is not finite in epoch {epoch}, " + (
                f"step {bad_step + 1}" if bad_step >= 0 else "on validation"
            )
            if self._failed_R.all():
                self._writer.save_best(self._trainer.state())  # of the epochs before
                raise UserError(
                    f"{failure}; lower optimizer.learning_rate (now {rate_R[number]:g}) or use "
                    "train.compute_dtype=float32, and start in a new --workdir."
                )
            print(
                f"Replica {number} ({self._replicas[number]}) is stopped: {failure}. It failed "
                "and is left out of all results."
            )

    def _interrupted(self, epoch: int) -> Interrupted:
        """Save, and return the exception to raise."""
        self._save()
        self._writer.wait()
        return Interrupted(
            f"stopped in epoch {epoch} after step {self._done}; everything is saved, and the same "
            "command resumes from there."
        )


def _ratios(part: str, sums: Sums) -> dict[str, np.ndarray]:
    """Convert sums of R replicas to metrics."""
    return {
        f"{part}/loss": sums.loss / np.maximum(sums.n, 1),
        f"{part}/accuracy": classification.accuracy(sums.confusion_CxC),
        f"{part}/uar": classification.uar(sums.confusion_CxC),
        f"{part}/macro_f1": classification.macro_f1(sums.confusion_CxC),
    }
