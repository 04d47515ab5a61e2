"""The networks as one would write them in Keras, on TensorFlow; the report's were."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.networks import (
    DROPOUT,
    L2,
    LEARNING_RATE,
    N_CLASSES,
    N_EXAMPLES,
    Network,
    batch_of,
)


def build(network: Network) -> keras.Model:
    """The whole network, compiled."""
    flat = len(network.space) == 1
    convolution, maximum = (
        (keras.layers.Conv1D, keras.layers.MaxPooling1D)
        if flat
        else (keras.layers.Conv2D, keras.layers.MaxPooling2D)
    )
    penalty = keras.regularizers.L2(L2)
    dense = {"kernel_regularizer": penalty}
    layers: list[Any] = [keras.Input((*network.space, 1))]
    last = len(network.widths) - 1
    for i, (n_out, side) in enumerate(zip(network.widths, network.kernels, strict=True)):
        if i == last:
            layers.append(keras.layers.Dropout(DROPOUT))
        layers.append(convolution(n_out, side, padding="same", activation="relu", **dense))
        if network.batch_norm[i]:
            layers.append(keras.layers.BatchNormalization())
        pool = keras.layers.AveragePooling2D if network.averages[i] else maximum
        layers.append(pool(network.pool, network.stride, padding="same"))
    layers += [keras.layers.Flatten(), keras.layers.Dense(network.dense, "relu", **dense)]
    if network.name == "cnn1d":
        layers.append(keras.layers.BatchNormalization())
    if network.name == "paper":
        layers.append(keras.layers.Dropout(DROPOUT))
    layers.append(keras.layers.Dense(N_CLASSES, "softmax", **dense))
    model = keras.Sequential(layers)
    choices = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    model.compile(
        choices[network.optimizer](LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def make(
    network: Network, batch: int, precision: str, n_examples: int = N_EXAMPLES
) -> tuple[dict[str, Any], Callable[[int], Any]]:
    """What it is, and a function that trains some steps and waits for them."""
    keras.utils.set_random_seed(0)
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(network)
    random = np.random.default_rng(0)
    x = random.standard_normal((n_examples, *network.space, 1), np.float32)
    label = random.integers(0, N_CLASSES, n_examples)

    def run(n_steps: int) -> float:
        # Not fit: what it waits with at the end of an epoch polls ever more rarely, so that its
        # rounds last 1.3 s, 2.6 s, 5.1 s or 10.3 s, whatever the steps take.
        order = random.permutation(n_examples)
        for step in range(n_steps):
            rows = batch_of(order, step, batch)
            logs = model.train_on_batch(x[rows], label[rows])
        return float(logs[0])

    import tensorflow

    gpus = tensorflow.config.list_physical_devices("GPU")
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return {
        "library": f"Keras {keras.__version__}, TensorFlow {tensorflow.__version__}",
        "parameters": trained,
        "device": "gpu" if gpus else "cpu",
    }, run
