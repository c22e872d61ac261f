"""What a model knows of itself: how sure it may be, and which photos are none of its classes.

Both are fitted on photos that what they are computed from has not learned from. Where only the head learned, these
are the training photos, held out in turn; where more did, the features of training photos are flattered, and the
validation photos are used. `N` photos, `K` classes, `C` channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stockpot.learning.calibration import fit_temperature
from stockpot.learning.classifier import new_head
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import fixed
from stockpot.learning.recipes import Recipe
from stockpot.model.model_file import Calibration
from stockpot.model.rejection import RATE, Rejection, mean_directions, nearest_distances

FOLDS = 5

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def know_from_folds(
    recipe: Recipe, features: Features, labels: Labels, groups: Sequence[str], classes: int
) -> tuple[Calibration, Rejection] | None:
    """Return what a trained head knows, from heads of the same recipe that have not seen a fold.

    Args:
        recipe: of the head.
        features: `(N, C)` of the training photos.
        labels: `(N,)`.
        groups: N of them; photos of a group are held out together.
        classes: K.

    Returns:
        None where a class has a single group: it cannot be held out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    members = np.array(groups)
    fewest = min(len(set(members[labels == k])) for k in range(classes))
    if fewest < 2:
        return None
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=recipe.seed)
    logits, distances = np.zeros((len(labels), classes), np.float32), np.zeros(len(labels), np.float32)
    for learned, held in folds.split(features, labels, list(groups)):
        if len(set(labels[learned])) < classes:
            return None
        logits[held] = _logits(recipe, features, labels, learned, held, classes)
        directions = mean_directions(features[learned], labels[learned], classes)
        distances[held] = nearest_distances(features[held], directions)
    directions = mean_directions(features, labels, classes)
    return _calibration(logits, labels, "training"), _rejection(directions, distances, "training")


def know_from_validation(
    features: Features, labels: Labels, seen: Features, truth: Labels, logits: NDArray[np.float32]
) -> tuple[Calibration, Rejection]:
    """Return what a model knows, from validation photos.

    Args:
        features: of the training photos.
        labels: of them.
        seen: features of the validation photos `(N, C)`.
        truth: their labels `(N,)`.
        logits: what the model gives them `(N, K)`.
    """
    directions = mean_directions(features, labels, logits.shape[1])
    distances = nearest_distances(seen, directions)
    return _calibration(logits, truth, "validation"), _rejection(directions, distances, "validation")


def _logits(
    recipe: Recipe, features: Features, labels: Labels, learned: Labels, held: Labels, classes: int
) -> NDArray[np.float32]:
    """Train a head on some rows and return what it gives others."""
    head = new_head(features.shape[1], classes, recipe.seed)
    training, validation = (
        fixed(torch.from_numpy(features[rows]), torch.from_numpy(labels[rows])) for rows in (learned, held)
    )
    fit(head, training, validation, recipe)
    with torch.no_grad():
        return np.asarray(head(torch.from_numpy(features[held])).numpy())


def _calibration(logits: NDArray[np.float32], labels: Labels, held_out: str) -> Calibration:
    return Calibration(fit_temperature(logits, labels), len(labels), held_out)


def _rejection(directions: NDArray[np.float32], distances: NDArray[np.float32], held_out: str) -> Rejection:
    """Choose the distance beyond which a share of `RATE` lies; of few photos none does."""
    threshold = float(np.quantile(distances, 1 - RATE, method="higher"))
    rate = float((distances > threshold).mean())
    return Rejection(directions, threshold, rate, len(distances), held_out)
