"""Whether the classes can be told apart by what has nothing to do with what they show.

Size, shape, compression, brightness and colour of a photo tell how it was taken and stored. A model that sees only
these should do no better than one that sees nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stockpot.errors import UnreadablePhoto
from stockpot.photos.photo import Photo, short_name
from stockpot.photos.pixels import bytes_of, decode

FEWEST = 10  # photos of a class below which it is left out
FOLDS = 5
SHUFFLES = 2_000  # of the permutation test
MARGIN = 0.05  # above chance that is worth a warning


class Looks(NamedTuple):
    """What can be said of a photo without looking at what it shows."""

    size: float  # logarithm of the number of pixels
    shape: float  # logarithm of width / height
    compression: float  # logarithm of bytes a pixel
    brightness: float  # mean of all values, of 255
    colour: float  # mean difference of the largest and the smallest channel
    range: float  # largest less smallest value of the channel where that is most


PROPERTIES = Looks._fields[:-1]  # that a shortcut can go by


@dataclass(frozen=True)
class Shortcut:
    """What a model of such properties alone reaches."""

    accuracy: float  # balanced: the mean of the classes' accuracies; cross-validated
    chance: float  # 1 / K, what a model reaches that sees nothing
    n: int  # photos, one of every group of near duplicates
    p: float  # one-sided, of a permutation test
    by: str  # the property whose class means are farthest apart, by the variance within a class

    @property
    def found(self) -> bool:
        """Tell whether it beats chance by more than chance could, and noticeably."""
        return self.p < 0.01 and self.accuracy > self.chance + MARGIN


def look_at(photo: Photo) -> Looks:
    """Return the properties of a photo, from all its pixels.

    Raises:
        UnreadablePhoto: it has changed since it was indexed.
    """
    try:
        data = bytes_of(photo)
        pixels = np.asarray(decode(data))
    except UnreadablePhoto as error:
        raise UnreadablePhoto(f"{short_name(photo.path)} {error}: try again.") from None
    area = photo.width * photo.height
    lowest, highest = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    return Looks(
        size=math.log(area),
        shape=math.log(photo.width / photo.height),
        compression=math.log(len(data) / area),
        brightness=float(pixels.mean()),
        colour=float(np.ptp(pixels, axis=2).mean()),
        range=float((highest.astype(int) - lowest).max()),
    )


def find_shortcut(looks: Sequence[Looks], labels: Sequence[str], groups: Sequence[str]) -> Shortcut | None:
    """Return how well such properties alone tell the classes; None with too few photos.

    Args:
        looks: of N photos.
        labels: their classes.
        groups: of near duplicates, of which only one photo is looked at.
    """
    firsts = sorted({group: i for i, group in reversed(list(enumerate(groups)))}.values())
    counts = {label: sum(labels[i] == label for i in firsts) for label in set(labels)}
    names = sorted(label for label, count in counts.items() if count >= FEWEST)
    if len(names) < 2:
        return None
    used = [i for i in firsts if labels[i] in names]
    truth = np.array([names.index(labels[i]) for i in used])
    x = np.array([looks[i][: len(PROPERTIES)] for i in used])
    answers = _answers(x, truth)
    accuracy = _balanced(answers[None], truth)[0]
    chance = np.random.default_rng(0)
    shuffled = _balanced(np.stack([chance.permutation(answers) for _ in range(SHUFFLES)]), truth)
    p = (1 + np.sum(shuffled >= accuracy)) / (1 + SHUFFLES)
    by = PROPERTIES[int(np.argmax(_apart(x, truth)))]
    return Shortcut(float(accuracy), 1 / len(names), len(used), float(p), by)


def _answers(x: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for every photo the class that a forest says that has not seen it."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold

    answers = np.zeros_like(truth)
    for learned, held in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, truth):
        forest = RandomForestClassifier(
            100, min_samples_leaf=5, class_weight="balanced", random_state=0, n_jobs=-1
        )
        answers[held] = forest.fit(x[learned], truth[learned]).predict(x[held])
    return answers


def _apart(x: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for every column how far the classes' means are apart, by the variance within a class."""
    members = [x[truth == k] for k in np.unique(truth)]
    between = np.stack([rows.mean(axis=0) for rows in members]).var(axis=0)
    within = np.stack([rows.var(axis=0) for rows in members]).mean(axis=0)
    return np.asarray(between / np.maximum(within, 1e-12))


def _balanced(answers: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of the classes' accuracies for each row of answers `(R, N)`."""
    right = answers == truth
    shares: NDArray[np.float64] = np.stack([right[:, truth == k].mean(axis=1) for k in np.unique(truth)])
    return np.asarray(shares.mean(axis=0))
