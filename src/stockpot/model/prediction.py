"""A model file and an engine together: photos in, one prediction a photo out, in order.

`N` photos, `K` classes, `C` channels, `h`, `w` cells of a feature map.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockpot.errors import UnreadablePhoto
from stockpot.model.engine import BATCH_SIZE, Engine
from stockpot.model.model_file import ModelFile
from stockpot.photos.preprocessing import Pixels, stream_prepared

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file; `label` is empty and `error` says why where it cannot be decoded.

    `label` is the likeliest class also of what is none of them.
    """

    path: Path
    label: str
    probability: float  # of `label`
    probabilities: tuple[float, ...]  # in the order of class_names
    error: str = ""
    none_of_these: bool | None = None  # it resembles no class; None: the model cannot say


@dataclass(frozen=True)
class Predictor:
    """A finished model, ready to run."""

    model: ModelFile
    engine: Engine

    def logits(self, features: NDArray[np.floating]) -> Logits:
        """Return `(N, K)` logits of `(N, C)` pooled features."""
        return np.asarray(features @ self.model.weight.T + self.model.bias, np.float32)

    def predict(self, paths: Iterable[Path]) -> Iterator[Prediction]:
        """Yield a prediction for every path, in order; a bad file becomes one with an `error`."""
        for path, answer in self.stream(paths):
            yield self.judge(path, answer)

    def judge(self, path: Path, answer: NDArray[np.float32] | UnreadablePhoto) -> Prediction:
        """Return what the model says of a photo with pooled features `(C,)`, or why it says nothing."""
        if isinstance(answer, UnreadablePhoto):
            return Prediction(path, "", 0.0, (), str(answer))
        rejection = self.model.rejection
        probabilities = calibrated(self.logits(answer), self.model)
        best = int(probabilities.argmax())
        return Prediction(
            path,
            self.model.class_names[best],
            float(probabilities[best]),
            tuple(map(float, probabilities)),
            none_of_these=bool(rejection.rejects(answer[None])[0]) if rejection else None,
        )

    def stream(self, paths: Iterable[Path]) -> Iterator[tuple[Path, NDArray[np.float32] | UnreadablePhoto]]:
        """Yield the pooled features `(C,)` of every path, in order, or why there are none."""
        for batch in batches(paths, self):
            pixels = [answer for _, answer in batch if not isinstance(answer, UnreadablePhoto)]
            features = iter(self.engine.run(np.stack(pixels))[0] if pixels else ())
            for path, answer in batch:
                yield path, answer if isinstance(answer, UnreadablePhoto) else next(features)


def batches(
    paths: Iterable[Path], predictor: Predictor
) -> Iterator[list[tuple[Path, Pixels | UnreadablePhoto]]]:
    """Yield prepared photos, `BATCH_SIZE` at a time."""
    batch = []
    for pair in stream_prepared(paths, predictor.model.preprocessing):
        batch.append(pair)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def calibrated(logits: Logits, model: ModelFile) -> NDArray[np.float32]:
    """Return the probabilities that a model gives with some logits, along the last axis."""
    return softmax(logits / np.float32(model.calibration.temperature))


def softmax(logits: Logits) -> NDArray[np.float32]:
    """Return probabilities of logits along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
