"""The networks as one would write them in Keras on TensorFlow, as in the reference report."""

from typing import Any

import keras
import numpy as np

from benchmarks.harness import Facts, Work
from benchmarks.networks import DROPOUT, L2, LEARNING_RATE, N_CLASSES, Network, batch_rows


def build(network: Network) -> keras.Model:
    """Return the network, compiled."""
    convolution, max_pool = keras.layers.Conv2D, keras.layers.MaxPooling2D
    if len(network.space) == 1:
        convolution, max_pool = keras.layers.Conv1D, keras.layers.MaxPooling1D
    penalty = {"kernel_regularizer": keras.regularizers.L2(L2)}
    layers: list[Any] = [keras.Input((*network.space, 1))]
    last = len(network.widths) - 1
    for i, (n_out, side) in enumerate(zip(network.widths, network.kernels, strict=True)):
        if i == last:
            layers.append(keras.layers.Dropout(DROPOUT))
        layers.append(convolution(n_out, side, padding="same", activation="relu", **penalty))
        if network.batch_norm[i]:
            layers.append(keras.layers.BatchNormalization())
        pool = keras.layers.AveragePooling2D if network.averages[i] else max_pool
        layers.append(pool(network.pool, network.stride, padding="same"))
    layers += [keras.layers.Flatten(), keras.layers.Dense(network.dense, "relu", **penalty)]
    if network.name == "cnn1d":
        layers.append(keras.layers.BatchNormalization())
    if network.name == "paper":
        layers.append(keras.layers.Dropout(DROPOUT))
    layers.append(keras.layers.Dense(N_CLASSES, "softmax", **penalty))
    model = keras.Sequential(layers)
    optimizers = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    model.compile(
        optimizers[network.optimizer](LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def make(network: Network, batch: int, precision: str, n_examples: int) -> tuple[Facts, Work]:
    """Return facts about the contestant, and a function that trains for some steps and waits."""
    keras.utils.set_random_seed(0)
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(network)
    random = np.random.default_rng(0)
    x = random.standard_normal((n_examples, *network.space, 1), np.float32)
    label = random.integers(0, N_CLASSES, n_examples)

    def run(n_steps: int) -> float:
        # Not `fit`, which at the end of an epoch polls with growing pauses, so that its rounds last
        # 1.3 s, 2.6 s, 5.1 s or 10.3 s, however long the steps take.
        order = random.permutation(n_examples)
        for step in range(n_steps):
            rows = batch_rows(order, step, batch)
            logs = model.train_on_batch(x[rows], label[rows])
        return float(logs[0])

    import tensorflow

    gpus = tensorflow.config.list_physical_devices("GPU")
    return {
        "library": f"Keras {keras.__version__}, TensorFlow {tensorflow.__version__}",
        "parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights),
        "device": "gpu" if gpus else "cpu",
    }, run
