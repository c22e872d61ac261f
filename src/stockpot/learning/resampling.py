"""What one split cannot tell: cross-validation, and whether more photos would help. On cached features.

`N` photos, `C` channels, `K` classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.learning.features import cached_features
from stockpot.learning.models import model_engine
from stockpot.learning.runs import Run
from stockpot.model.model_file import read_model
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split
from stockpot.progress import Progress, silent

if TYPE_CHECKING:
    from stockpot.learning.recipes import Recipe

FOLDS = 5
SHARES = (0.1, 0.2, 0.4, 0.8, 1.0)  # of the training photos
DRAWS = 4  # of photos at each share below 1
_FORMAT = "2"  # of what is kept
SMALL_GAIN = 0.02  # of accuracy, that would not be worth the work


@dataclass(frozen=True)
class Resampled:
    """Accuracies of the same recipe with other seeds, or on other parts of the photos."""

    accuracies: tuple[float, ...]
    interval: tuple[float, float] | None = None  # 95 %, Wilson, of all photos where each was held out once

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.accuracies)

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """Their standard deviation, with n - 1."""
        return float(np.std(self.accuracies, ddof=1)) if self.count > 1 else 0.0

    def __str__(self) -> str:
        """Return mean and standard deviation in words."""
        spread = f"standard deviation {self.deviation:.1%}"
        if self.interval:
            low, high = self.interval
            return f"{self.mean:.1%} (95 % interval {low:.1%} to {high:.1%}, {spread})"
        return f"{self.mean:.1%} ({spread})"


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy on the validation photos with fewer training photos."""

    photos: tuple[int, ...]  # training photos
    accuracies: tuple[tuple[float, ...], ...]  # of every draw
    n: int  # validation photos
    gain_interval: tuple[float, float]  # 95 %, of `gain`, paired by photo

    @property
    def means(self) -> tuple[float, ...]:
        """Mean accuracy at each number of photos."""
        return tuple(float(np.mean(draws)) for draws in self.accuracies)

    @property
    def gain(self) -> float:
        """Accuracy with all photos minus that with 40 % of them."""
        return self.means[-1] - self.means[-3]

    @property
    def answer(self) -> Literal["likely", "unclear", "little"]:
        """Tell whether more photos would help, as far as so many validation photos can tell."""
        low, high = self.gain_interval
        if low > 0:
            return "likely"
        return "little" if high < SMALL_GAIN else "unclear"

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % intervals (Wilson) of the means, as far as the number of validation photos makes them uncertain."""
        from scipy.stats import binomtest

        tests = (binomtest(round(mean * self.n), self.n) for mean in self.means)
        return tuple(tuple(map(float, test.proportion_ci(method="wilson"))) for test in tests)  # type: ignore[misc]

    def __str__(self) -> str:
        """Answer whether more photos would help."""
        points = ", ".join(f"{n}: {mean:.1%}" for n, mean in zip(self.photos, self.means, strict=True))
        low, high = (100 * end for end in self.gain_interval)
        photos = f"{self.photos[-3]} to {self.photos[-1]}"
        gain = f"{100 * self.gain:+.1f} points ({low:+.1f} to {high:+.1f}) from {photos} photos"
        words = {
            "likely": "likely",
            "unclear": "it cannot be told from so few validation photos",
            "little": "not much",
        }
        return f"would more photos help? {words[self.answer]}: {gain}; {points}"


def cross_validate(
    project: disk.Project, run: Run, split: Split, progress: Progress = silent
) -> Resampled | None:
    """Return the accuracies of a linear probe on five parts of all photos, each held out once.

    Near duplicates stay in one part. Computed once a run. None where a class has fewer than five groups.
    """
    photos = split.training + split.validation
    groups = {name: {photo.group for photo in photos if photo.label == name} for name in split.class_names}
    if min(map(len, groups.values())) < FOLDS:
        return None
    kept = run.folder / "cross_validation.json"
    if value := _kept(kept, run, _Folds):
        return Resampled(tuple(value["accuracies"]), tuple(value["interval"]))
    from sklearn.model_selection import StratifiedGroupKFold

    x, y = _features(project, run, photos, progress)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=run.recipe["seed"])
    parts = list(folds.split(x, y, [photo.group for photo in photos]))
    right = []
    for done, (learned, held) in enumerate(parts, 1):
        right.append(_right(run, x, y, learned, held))
        progress("cross-validating", done, FOLDS)
    found = Resampled(tuple(float(part.mean()) for part in right), wilson(np.concatenate(right)))
    _keep(kept, run, asdict(found))
    return found


def learning_curve(
    project: disk.Project, run: Run, split: Split, progress: Progress = silent
) -> LearningCurve:
    """Return the accuracy of a linear probe with a part of the training photos. Computed once a run.

    Each class is thinned alike, but keeps at least one photo.
    """
    kept = run.folder / "learning_curve.json"
    if value := _kept(kept, run, _Curve):
        draws, interval = tuple(map(tuple, value["accuracies"])), tuple(value["gain_interval"])
        return LearningCurve(tuple(value["photos"]), draws, value["n"], interval)
    x, y = _features(project, run, split.training + split.validation, progress)
    n = len(split.training)
    held = np.arange(n, len(y))
    chance = np.random.default_rng(run.recipe["seed"])
    counts, right = [], []
    for done, share in enumerate(SHARES, 1):
        drawn = [_thinned(y[:n], share, chance) for _ in range(DRAWS if share < 1 else 1)]
        counts.append(len(drawn[0]))
        right.append(np.stack([_right(run, x, y, rows, held) for rows in drawn]))  # (draws, n)
        progress("learning from fewer photos", done, len(SHARES))
    accuracies = tuple(tuple(map(float, draws.mean(axis=1))) for draws in right)
    found = LearningCurve(
        tuple(counts), accuracies, len(held), paired_interval(right[-1] - right[-3].astype(float))
    )
    _keep(kept, run, asdict(found))
    return found


class _Folds(TypedDict):
    """What `cross_validation.json` holds."""

    of: list[str]
    accuracies: list[float]
    interval: tuple[float, float]


class _Curve(TypedDict):
    """What `learning_curve.json` holds."""

    of: list[str]
    photos: list[int]
    accuracies: list[list[float]]
    n: int
    gain_interval: tuple[float, float]


def _kept(file: Path, run: Run, shape: Any) -> dict[str, Any] | None:
    """Return what was computed for this very run before."""
    try:
        value: dict[str, Any] | None = disk.read_shaped(file, shape)
    except ProjectError:
        return None  # damaged: it is computed anew
    return value if value and value["of"] == _identity(run) else None


def _keep(file: Path, run: Run, value: dict[str, Any]) -> None:
    disk.write_json(file, value | {"of": _identity(run)})


def _identity(run: Run) -> list[str]:
    return [
        _FORMAT,
        run.split_fingerprint,
        str(run.recipe["start"]),
        str(run.recipe["seed"]),
        f"{run.evaluation.loss!r}",
    ]


def _thinned(labels: NDArray[np.integer], share: float, chance: np.random.Generator) -> NDArray[np.integer]:
    """Return rows of a share of every class."""
    rows = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    some = [chance.permutation(members)[: max(1, round(share * len(members)))] for members in rows]
    return np.sort(np.concatenate(some))  # all of them: the very training that the run had


def _features(
    project: disk.Project, run: Run, photos: Sequence[Photo], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features `(N, C)` and labels `(N,)`."""
    model = read_model(run.model_path)
    features = cached_features(
        project, photos, model.key, model.preprocessing, lambda: model_engine(model, progress), progress
    )
    labels = np.array([model.class_names.index(photo.label) for photo in photos])
    return features.pooled, labels


