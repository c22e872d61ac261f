"""Rules: what speaks against a photo, from its bytes, its pixels, and its features among those of all.

`N` photos, `C` channels, `K` classes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.curation.findings import COPIES, Finding
from stockpot.photos.duplicates import Distinct, Pair
from stockpot.photos.photo import Photo, Refused, short_name

SHORT_SIDE = 32  # pixels; smaller photos show nothing
FLAT = 2.0  # standard deviation of gray values, of 255; flatter photos show nothing
FOLDS, REPEATS = 5, 3  # of the cross-validation
STRENGTH = 1e-3  # C of the logistic regression, on standardized features
FAR = 1.5  # robust standard deviations from its class, at which a photo is called off topic
SURE = 0.5  # probability at which a photo is said to look like another class


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How little each photo fits, by what a frozen backbone makes of it."""

    own: NDArray[np.float64]  # (N,) cross-validated probability of its own class
    likely: NDArray[np.int64]  # (N,) the most probable class
    best: NDArray[np.float64]  # (N,) its probability
    far: NDArray[
        np.float64
    ]  # (N,) robust standard deviations that it is farther from its class than the median
    rank: NDArray[np.float64]  # (N,) 0 to 1: the share of photos that fit better, by the worse of both


def unreadable(refused: Sequence[Refused]) -> Iterator[Finding]:
    """Yield files that are no photos."""
    for file in refused:
        yield Finding(file.path, "", "unreadable", file.reason, 1.0, certain=True)


def set_aside_before(photos: Sequence[Photo], journal: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield photos that were set aside before and have come in again under another name.

    Args:
        photos: all.
        journal: what lies in `set-aside/`, by sha256.
    """
    for photo in photos:
        row = journal.get(photo.sha256)
        if row is None or COPIES & set(row["rules"]):
            continue  # the other copy was what was wrong
        if row["source"] != f"photos/{photo.label}/{photo.path.name}":
            reason = f"was set aside before ({', '.join(row['reasons']) or 'by hand'})"
            yield Finding(photo.path, photo.sha256, "set aside before", reason, 1.0, certain=True)


def too_small(photos: Sequence[Photo]) -> Iterator[Finding]:
    """Yield photos that are too small to show anything."""
    for photo in photos:
        if min(photo.width, photo.height) < SHORT_SIDE:
            reason = f"is {photo.width} x {photo.height} pixels"
            yield Finding(photo.path, photo.sha256, "too small", reason, 1.0, certain=True)


def blank(photos: Sequence[Photo], contrast: Mapping[str, float]) -> Iterator[Finding]:
    """Yield photos of one colour.

    Args:
        photos: all.
        contrast: standard deviation of the gray values of each, by sha256.
    """
    for photo in photos:
        if contrast[photo.sha256] < FLAT:
            yield Finding(photo.path, photo.sha256, "blank", "is all of one colour", 1.0, certain=True)


def repeated(distinct: Distinct) -> Iterator[Finding]:
    """Yield files whose bytes are there a second time."""
    for photo, first in distinct.repeated:
        reason = f"the same file as {short_name(first.path)}"
        yield Finding(photo.path, photo.sha256, "duplicate", reason, 1.0, certain=True)
    for conflict in distinct.conflicts:
        for photo in conflict:
            others = ", ".join(sorted({other.label for other in conflict} - {photo.label}))
            yield Finding(photo.path, photo.sha256, "two classes", f"the same file is in {others}", 1.0)


def near(photos: Sequence[Photo], pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Yield near duplicates of larger photos of their class, and all of a group that two classes claim."""
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    partners: dict[str, set[str]] = defaultdict(set)
    for a, b in pairs:
        partners[a].add(b)
        partners[b].add(a)
    for together in groups.values():
        for photo in together:
            alike = [other for other in together if other.sha256 in partners[photo.sha256]]
            foreign = [other for other in alike if other.label != photo.label]
            if foreign:
                reason = f"nearly the same as {short_name(foreign[0].path)}"
                yield Finding(photo.path, photo.sha256, "two classes", reason, 0.9)
                continue
            larger = [other for other in alike if _size(other) > _size(photo)]
            if larger:
                reason = f"nearly the same as {short_name(max(larger, key=_size).path)}, which is kept"
                yield Finding(photo.path, photo.sha256, "near duplicate", reason, 0.8)


def _size(photo: Photo) -> tuple[int, str]:
    return photo.width * photo.height, photo.sha256


def suspect(features: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str]) -> Suspicion:
    """Return how little each photo fits its class.

    Two views: the probability of its own class in a model that has not seen it or its near duplicates
    (Northcutt et al., "Confident Learning", arXiv:1911.00068: self-confidence), and its cosine similarity to the
    mean of its class.

    Args:
        features: `(N, C)`.
        labels: `(N,)` indices of classes.
        groups: N of them; what is in one group is held out together.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    spread = features.std(axis=0)
    x = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    probabilities = np.zeros((len(x), labels.max() + 1))
    for seed in range(REPEATS):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        for learned, held in folds.split(x, labels, groups):
            model = LogisticRegression(C=STRENGTH, max_iter=300).fit(x[learned], labels[learned])
            probabilities[np.ix_(held, model.classes_)] += model.predict_proba(x[held]) / REPEATS
    rows = np.arange(len(x))
    own = probabilities[rows, labels]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    similarity = (unit * means[labels]).sum(axis=1)
    far = np.empty(len(x))
    for k in range(labels.max() + 1):
        members = labels == k
        median = np.median(similarity[members])
        deviation = 1.4826 * np.median(np.abs(similarity[members] - median))
        far[members] = (median - similarity[members]) / (deviation or 1.0)
    rank = np.maximum(_rank(-own), _rank(-similarity))
    return Suspicion(own, probabilities.argmax(axis=1), probabilities.max(axis=1), far, rank)


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of values that are smaller, 0 to 1."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)


def misfits(photos: Sequence[Photo], class_names: Sequence[str], found: Suspicion) -> Iterator[Finding]:
    """Yield photos that look like another class, or like nothing in their own."""
    for i, photo in enumerate(photos):
        strength = round(float(found.rank[i]), 3)
        other = class_names[found.likely[i]]
        if other != photo.label and found.best[i] >= SURE:
            reason = (
                f"looks like {other} ({found.best[i]:.0%}) rather than {photo.label} ({found.own[i]:.0%})"
            )
            yield Finding(photo.path, photo.sha256, "wrong label", reason, strength, suggested=other)
        elif other != photo.label or found.far[i] > FAR:
            reason = f"is unlike the other photos of {photo.label}"
            yield Finding(photo.path, photo.sha256, "off topic", reason, strength)
