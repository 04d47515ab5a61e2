"""The loop: epochs, validation, plateau, early stopping, log, checkpoint, resume.

All replicas of a run go through an epoch together.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ser_jax.common import files
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.data import examples, records
from ser_jax.metrics import classification
from ser_jax.parallel import processes
from ser_jax.train import console, experiment, metric_log, step, warm_start
from ser_jax.train import workdir as train_workdir
from ser_jax.train.evaluator import Evaluator
from ser_jax.train.state import Sums
from ser_jax.train.trainer import Trainer


def train(config: ConfigDict, records_folder: Path, workdir: Path) -> None:
    """Trains, or goes on where it stopped; leaves the best weights in the workdir.

    Raises:
      UserError: bad input, or a loss that is not finite.
      Interrupted: Ctrl-C or SIGTERM came; all is saved.
    """
    this = experiment.make(config, records.open_records(records_folder))
    states = experiment.initial_states(this)
    if config.init_from:
        states = warm_start.start_from(this, states, Path(config.init_from))
    train_workdir.claim(workdir, config, records_folder.parent.name)
    if processes.is_first():
        files.write_json(workdir / "split.json", _split(this))
    print(console.describe(this, states[0]), flush=True)
    with _memory_told(), stop_signals() as stop:
        crowd = Trainer(this, states)
        del states  # they are placed
        if crowd.layout.describe():
            print(crowd.layout.describe(), flush=True)
        TrainingLoop(this, crowd, workdir, stop).run()
        if processes.anywhere(stop.is_set()):
            raise Interrupted(
                "stopped; the training is finished and saved, and the same command goes on with "
                "what is left."
            )


@contextlib.contextmanager
def _memory_told() -> Iterator[None]:
    """A device that runs out of memory is the user's to relieve."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "a device has run out of memory; lower replicas.at_once or train.batch_size, or "
            "input.memory_limit_gb, above which examples are streamed."
        ) from error


def _split(this: experiment.Experiment) -> dict[str, Any]:
    """{fold: {part: {clip: SHA-256 of its samples}}}"""
    clips = this.records.clips
    return {
        str(fold): {
            part: {clips.ids[row]: clips.sha256[row] for row in rows}
            for part, rows in split.parts().items()
        }
        for fold, split in this.splits.items()
    }


