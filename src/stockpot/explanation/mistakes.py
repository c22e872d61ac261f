"""Photos that a model gets wrong, each beside what it has learned from: the training photos nearest to it.

`n` photos, `m` training photos, `C` channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockpot.explanation.explanation import Explanation
from stockpot.explanation.neighbors import cosines
from stockpot.photos.photo import Photo


@dataclass(frozen=True, eq=False)
class Mistake:
    """A photo that was given another class than its own."""

    photo: Photo
    explanation: Explanation
    like_predicted: Photo  # the training photo of the class it was given whose features are nearest
    like_truth: Photo  # likewise of its own class


def beside_nearest(
    photos: Sequence[Photo],
    explained: Sequence[Explanation],
    features: NDArray[np.float32],
    training: Sequence[Photo],
    training_features: NDArray[np.float32],
) -> list[Mistake]:
    """Return mistakes with the nearest training photos of the class each was given and of its own.

    Args:
        photos: n that are classified wrongly.
        explained: their explanations, whose `truth` is known.
        features: `(n, C)` of them.
        training: m photos, at least one of every class.
        training_features: `(m, C)` of them.
    """
    labels = np.array([photo.label for photo in training])
    alike = cosines(features, training_features)  # (n, m)

    def nearest(row: int, label: str) -> Photo:
        return training[int(np.where(labels == label, alike[row], -np.inf).argmax())]

    return [
        Mistake(photo, one, nearest(row, one.predicted), nearest(row, one.truth))
        for row, (photo, one) in enumerate(zip(photos, explained, strict=True))
    ]
