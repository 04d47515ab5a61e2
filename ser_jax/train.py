"""The loop: epochs, validation, plateau, early stopping, log, checkpoint, resume."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ser_jax import (
    checkpoints,
    files,
    input_pipeline,
    metric_log,
    metrics,
    optimizer,
    parallel,
    record_reader,
    stopping,
    task,
    train_step,
    transfer,
)
from ser_jax.errors import Interrupted, UserError
from ser_jax.evaluator import Evaluator
from ser_jax.train_state import Sums, TrainState

SECONDS_A_CALL = 2.0  # the device works that long before the host looks for Ctrl-C
STEPS_A_LOOK = 16  # likewise, where batches are streamed


def train(config: ConfigDict, records_folder: Path, workdir: Path) -> None:
    """Trains, or goes on where it stopped; leaves the best weights in the workdir.

    Raises:
      UserError: bad input, or a loss that is not finite.
      Interrupted: Ctrl-C or SIGTERM came; all is saved.
    """
    this = task.make(config, record_reader.open_records(records_folder))
    state = task.initial_state(this)
    if config.init_from:
        state = transfer.start_from(this, state, Path(config.init_from))
    metric_log.claim(workdir, config, records_folder.parent.name)
    clips = this.records.clips
    parts = {
        part: {clips.ids[row]: clips.sha256[row] for row in rows}
        for part, rows in this.split.parts().items()
    }
    files.write_json(workdir / "split.json", parts)
    print(task.describe(this, state), flush=True)
    with stopping.stop_signals() as stop:
        _Loop(this, workdir, stop).run(checkpoints.load_last(workdir, state) or state)


class _Loop:
    """Compiled functions, and the host's part of an epoch."""

    def __init__(self, this: task.Task, workdir: Path, stop: threading.Event):
        config = this.config
        self._task, self._config, self._workdir, self._stop = this, config, workdir, stop
        self._n_classes = len(this.records.labels)
        self._n_steps = -(-len(this.train_M) // config.train.batch_size)
        step = train_step.make_train_step(
            this.model, optimizer.make(config.optimizer.name), config.input.kind
        )
        self._feed = parallel.Feed(this.examples)
        self._steps = parallel.compile_steps(step)
        self._step = parallel.compile_step(step)
        self._evaluate = Evaluator(this, self._feed)
        self._end_of_epoch = jax.jit(
            train_step.make_end_of_epoch(
                optimizer.plateau(config.optimizer),
                config.train.monitor,
                config.train.stopping_patience,
                config.train.stopping_min_delta,
            )
        )
        self._steps_a_call = 1  # then as many as fill SECONDS_A_CALL

    def run(self, state: TrainState) -> None:
        """Runs the epochs that are left."""
        done, n_epochs = int(state.step) // self._n_steps, self._config.train.epochs
        log = metric_log.MetricLog(self._workdir, done)
        if int(state.step) and done < n_epochs and not bool(state.stopped):
            print(f"Going on after step {int(state.step)}, in epoch {done + 1}.")
        for epoch in range(done + 1, n_epochs + 1):
            if bool(state.stopped):
                break
            if epoch == done + 1:
                print(metric_log.header(), flush=True)
            state, row = self._epoch(state, epoch)
            log.write(row)
            print(metric_log.line(row, n_epochs), flush=True)
            checkpoints.save_last(self._workdir, state)
            if self._stop.is_set() and epoch < n_epochs:
                raise _interrupted(state, epoch)
        why = "early stopping" if bool(state.stopped) else "all epochs done"
        print(
            f"Finished ({why}). Best validation {self._config.train.monitor}: "
            f"{abs(float(state.best.value)):.4f} in epoch {int(state.best.epoch)}."
        )

    def _epoch(self, state: TrainState, epoch: int) -> tuple[TrainState, dict[str, float]]:
        """Training, validation, and what follows from it; the best weights are saved."""
        begin, first_step = time.perf_counter(), int(state.step)
        state = self._train_steps(state, epoch)
        seconds = time.perf_counter() - begin
        n_seen = (int(state.step) - first_step) * self._config.train.batch_size
        val_sums, _ = self._evaluate(
            state.params, state.batch_stats, state.normalisation, self._task.split.val
        )
        row = {
            "epoch": epoch,
            **_ratios("train", state.sums),
            "train/l2": float(state.sums.l2) / int(state.sums.steps),
            **_ratios("val", val_sums),
            "learning_rate": float(train_step.learning_rate(state)),
            "seconds": time.perf_counter() - begin,
            "examples_per_second": min(n_seen, len(self._task.train_M)) / seconds,
        }
        state = self._end_of_epoch(state, val_sums, jnp.int32(epoch))
        if int(state.best.epoch) == epoch:
            checkpoints.save_best(self._workdir, state, self._task.metadata())
        return state.replace(sums=Sums.zero(self._n_classes)), row

    def _train_steps(self, state: TrainState, epoch: int) -> TrainState:
        """The steps of an epoch that are left."""
        order_SxB = input_pipeline.shuffled(
            self._task.train_M, self._config.train.batch_size, self._config.seed, epoch
        )
        first = int(state.step) - (epoch - 1) * self._n_steps
        progress = tqdm(
            total=self._n_steps,
            initial=first,
            desc=f"epoch {epoch}",
            unit="step",
            leave=False,
            disable=None,
        )
        advance = self._advance_streamed if self._feed.pool is None else self._advance
        with progress:
            for state, n_done in advance(state, order_SxB, first):  # noqa: B020
                progress.update(n_done)
                self._check_finite(state, epoch)
                if self._stop.is_set() and int(state.step) < epoch * self._n_steps:
                    checkpoints.save_last(self._workdir, state)
                    raise _interrupted(state, epoch)
        return state

    def _advance(
        self, state: TrainState, order_SxB: np.ndarray, first: int
    ) -> Iterator[tuple[TrainState, int]]:
        """The state after some seconds of steps, and how many they were."""
        order, step = jnp.asarray(order_SxB), first
        while step < len(order_SxB):
            n = min(self._steps_a_call, len(order_SxB) - step)
            begin = time.perf_counter()
            state = jax.block_until_ready(
                self._steps(state, self._feed.pool, order, step, step + n)
            )
            seconds = time.perf_counter() - begin
            self._steps_a_call = max(1, int(n * SECONDS_A_CALL / seconds))
            step += n
            yield state, n

    def _advance_streamed(
        self, state: TrainState, order_SxB: np.ndarray, first: int
    ) -> Iterator[tuple[TrainState, int]]:
        n = 0
        for batch in self._feed.batches(order_SxB, first):
            state, n = self._step(state, batch), n + 1
            if n == STEPS_A_LOOK:
                yield state, n
                n = 0
        if n:
            yield state, n

    def _check_finite(self, state: TrainState, epoch: int) -> None:
        bad_step = int(state.sums.bad_step)
        if bad_step >= 0:
            raise UserError(
                f"the loss is not finite in epoch {epoch}, step {bad_step + 1}; lower "
                f"optimizer.learning_rate (now {float(train_step.learning_rate(state)):g}) or use "
                "train.compute_dtype=float32, and start in a new --workdir."
            )


def _ratios(part: str, sums: Sums) -> dict[str, float]:
    """Sums → numbers to read; n is never 0, since a part is never empty."""
    confusion_CxC = np.asarray(sums.confusion_CxC)
    return {
        f"{part}/loss": float(sums.loss) / int(sums.n),
        f"{part}/accuracy": metrics.accuracy(confusion_CxC),
        f"{part}/uar": metrics.uar(confusion_CxC),
        f"{part}/macro_f1": metrics.macro_f1(confusion_CxC),
    }


def _interrupted(state: TrainState, epoch: int) -> Interrupted:
    return Interrupted(
        f"stopped in epoch {epoch} after step {int(state.step)}; all is saved, and the same "
        "command goes on from there."
    )
