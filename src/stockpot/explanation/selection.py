"""Which validation photos of a run are worth a look: varied correct ones, and the mistakes.

`n` photos, `C` channels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.explanation.explanation import Explanation, explain_maps
from stockpot.explanation.mistakes import Mistake, beside_nearest
from stockpot.learning.features import Features, cached_features
from stockpot.learning.models import model_engine
from stockpot.learning.runs import Run
from stockpot.model.model_file import read_model
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split
from stockpot.progress import Progress, silent

CORRECT_PHOTOS = 12  # of all classes together


@dataclass(frozen=True)
class Selection:
    """Explained validation photos of a run."""

    correct: tuple[Explanation, ...]  # class by class, within a class the most typical first
    mistakes: tuple[Mistake, ...]  # the surest first
    logits: NDArray[np.float32]  # (N, K) of all validation photos, in their order
    rejected: int  # of them resemble no class


def explain_run(project: disk.Project, run: Run, split: Split, progress: Progress = silent) -> Selection:
    """Return the explained photos that a report shows; from cached maps where they are cached.

    Where there are mistakes, training photos too are seen through the run's own network, for what a mistake
    resembles: of a fine-tuned one that is a pass over them, once.

    Raises:
        ProjectError: the run was made on another split than `split`.
    """
    if run.split_fingerprint != split.fingerprint:
        raise ProjectError(
            f"The photos have changed since run {run.name!r} was made: stockpot study {project.folder}"
        )
    model = read_model(run.model_path)
    photos = split.validation

    def features_of(some: tuple[Photo, ...]) -> Features:
        return cached_features(
            project, some, model.key, model.preprocessing, lambda: model_engine(model, progress), progress
        )

    features = features_of(photos)
    logits = features.pooled @ model.weight.T + model.bias
    truth = np.array([model.class_names.index(photo.label) for photo in photos])
    right = logits.argmax(axis=1) == truth
    per_class = max(1, math.ceil(CORRECT_PHOTOS / len(model.class_names)))
    chosen: list[int] = []
    for k in range(len(model.class_names)):
        members = np.flatnonzero(right & (truth == k))
        chosen += [int(members[i]) for i in farthest_first(features.pooled[members], per_class)]
    varied = farthest_first(features.pooled[chosen], CORRECT_PHOTOS)  # all, unless classes are many
    chosen = [chosen[i] for i in sorted(varied)]

    def explained(index: int) -> Explanation:
        photo = photos[index]
        return explain_maps(model, photo.path, features.maps(index), logits[index], photo.label)

    mistakes: list[Mistake] = []
    if len(wrong := np.flatnonzero(~right)):
        mistakes = beside_nearest(
            [photos[index] for index in wrong],
            [explained(int(index)) for index in wrong],
            features.pooled[wrong],
            split.training,
            features_of(split.training).pooled,
        )
    mistakes.sort(key=lambda mistake: -mistake.explanation.probability)
    rejected = int(model.rejection.rejects(features.pooled).sum()) if model.rejection else 0
    return Selection(tuple(map(explained, chosen)), tuple(mistakes), logits, rejected)


def farthest_first(features: NDArray[np.float32], count: int) -> list[int]:
    """Return up to `count` rows of `(n, C)` that differ as much as possible.

    The first is the one nearest to the mean; each next one is the farthest from all before it. Gonzalez,
    "Clustering to minimize the maximum intercluster distance", 1985.
    """
    if not len(features):
        return []
    chosen = [int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())]
    distance = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < min(count, len(features)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen
