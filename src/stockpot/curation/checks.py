"""Rules: what speaks against a photo, from its bytes, its pixels, and its features among those of all.

`N` photos, `C` channels, `K` classes.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.curation.findings import Finding
from stockpot.photos.duplicates import Distinct, Pair
from stockpot.photos.photo import Photo, Refused, short_name
from stockpot.photos.pixels import NO_PICTURE

SHORT_SIDE = 32  # pixels; smaller photos show nothing
FLAT = 16  # values, of 255, between the least and the most of every channel; flatter photos show nothing
FOLDS, REPEATS = 5, 3  # of the cross-validation
INVERSE_PENALTY = 1e-3  # C of the logistic regression, on standardized features
TOLERANCE = 1e-2  # of its gradient: a ranking needs no more
FAR = 2.0  # robust standard deviations from its class, at which a photo is called off topic
SURE = 0.5  # probability at which a photo is said to look like another class
_AGAIN = "set aside before"


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How little each photo fits, by what a frozen backbone makes of it."""

    own: NDArray[np.float64]  # (N,) cross-validated probability of its own class
    likely: NDArray[np.int64]  # (N,) the most probable class
    best: NDArray[np.float64]  # (N,) its probability
    far: NDArray[np.float64]  # (N,) robust standard deviations that it is less like its class than the median
    rank: NDArray[np.float64]  # (N,) 0 to 1: the share of photos that fit better, by the worse of both


def unreadable(refused: Sequence[Refused]) -> Iterator[Finding]:
    """Yield files that are no photos; those that something can be done about are a question.

    What could not even be read, as a folder or a file without rights, is nothing that curation could judge.
    """
    for file in refused:
        if file.sha256:
            certain = file.reason.startswith(NO_PICTURE)
            yield Finding(file.path, file.sha256, "unreadable", file.reason, 1.0, certain)


def set_aside_before(
    photos: Sequence[Photo], verdicts: Mapping[str, Mapping[str, Any]], sources: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield photos that were set aside before and have come in again; in another class that is a question.

    Args:
        photos: all.
        verdicts: why a photo lies in `set-aside/`, by sha256.
        sources: sha256 of the bytes that were received, by sha256 of what is here.
    """
    by_source = {row["source_sha256"]: row for row in verdicts.values()}
    for photo in photos:
        row = verdicts.get(photo.sha256) or by_source.get(sources.get(photo.sha256, photo.sha256))
        if row is None:
            continue
        why = ", ".join(row["reasons"]) or "by hand"
        reason = why if _AGAIN in row["rules"] else f"was set aside before ({why})"
        same = row["source"].split("/")[1] == photo.label
        yield Finding(photo.path, photo.sha256, _AGAIN, reason, 1.0 if same else 0.9, certain=same)


def too_small(photos: Sequence[Photo]) -> Iterator[Finding]:
    """Yield photos that are too small to show anything."""
    for photo in photos:
        if min(photo.width, photo.height) < SHORT_SIDE:
            reason = f"is {photo.width} x {photo.height} pixels"
            yield Finding(photo.path, photo.sha256, "too small", reason, 1.0, certain=True)


def blank(photos: Sequence[Photo], ranges: Mapping[str, float]) -> Iterator[Finding]:
    """Yield photos of one colour.

    Args:
        photos: all.
        ranges: largest less smallest value of the channel where that is most, by sha256.
    """
    for photo in photos:
        if ranges[photo.sha256] < FLAT:
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
    """Yield near duplicates of larger photos of their class that stay, and all that two classes claim."""
    by_sha256 = {photo.sha256: photo for photo in photos}
    partners: dict[str, set[str]] = defaultdict(set)
    for a, b in pairs:
        if a in by_sha256 and b in by_sha256:
            partners[a].add(b)
            partners[b].add(a)
    stay: set[str] = set()
    for photo in sorted(photos, key=_size, reverse=True):  # from the largest down
        alike = sorted((by_sha256[other] for other in partners[photo.sha256]), key=_size, reverse=True)
        foreign = [other for other in alike if other.label != photo.label]
        larger = [other for other in alike if other.sha256 in stay]
        if foreign:
            reason = f"nearly the same as {short_name(foreign[0].path)}"
            yield Finding(photo.path, photo.sha256, "two classes", reason, 0.9)
        elif larger:
            reason = f"nearly the same as {short_name(larger[0].path)}, which stays"
            yield Finding(photo.path, photo.sha256, "near duplicate", reason, 0.8)
        else:
            stay.add(photo.sha256)


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
            model = LogisticRegression(C=INVERSE_PENALTY, max_iter=300, tol=TOLERANCE)
            model.fit(x[learned], labels[learned])
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
    """Yield photos that look like another class, or like nothing in their own.

    The strength of a photo that is far from its class is the share of a normal distribution that is nearer to its
    median; of all others, the probability that they are not of their class.
    """
    for i, photo in enumerate(photos):
        other, own = class_names[found.likely[i]], found.own[i]
        if other != photo.label and found.best[i] >= SURE:
            reason = f"looks like {other} ({found.best[i]:.0%}) rather than {photo.label} ({own:.0%})"
            strength = round(1 - float(own), 3)
            yield Finding(photo.path, photo.sha256, "wrong label", reason, strength, suggested=other)
        elif found.far[i] > FAR or other != photo.label:
            if found.far[i] > FAR:
                reason = f"is unlike the other photos of {photo.label}"
                strength = round(math.erf(float(found.far[i]) / math.sqrt(2)), 3)
            else:
                reason = f"is not clearly recognized as {photo.label} ({own:.0%})"
                strength = round(1 - float(own), 3)
            yield Finding(photo.path, photo.sha256, "off topic", reason, strength)
