"""Whether the classes can be told apart by what has nothing to do with what they show.

Size, shape, compression, brightness, contrast and colour of a photo tell how it was taken and stored. A model that
sees only these should not beat the most frequent class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockpot.photos.photo import Photo
from stockpot.photos.pixels import read_photo

FOLDS = 5
NAMES = ("size", "shape", "compression", "brightness", "contrast", "colour")
CONTRAST = NAMES.index("contrast")  # standard deviation of gray values, of 255


@dataclass(frozen=True)
class Shortcut:
    """What a model of appearance alone reaches."""

    accuracy: float  # cross-validated, near duplicates held out together
    majority: float  # of always saying the most frequent class
    n: int
    p: float  # one-sided exact binomial test against `majority`
    by: str  # the property that tells most by itself

    @property
    def found(self) -> bool:
        """Tell whether it beats the most frequent class by more than chance, and noticeably."""
        return self.p < 0.01 and self.accuracy > self.majority + 0.05


def appearance(photo: Photo) -> list[float]:
    """Return the properties `NAMES` of a photo."""
    pixels = np.asarray(read_photo(photo.path, at_least=64), np.float64)
    gray = pixels.mean(axis=2)
    area = photo.width * photo.height
    return [
        math.log(area),
        math.log(photo.width / photo.height),
        math.log(photo.path.stat().st_size / area),
        float(gray.mean()),
        float(gray.std()),
        float(np.ptp(pixels, axis=2).mean()),
    ]


def find_shortcut(
    looks: NDArray[np.float64], labels: NDArray[np.int64], groups: Sequence[str]
) -> Shortcut | None:
    """Return how well appearance alone tells the classes; None with too few photos.

    Args:
        looks: `(N, 6)` of every photo.
        labels: `(N,)` indices of classes.
        groups: N of them; what is in one group is held out together.
    """
    from scipy.stats import binomtest

    if np.bincount(labels).min() < FOLDS:
        return None
    right = _right(looks, labels, groups)
    alone = [_right(looks[:, [i]], labels, groups).mean() for i in range(len(NAMES))]
    majority = float(np.bincount(labels).max() / len(labels))
    p = binomtest(int(right.sum()), len(right), majority, alternative="greater").pvalue
    return Shortcut(float(right.mean()), majority, len(right), float(p), NAMES[int(np.argmax(alone))])


def _right(looks: NDArray[np.float64], labels: NDArray[np.int64], groups: Sequence[str]) -> NDArray[np.bool_]:
    """Return for every photo whether a forest that has not seen it names its class."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    right = np.zeros(len(labels), bool)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for learned, held in folds.split(looks, labels, groups):
        forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
        right[held] = forest.fit(looks[learned], labels[learned]).predict(looks[held]) == labels[held]
    return right