class TrainingLoop:
    """The host's part of an epoch."""

    def __init__(
        self, this: experiment.Experiment, crowd: Trainer, workdir: Path, stop: threading.Event
    ):
        self._task, self._config, self._crowd = this, this.config, crowd
        self._workdir, self._stop = workdir, stop
        train_M = {fold: this.train_M(fold) for fold in this.splits}
        self._train_RxM = [train_M[replica.fold] for replica in this.replicas]
        self._val_RxM = [this.splits[replica.fold].val for replica in this.replicas]
        self._n_steps = -(-max(map(len, self._train_RxM)) // this.config.train.batch_size)
        self._evaluator = Evaluator(this, crowd.feed, crowd.layout)
        self._done = 0  # steps

    def run(self) -> None:
        """Runs the epochs that are left."""
        self._done = self._crowd.restore(self._workdir)
        done = self._done // self._n_steps
        board = self._config.train.tensorboard
        with contextlib.closing(metric_log.MetricLog(self._workdir, done, board=board)) as log:
            stopped_R = self._epochs(log, done)
        value_R, epoch_R = self._crowd.look(lambda state: (state.best.value, state.best.epoch))
        best = [f"{abs(v):.4f} in epoch {e}" for v, e in zip(value_R, epoch_R, strict=True)]
        print(
            f"Finished ({'early stopping' if stopped_R.all() else 'all epochs done'}). Best "
            f"validation {self._config.train.monitor}: {', '.join(best)}."
        )

    def _epochs(self, log: metric_log.MetricLog, done: int) -> np.ndarray:
        """Those after the first `done`; returns which replicas have stopped."""
        n_epochs, n_replicas = self._config.train.epochs, len(self._task.replicas)
        stopped_R = self._crowd.look(lambda state: state.stopped)
        if self._done and done < n_epochs and not stopped_R.all():
            print(f"Going on after step {self._done}, in epoch {done + 1}.")
        for epoch in range(done + 1, n_epochs + 1):
            if stopped_R.all():
                break
            if epoch == done + 1:
                print(console.header(n_replicas), flush=True)
            rows = self._epoch(epoch, stopped_R)
            log.write(rows)
            print(console.line(rows, n_epochs, n_replicas), flush=True)
            self._crowd.save_last(self._workdir, self._done)
            if processes.anywhere(self._stop.is_set()) and epoch < n_epochs:
                raise self._interrupted(epoch)
            stopped_R = self._crowd.look(lambda state: state.stopped)
        return stopped_R

    def _epoch(self, epoch: int, stopped_R: np.ndarray) -> list[dict[str, float]]:
        """Training, validation, and what follows from it; the best weights are saved."""
        begin, n_left = time.perf_counter(), epoch * self._n_steps - self._done
        self._train_steps(epoch)
        seconds = time.perf_counter() - begin
        sums, rate_R = self._crowd.look(lambda state: (state.sums, step.learning_rate(state)))
        if len(stopped_R) > 1:
            self._tell_failures(sums.bad_step, rate_R, stopped_R, epoch)
        val_sums = self._evaluator.sums(self._crowd.weights(), self._val_RxM)
        val = jax.tree.map(lambda *leaves: np.concatenate(leaves), *map(processes.fetch, val_sums))
        trained = np.flatnonzero(~stopped_R).tolist()
        n_seen = sum(len(self._train_RxM[number]) for number in trained) * n_left / self._n_steps
        train_ratios, val_ratios = _ratios("train", sums), _ratios("val", val)
        rows = [
            {
                "epoch": epoch,
                "replica": number,
                **{name: float(values[number]) for name, values in train_ratios.items()},
                "train/l2": float(sums.l2[number] / sums.steps[number]),
                **{name: float(values[number]) for name, values in val_ratios.items()},
                "learning_rate": float(rate_R[number]),
                "seconds": time.perf_counter() - begin,
                "examples_per_second": n_seen / seconds,
            }
            for number in trained
        ]
        self._crowd.end_epoch(val_sums, epoch)
        if (self._crowd.look(lambda state: state.best.epoch) == epoch).any():
            self._crowd.save_best(self._workdir, epoch)
        return rows

    def _train_steps(self, epoch: int) -> None:
        """The steps of an epoch that are left."""
        size = self._config.train.batch_size
        order_RxSxB = examples.stack_batches(
            [
                examples.shuffled_batches(train_M, size, replica.seed, epoch)
                for train_M, replica in zip(self._train_RxM, self._task.replicas, strict=True)
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
            for n_done in self._crowd.advance(order_RxSxB, first):
                self._done += n_done
                progress.update(n_done)
                self._after_some_steps(epoch)

    def _after_some_steps(self, epoch: int) -> None:
        """What the host looks for while the devices train."""
        if len(self._task.replicas) == 1:  # of several, the others go on to the epoch's end
            sums, rate_R = self._crowd.look(lambda s: (s.sums, step.learning_rate(s)))
            self._tell_failures(sums.bad_step, rate_R, np.zeros(1, bool), epoch)
        if processes.anywhere(self._stop.is_set()) and self._done < epoch * self._n_steps:
            self._crowd.save_last(self._workdir, self._done)
            raise self._interrupted(epoch)

    def _tell_failures(
        self, bad_step_R: np.ndarray, rate_R: np.ndarray, stopped_R: np.ndarray, epoch: int
    ) -> None:
        """Names the replicas that fail; where none is left that could go on, that is an error."""
        failed = np.flatnonzero((bad_step_R >= 0) & ~stopped_R).tolist()
        for number in failed:
            where = f"the loss is not finite in epoch {epoch}, step {bad_step_R[number] + 1}"
            if len(failed) == len(bad_step_R):
                raise UserError(
                    f"{where}; lower optimizer.learning_rate (now {rate_R[number]:g}) or use "
                    "train.compute_dtype=float32, and start in a new --workdir."
                )
            print(f"Replica {number} ({self._task.replicas[number]}) is stopped: {where}.")

    def _interrupted(self, epoch: int) -> Interrupted:
        return Interrupted(
            f"stopped in epoch {epoch} after step {self._done}; all is saved, and the same "
            "command goes on from there."
        )


def _ratios(part: str, sums: Sums) -> dict[str, np.ndarray]:
    """Sums of R replicas → numbers to read; n is never 0, since a part is never empty."""
    return {
        f"{part}/loss": sums.loss / np.maximum(sums.n, 1),
        f"{part}/accuracy": classification.accuracy(sums.confusion_CxC),
        f"{part}/uar": classification.uar(sums.confusion_CxC),
        f"{part}/macro_f1": classification.macro_f1(sums.confusion_CxC),
    }


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return

    def request(number: int, frame: object) -> None:
        del frame
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
