"""What a model knows of itself: how sure it may be, and which photos are none of its classes.

Both are fitted on photos that what they are computed from has not learned from. Where only the head learned, to its
end, these are the training photos, held out in turn; else the validation photos are used: features of photos that a
backbone has learned from are flattered. `N` photos, `K` classes, `C` channels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stockpot.learning.calibration import fit_temperature
from stockpot.learning.classifier import new_head
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import Inputs, fixed
from stockpot.learning.recipes import Recipe
from stockpot.model.model_file import Calibration
from stockpot.model.rejection import RATE, HeldOut, Rejection, mean_directions, nearest_distances
from stockpot.progress import Progress, silent

FOLDS = 5

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def know_from_folds(
    recipe: Recipe,
    features: Features,
    labels: Labels,
    groups: Sequence[str],
    classes: int,
    validation: Inputs,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> tuple[Calibration, Rejection] | None:
    """Return what a head that was trained to its end knows, from heads of its recipe that have not seen a fold.

    Args:
        recipe: of the head.
        features: `(N, C)` of the training photos.
        labels: `(N,)`.
        groups: N of them; photos of a group are held out together.
        classes: K.
        validation: by which a recipe may choose an epoch, as it did for the head.
        stop: asked before every fold.
        progress: told after every fold.

    Returns:
        None where a class has a single group, which cannot be held out, or `stop` said so.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    members = np.array(groups)
    fewest = min(len(set(members[labels == k])) for k in range(classes))
    if fewest < 2:
        return None
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=recipe.seed)
    logits, distances = np.zeros((len(labels), classes), np.float32), np.zeros(len(labels), np.float32)
    parts = list(folds.split(features, labels, list(groups)))
    for done, (learned, held) in enumerate(parts, 1):
        if stop() or len(set(labels[learned])) < classes:
            return None
        head = new_head(features.shape[1], classes, recipe.seed)
        training = fixed(torch.from_numpy(features[learned]), torch.from_numpy(labels[learned]))
        fit(head, training, validation, recipe)
        with torch.no_grad():
            logits[held] = head(torch.from_numpy(features[held])).numpy()
        directions = mean_directions(features[learned], labels[learned], classes)
        distances[held] = nearest_distances(features[held], directions)
        progress("calibrating", done, len(parts))
    directions = mean_directions(features, labels, classes)
    return _calibration(logits, labels, "training"), _rejection(directions, distances, "training")


def calibrate_by_validation(logits: NDArray[np.float32], truth: Labels) -> Calibration:
    """Return how sure a model may be, from the logits `(N, K)` and labels of validation photos."""
    return _calibration(logits, truth, "validation")


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


def _calibration(logits: NDArray[np.float32], labels: Labels, held_out: HeldOut) -> Calibration:
    return Calibration(fit_temperature(logits, labels), len(labels), held_out)


def _rejection(
    directions: NDArray[np.float32], distances: NDArray[np.float32], held_out: HeldOut
) -> Rejection:
    """Choose the distance beyond which a share of `RATE` lies; of few photos none does."""
    threshold = float(np.quantile(distances, 1 - RATE, method="higher"))
    rate = float((distances > threshold).mean())
    return Rejection(directions, threshold, rate, len(distances), held_out)
