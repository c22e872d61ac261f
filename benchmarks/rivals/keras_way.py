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
    base = keras.applications.Xception(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    base.set_weights(keras.saving.load_model(weights, compile=False).get_layer("xception").get_weights())
    state.update(base=base, classes=classes, sides=sides, folder=photos)


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


def _model(trainable: bool, rate: float) -> keras.Model:
    base = state["base"]
    base.trainable = trainable
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    outputs = keras.layers.Dense(state["classes"])(keras.layers.Dropout(0.2)(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(rate), _loss(), ["accuracy"])
    return model


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


def _loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


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
    model = _model(False, 1e-3)
    history = model.fit(
        _dataset("training", True), validation_data=_dataset("validation", False), epochs=epochs
    )
    return {"history": history.history}


def cached(epochs: int) -> dict[str, Any]:
    """Compute features of all photos once, then train a head on them."""
    state["base"].trainable = False
    pooled = keras.Sequential(
        [
            keras.layers.Rescaling(scale=1 / 127.5, offset=-1),
            state["base"],
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    arrays = {}
    for side in ("training", "validation"):
        photos = _dataset(side, False)
        arrays[side] = pooled.predict(photos), np.array([label for _, label in state["sides"][side]])
    head = keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(state["classes"])])
    head.compile(keras.optimizers.Adam(1e-3), _loss(), ["accuracy"])
    history = head.fit(*arrays["training"], validation_data=arrays["validation"], epochs=epochs)
    return {"history": history.history}


def predict() -> dict[str, Any]:
    """Classify all photos as they lie on disk."""
    if "model" not in state:
        state["model"] = _model(False, 1e-3)
    for side in ("training", "validation"):
        state["model"].predict(_dataset(side, False), verbose=0)
    return {}


def step(count: int) -> dict[str, float]:
    """Fine-tune all layers on noise photos, after one batch that warms up."""
    if "tuned" not in state:
        state["tuned"] = _model(True, 1e-5)
    photos = np.random.default_rng(0).uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(BATCH) % state["classes"]
    state["tuned"].train_on_batch(photos, labels)
    started = time.perf_counter()
    for _ in range(count // BATCH):
        state["tuned"].train_on_batch(photos, labels)
    return {"rate": count / (time.perf_counter() - started)}


if __name__ == "__main__":
    serve(
        {
            "load": load,
            "forward": forward,
            "frozen": frozen,
            "cached": cached,
            "predict": predict,
            "step": step,
        }
    )
