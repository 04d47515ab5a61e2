"""The fit of the classical baseline by scikit-learn, in the place of a training.

Axes: M training examples, K validation clips, B batch, D functionals, C classes, P pairs of
classes, R replicas.
"""

import functools
import itertools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ser_jax.common import interrupts
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.data.loader import Batch
from ser_jax.metrics import classification
from ser_jax.models.classical import functionals, pairs
from ser_jax.train import checkpoints
from ser_jax.train.experiment import Experiment, class_weights, describe
from ser_jax.train.metric_log import MetricLog
from ser_jax.train.replicas import Replica
from ser_jax.train.state import Best, Normalisation, TrainState
from ser_jax.train.step import normalised_input

_BATCH = 64


class Part(NamedTuple):
    """Standardised functionals and class numbers of a fold's training or validation part."""

    z: np.ndarray
    label: np.ndarray


def fit(experiment: Experiment, states: list[TrainState], workdir: Path) -> None:
    """Fit every replica, and save metrics and weights as a training of one epoch does.

    A workdir that holds weights is left as it is. Nothing is random: a seed changes nothing.

    Raises:
      UserError: there are several processes, or more examples than memory for an SVM's kernel.
      Interrupted: Ctrl-C or SIGTERM.
    """
    config = experiment.config
    if jax.process_count() > 1:
        raise UserError(f"{config.model.name} is fitted by one process; drop --distributed.")
    if checkpoints.has_best(workdir):
        print("Already fitted.")
        return
    try:
        with interrupts.deferred():
            fitted, rows = _fit_all(experiment, states)
    except KeyboardInterrupt as interrupt:
        raise Interrupted("stopped; the same command begins the fit again.") from interrupt
    print(describe(experiment, fitted[0].replace(params=fitted[0].best.params)), flush=True)
    log = MetricLog(workdir, 0, board=config.train.tensorboard)
    log.write(rows)
    log.close()
    joined = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fitted)
    with checkpoints.Writer(workdir, experiment.metadata()) as writer:
        writer.save_best(joined)


def _fit_all(
    experiment: Experiment, states: list[TrainState]
) -> tuple[list[TrainState], list[dict[str, float]]]:
    """Return the replicas' states with the fitted weights, and their rows of metrics.jsonl."""
    config, weights, rows, done = experiment.config, [], [], {}
    folds = _folds(experiment, states)
    for number, replica in enumerate(experiment.replicas):
        begin = time.perf_counter()
        key = replica.fold, *sorted(replica.setting.items())
        if key not in done:
            done[key] = folds(replica.fold).fit(experiment, replica)
        params, metrics = done[key]
        weights.append(params)
        seconds = time.perf_counter() - begin
        rows.append(
            {
                "epoch": 1,
                "replica": number,
                **metrics,
                "seconds": seconds,
                "examples_per_second": len(experiment.train_M(replica.fold)) / seconds,
            }
        )
        print(
            f"{replica.without_seed}: accuracy {metrics['train/accuracy']:.4f} in training, "
            f"{metrics['val/accuracy']:.4f} in validation, UAR {metrics['val/uar']:.4f}; "
            f"{seconds:.1f} s",
            flush=True,
        )
    most = max(len(params["support"]) for params in weights)
    fitted = []
    for state, params, row in zip(states, weights, rows, strict=True):
        missing = ((0, most - len(params["support"])), (0, 0))  # these have no weight
        params |= {name: np.pad(params[name], missing) for name in ("support", "dual")}
        params = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
        value = row[f"val/{config.train.monitor}"] * (-1 if config.train.monitor == "loss" else 1)
        best = Best(params, {}, jnp.float32(value), jnp.int32(1))
        fitted.append(state.replace(best=best))
    return fitted, rows


def _folds(experiment: Experiment, states: list[TrainState]) -> Any:
    """Return fold → Fold, of which the last one is kept."""
    normalisations = {
        replica.fold: state.normalisation
        for replica, state in zip(experiment.replicas, states, strict=True)
    }
    return functools.lru_cache(1)(lambda fold: Fold(experiment, fold, normalisations[fold]))


