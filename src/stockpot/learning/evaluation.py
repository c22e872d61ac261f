"""How good a classifier is on some photos, with the interval that their number allows.

`N` photos, `K` classes.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.shapes import checked, made


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class."""

    name: str
    photos: int
    precision: float  # share of the photos given this class that are of it; 0 where none was given it
    recall: float  # share of its photos that were given it; 0 where it has none


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is on `n` photos."""

    n: int
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    loss: float  # mean cross-entropy, nats, of the logits as they were trained, before calibration
    confusion: tuple[tuple[int, ...], ...]  # (K, K): true class in rows, predicted in columns
    per_class: tuple[ClassFigures, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON holds it."""
        return asdict(self)


def from_json(value: dict[str, Any]) -> Evaluation:
    """Return the evaluation that `Evaluation.to_json` wrote.

    Raises:
        Misshapen: it is none.
    """
    checked(value, Evaluation)
    return Evaluation(
        n=value["n"],
        accuracy=value["accuracy"],
        interval=tuple(value["interval"]),
        loss=value["loss"],
        confusion=tuple(map(tuple, value["confusion"])),
        per_class=tuple(made(ClassFigures, figures) for figures in value["per_class"]),
    )


def evaluate_logits(
    logits: NDArray[np.floating], truth: NDArray[np.integer], class_names: tuple[str, ...]
) -> Evaluation:
    """Return the figures of predictions.

    Args:
        logits: `(N, K)`, N at least 1.
        truth: `(N,)`, indices into `class_names`.
        class_names: K names in the order of the head.
    """
    from scipy.special import log_softmax
    from scipy.stats import binomtest
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted = logits.argmax(axis=1)
    correct = int((predicted == truth).sum())
    low, high = binomtest(correct, len(truth)).proportion_ci(method="wilson")
    everyone = range(len(class_names))
    precision, recall, _, support = precision_recall_fscore_support(
        truth, predicted, labels=everyone, zero_division=0.0
    )
    chosen = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(truth)), truth]
    return Evaluation(
        n=len(truth),
        accuracy=correct / len(truth),
        interval=(float(low), float(high)),
        loss=float(-chosen.mean()),
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(truth, predicted, labels=everyone)),
        per_class=tuple(
            ClassFigures(name, int(support[k]), float(precision[k]), float(recall[k]))
            for k, name in enumerate(class_names)
        ),
    )