def wilson(right: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy, from whether each photo is right."""
    from scipy.stats import binomtest

    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return float(low), float(high)


def paired_interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a difference of accuracies on the same photos; wide where they are few.

    One photo more is gained and one more lost, as in Bonett and Price, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37, 2012; the spread of draws
    is added to that of photos.

    Args:
        gains: `(draws, n)`: +1 where only the second is right, -1 where only the first is.
    """
    draws = len(gains)
    photos = np.append(gains.mean(axis=0), (1.0, -1.0))
    variance = photos.var(ddof=1) / len(photos)
    if draws > 1:
        variance += gains.mean(axis=1).var(ddof=1) / draws
    half = 1.96 * float(np.sqrt(variance))
    return float(photos.mean()) - half, float(photos.mean()) + half


def _right(
    run: Run, x: NDArray[np.float32], y: NDArray[np.int64], learned: NDArray[Any], held: NDArray[Any]
) -> NDArray[np.bool_]:
    """Train a head on some rows as the run's recipe says, and return whether it classifies others correctly."""
    import torch

    from stockpot.learning.classifier import new_head
    from stockpot.learning.fitting import fit
    from stockpot.learning.inputs import fixed

    head = new_head(x.shape[1], int(y.max()) + 1, run.recipe["seed"])
    training, validation = (
        fixed(torch.from_numpy(x[rows]), torch.from_numpy(y[rows])) for rows in (learned, held)
    )
    fit(head, training, validation, _recipe(run))
    with torch.no_grad():
        return np.asarray(head(torch.from_numpy(x[held])).argmax(dim=1).numpy() == y[held])


def _recipe(run: Run) -> "Recipe":
    """Return what the training of a head needs of a run's recipe."""
    from stockpot.learning.recipes import Recipe

    names = (
        "epochs",
        "keep",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "label_smoothing",
        "class_weights",
        "seed",
    )
    return Recipe(**{name: run.recipe[name] for name in names})
