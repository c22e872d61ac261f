"""None of these: a photo whose features point elsewhere than those of every class.

A class is the mean direction of its photos' features; a photo's distance is one minus the cosine of the angle to
the nearest of them. `N` photos, `K` classes, `C` channels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HeldOut = Literal["training", "validation"]  # training photos are held out in turn
RATE = 0.05  # of photos of the classes that are rejected all the same


@dataclass(frozen=True, eq=False)
class Rejection:
    """When a model says that a photo is none of its classes."""

    directions: NDArray[np.float32]  # (K, C), of length 1
    threshold: float  # distance beyond which a photo is none of these
    rate: float  # share of photos of the classes that are farther away, where it was chosen
    n: int  # photos that it was chosen on
    held_out: HeldOut  # which photos

    def distances(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return distances `(N,)` of pooled features `(N, C)`; features that are all zero are as far as can be."""
        return nearest_distances(features, self.directions)

    def rejects(self, features: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell of pooled features `(N, C)` whether they are none of the classes: `(N,)`."""
        return self.distances(features) > self.threshold


def mean_directions(
    features: NDArray[np.floating], labels: NDArray[np.integer], classes: int
) -> NDArray[np.float32]:
    """Return the mean direction of each class `(K, C)`, from `(N, C)` features and `(N,)` labels."""
    rays = unit(features)
    return unit(np.stack([rays[labels == k].mean(axis=0) for k in range(classes)]))


def nearest_distances(
    features: NDArray[np.floating], directions: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return distances `(N,)` of features `(N, C)` to the nearest of some directions `(K, C)`."""
    return np.asarray(1 - (unit(features) @ directions.T).max(axis=1))


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)