class Fold:
    """The parts of a fold, and their kernel; fits classifiers."""

    def __init__(self, experiment: Experiment, fold: int, normalisation: Normalisation):
        examples, split = experiment.examples, experiment.splits[fold]
        train_M = experiment.train_M(fold)
        x_MxD = _functionals(experiment, train_M, normalisation)
        self.mean_D, sd_D = x_MxD.mean(0), x_MxD.std(0)
        self.sd_D = np.where(sd_D > 1e-5 * np.abs(self.mean_D) + 1e-7, sd_D, 1.0)
        x_KxD = _functionals(experiment, split.val, normalisation)
        standard = [(x - self.mean_D) / self.sd_D for x in (x_MxD, x_KxD)]
        self.train = Part(standard[0], examples.label_N[train_M])
        self.val = Part(standard[1], examples.label_N[split.val])
        self.gamma = 1 / (self.train.z.size / len(train_M) * self.train.z.var())  # SVC's "scale"
        self._n_classes = len(experiment.records.labels)

    def fit(self, experiment: Experiment, replica: Replica) -> tuple[dict[str, Any], dict]:
        """Return the parameters of the network for a replica's setting, and metrics."""
        config = experiment.config
        classifier, cost = (replica.value(config, f"model.{k}") for k in ("classifier", "cost"))
        weight_M = class_weights(experiment, replica)[self.train.label]
        if classifier == "svm":
            n_bytes = 8 * len(weight_M) ** 2
            if n_bytes > 1e9 * config.input.memory_limit_gb:
                raise UserError(
                    f"the kernel of {len(weight_M):,} training examples takes {n_bytes / 1e9:.0f} "
                    "GB, more than input.memory_limit_gb; raise it, or use fewer input.views or "
                    "model.classifier=logistic."
                )
            support, dual, threshold, logits = self._svm(cost, weight_M)
            linear = np.zeros((self.train.z.shape[1], self._n_classes))
            bias_C = np.zeros(self._n_classes)
        else:
            linear, bias_C, logits = self._logistic(cost, weight_M)
            threshold = np.zeros(len(pairs(self._n_classes)))
            support, dual = np.zeros((1, len(linear))), np.zeros((1, len(threshold)))
        scale = _calibration(logits[1], self.val.label)
        params = {
            "mean": self.mean_D,
            "sd": self.sd_D,
            "support": support,
            "gamma": self.gamma,
            "dual": dual,
            "threshold": threshold,
            "vote": scale if classifier == "svm" else 0.0,
            "linear": scale * linear,
            "bias": scale * bias_C,
        }
        metrics = {
            **_metrics("train", scale * logits[0], self.train.label),
            "train/l2": 0.0,
            **_metrics("val", scale * logits[1], self.val.label),
            "learning_rate": np.nan,  # there is none, as the report says
        }
        return params, metrics

    @functools.cached_property
    def _kernels(self) -> tuple[np.ndarray, np.ndarray]:
        """The kernel between the training part and itself, and between validation and it."""
        from sklearn.metrics.pairwise import rbf_kernel

        return tuple(
            rbf_kernel(part.z, self.train.z, self.gamma) for part in (self.train, self.val)
        )

    def _svm(self, cost: float, weight_M: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return support vectors, dual_SxP, threshold_P and the votes of both parts."""
        from sklearn.svm import SVC

        interrupts.check()
        machine = SVC(C=cost, kernel="precomputed", cache_size=1000)  # MB
        machine.fit(self._kernels[0], self.train.label, sample_weight=weight_M)
        rows, label_S = machine.support_, self.train.label[machine.support_]
        sign = 1 if self._n_classes > 2 else -1  # a single decision is for the second class
        columns = []
        for a, b in itertools.combinations(range(self._n_classes), 2):
            # A row of dual_coef_ has the weights of a class's vectors against another class.
            of_a, of_b = machine.dual_coef_[b - 1], machine.dual_coef_[a]
            columns.append(sign * np.select([label_S == a, label_S == b], [of_a, of_b]))
        dual_SxP, threshold_P = np.stack(columns, axis=1), sign * machine.intercept_
        votes = [
            np.tanh(kernel[:, rows] @ dual_SxP + threshold_P) @ pairs(self._n_classes)
            for kernel in self._kernels
        ]
        return self.train.z[rows], dual_SxP, threshold_P, votes

    def _logistic(self, cost: float, weight_M: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return linear_DxC, bias_C and the logits of both parts."""
        from sklearn.linear_model import LogisticRegression

        interrupts.check()
        # Like the RBF kernel's, the mean of ‖z‖² / D is 1, so that both take costs of one size.
        model = LogisticRegression(C=cost / self.train.z.shape[1], max_iter=10_000)
        model.fit(self.train.z, self.train.label, sample_weight=weight_M)
        linear_DxC, bias_C = model.coef_.T, model.intercept_
        if self._n_classes == 2:  # one column stands for both
            linear_DxC, bias_C = linear_DxC * [[-0.5, 0.5]], bias_C * [-0.5, 0.5]
        return linear_DxC, bias_C, [part.z @ linear_DxC + bias_C for part in (self.train, self.val)]


def _functionals(
    experiment: Experiment, example_M: np.ndarray, normalisation: Normalisation
) -> np.ndarray:
    """Return x_MxD in float64, by the network's own functions."""
    examples, kind = experiment.examples, experiment.config.input.kind
    blocks = []
    for start in range(0, len(example_M), _BATCH):
        interrupts.check()
        example_B = example_M[start : start + _BATCH]
        n_frames_B = examples.n_frames_N[example_B]
        batch = Batch(examples.batch(example_B), n_frames_B, None, None)
        x_BxTxF = np.asarray(normalised_input(normalisation, batch, kind))
        blocks.append(functionals(x_BxTxF, n_frames_B))
    return np.concatenate(blocks).astype(np.float64)


def _calibration(logits_KxC: np.ndarray, label_K: np.ndarray) -> float:
    """Return the factor of the logits with the least cross-entropy, 1 / temperature.

    One number, so that validation, which has chosen the setting, serves once more (Guo, Pleiss, Sun
    & Weinberger, ICML 2017).
    """
    found = minimize_scalar(
        lambda log_scale: _cross_entropy(np.exp(log_scale) * logits_KxC, label_K),
        bounds=(-5, 5),
        method="bounded",
    )
    return float(np.exp(found.x))


def _cross_entropy(logits_KxC: np.ndarray, label_K: np.ndarray) -> float:
    return float(-log_softmax(logits_KxC, axis=1)[np.arange(len(label_K)), label_K].mean())


def _metrics(part: str, logits_KxC: np.ndarray, label_K: np.ndarray) -> dict[str, float]:
    n_classes = logits_KxC.shape[1]
    confusion_CxC = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(confusion_CxC, (label_K, logits_KxC.argmax(1)), 1)
    return {
        f"{part}/loss": _cross_entropy(logits_KxC, label_K),
        f"{part}/accuracy": float(classification.accuracy(confusion_CxC)),
        f"{part}/uar": float(classification.uar(confusion_CxC)),
        f"{part}/macro_f1": float(classification.macro_f1(confusion_CxC)),
    }
