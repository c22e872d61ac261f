"""What a photo resembles: the training photos whose features are nearest to its own.

Near is what has a small angle: logits grow with the length of features, classes follow the angle. `n` photos,
`m` training photos, `C` channels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.explanation.explanation import Explanation
from stockpot.learning.features import cached_features
from stockpot.learning.models import model_engine
from stockpot.model.rejection import unit
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split
from stockpot.progress import Progress, silent


@dataclass(frozen=True)
class Neighbor:
    """A training photo, and how near it is."""

    photo: Photo
    cosine: float  # 1: the same direction


def nearest_training_photos(
    project: disk.Project, split: Split, one: Explanation, count: int = 6, progress: Progress = silent
) -> tuple[Neighbor, ...]:
    """Return the training photos nearest to an explained photo, the nearest first.

    Of a model whose backbone has not seen them yet that is a pass over them, once.

    Raises:
        UnreadablePhoto: a photo that could be read before cannot be read now.
        Busy, FolderError: the cache cannot be written.
    """
    model = one.model
    features = cached_features(
        project,
        split.training,
        model.key,
        model.preprocessing,
        lambda: model_engine(model, progress),
        progress,
    ).pooled
    own = one.feature_maps.mean(axis=(1, 2), dtype=np.float32)
    alike = cosines(own[None], features)[0]
    nearest = np.argsort(-alike, kind="stable")[:count]
    return tuple(Neighbor(split.training[i], float(alike[i])) for i in nearest)


def cosines(features: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return cosines `(n, m)` of rows `(n, C)` and `(m, C)`; a row of zeros is near to nothing."""
    return np.asarray(unit(features) @ unit(others).T)
