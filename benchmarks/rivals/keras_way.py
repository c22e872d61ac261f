"""What a user of Keras does, as its transfer learning guide shows it: keras.io/guides/transfer_learning.

The base model is called with `training=False`; while it is frozen the whole of it still runs in every epoch,
because the photos are augmented before it. `cached` is the usual remedy: features once, then a head on arrays.
"""

import os
import time
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import keras
import numpy as np
import tensorflow as tf
from worker import serve

SIZE, BATCH = 256, 32
state: dict[str, Any] = {}


def load(weights: str, classes: int, photos: str, sides: dict[str, list[tuple[str, int]]]) -> None:
    """Build the model of the guide around Xception with given weights; list the photos of both sides."""
    given = keras.saving.load_model(weights, compile=False).get_layer("xception").get_weights()
    state.update(base=_base(given), classes=classes, sides=sides, folder=photos)


def _base(weights: list[np.ndarray]) -> keras.Model:
    base = keras.applications.Xception(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    base.set_weights(weights)
    return base


def _dataset(side: str, augmented: bool) -> tf.data.Dataset:
    """Return photos of a side in batches, decoded ahead, varied before the network as in the guide."""
    files, labels = zip(*state["sides"][side], strict=True)
    vary = keras.Sequential([keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)])

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        photo = tf.io.decode_image(tf.io.read_file(file), channels=3, expand_animations=False)
        return tf.image.resize(photo, (SIZE, SIZE)), label

    rows = tf.data.Dataset.from_tensor_slices(
        ([str(Path(state["folder"], file)) for file in files], list(labels))
    )
    if augmented:
        rows = rows.shuffle(len(files), seed=0)
    batches = rows.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    if augmented:
        batches = batches.map(lambda x, y: (vary(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


class Clock(keras.callbacks.Callback):
    """Seconds of every epoch, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.last = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Note how long it took; the first one also pays for building and tracing."""
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def _new_head() -> keras.Sequential:
    return keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(state["classes"])])


def _loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _model(trainable: bool, rate: float, head: keras.Sequential | None = None) -> keras.Model:
    base = state["base"]
    base.trainable = trainable
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    model = keras.Model(inputs, (head or _new_head())(x))
    model.compile(keras.optimizers.Adam(rate), _loss(), metrics=["accuracy"])
    return model


def _fit_head(head: keras.Sequential, epochs: int) -> dict[str, list[float]]:
    """Let a head learn from features, which are computed once and kept in `state`; return its history."""
    if "features" not in state:
        state["features"] = {side: _features(side) for side in ("training", "validation")}
    arrays = state["features"]
    history = head.fit(*arrays["training"], validation_data=arrays["validation"], epochs=epochs, verbose=0)
    return history.history


def _compiled_head() -> keras.Sequential:
    head = _new_head()
    head.compile(keras.optimizers.Adam(1e-3), _loss(), metrics=["accuracy"])
    return head


def _features(side: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features `(N, C)` of a side's photos as they are, and their labels `(N,)`."""
    state["base"].trainable = False
    rescaling = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)
    pooled = keras.Sequential([rescaling, state["base"], keras.layers.GlobalAveragePooling2D()])
    labels = np.array([label for _, label in state["sides"][side]])
    return pooled.predict(_dataset(side, False), verbose=0), labels


def forward(count: int) -> dict[str, float]:
    """Send noise photos through the base model, after one batch that warms up."""
    if "predict" not in state:
        state["predict"] = tf.function(lambda x: state["base"](x, training=False))
    batch = tf.random.uniform((BATCH, SIZE, SIZE, 3), -1, 1)
    state["predict"](batch)
    started = time.perf_counter()
    for _ in range(count // BATCH):
        state["predict"](batch).numpy()
    return {"rate": count / (time.perf_counter() - started)}


def frozen(epochs: int) -> dict[str, Any]:
    """Train the head with the base model frozen, the guide's way."""
    return _fit(_model(False, 1e-3), epochs)


def _fit(model: keras.Model, epochs: int) -> dict[str, Any]:
    clock = Clock()
    history = model.fit(
        _dataset("training", True),
        validation_data=_dataset("validation", False),
        epochs=epochs,
        callbacks=[clock],
        verbose=2,
    )
    return {"epoch_seconds": clock.seconds, "history": history.history}


def cached(epochs: int) -> dict[str, Any]:
    """Compute features of all photos once, then train a head on them."""
    state.pop("features", None)
    history = _fit_head(_compiled_head(), epochs)
    return {"accuracy": history["val_accuracy"][-1], "loss": history["val_loss"][-1]}


def refit(epochs: int) -> dict[str, float]:
    """Train a head again on cached features without the first photo; it is built and traced before."""
    head = _compiled_head()
    _fit_head(head, 1)
    kept = state["features"]
    features, labels = kept["training"]
    started = time.perf_counter()
    head.layers[-1].set_weights([np.zeros_like(weights) for weights in head.layers[-1].get_weights()])
    head.fit(features[1:], labels[1:], epochs=epochs, verbose=0)
    accuracy = head.evaluate(*kept["validation"], verbose=0)[1]
    return {"update_seconds": time.perf_counter() - started, "accuracy": float(accuracy)}


def tune(epochs: int) -> dict[str, Any]:
    """Fine-tune all layers, the guide's way, after a head has learned from cached features; seed 0."""
    keras.utils.set_random_seed(0)
    head = _compiled_head()
    before = _fit_head(head, 20)
    return _fit(_model(True, 1e-5, head), epochs) | {"head_loss": before["val_loss"][-1]}


def predict(count: int) -> dict[str, float]:
    """Classify photos as they lie on disk, some of them twice to have as many as asked for; one batch warms up."""
    if "model" not in state:
        state["model"] = _model(False, 1e-3)
    rows = [row for side in state["sides"].values() for row in side]
    for some in (BATCH, count):
        started = time.perf_counter()
        state["sides"]["some"] = [rows[number % len(rows)] for number in range(some)]
        state["model"].predict(_dataset("some", False), verbose=0)
    del state["sides"]["some"]
    return {"seconds": time.perf_counter() - started}


def save(file: str) -> None:
    """Write the model as a user would keep it."""
    _model(False, 1e-3).save(file)


def step(count: int, precision: str) -> dict[str, Any]:
    """Fine-tune all layers on noise photos, after one batch that warms up; `precision` is a policy of Keras."""
    if precision not in state:
        keras.mixed_precision.set_global_policy(precision)
        kept = state["base"]
        state["base"] = _base(kept.get_weights())
        state[precision] = _model(True, 1e-5)
        state["base"] = kept
        keras.mixed_precision.set_global_policy("float32")
    photos = np.random.default_rng(0).uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(BATCH) % state["classes"]
    state[precision].train_on_batch(photos, labels)
    started = time.perf_counter()
    for _ in range(count // BATCH):
        state[precision].train_on_batch(photos, labels)
    return {"rate": count / (time.perf_counter() - started), "precision": precision}


if __name__ == "__main__":
    tasks = (load, forward, frozen, cached, refit, tune, predict, save, step)
    serve({task.__name__: task for task in tasks})
