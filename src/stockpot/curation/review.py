"""Reviewing: a decision is carried out at once, and what it does to a classifier is known in the same breath.

The classifier is the live head on the features that curation looks at, and its accuracy is that of heads that have
not seen a photo or its near duplicates. Accuracies of two moments are compared on the photos that count in both:
setting a hard photo aside must not look like learning something.

`n` photos, `K` classes.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.curation.curation import check_class, curate, curation_features, source_of
from stockpot.curation.findings import Finding, identify
from stockpot.curation.journal import Journal, Move, free_place
from stockpot.errors import PhotoError, WrongUse
from stockpot.learning.comparison import McNemar, exact_mcnemar
from stockpot.learning.live_head import LiveHead
from stockpot.photos.duplicates import distinct_photos
from stockpot.photos.index import index_project
from stockpot.photos.photo import Photo, short_name
from stockpot.progress import Progress, silent


@dataclass(frozen=True)
class Reviewed:
    """A photo on the review page."""

    key: str  # stays the same wherever the photo goes
    photo: Photo  # as it is now
    found: tuple[Finding, ...]  # against it in the class where it was when the review was opened
    found_in: str  # that class
    aside: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What still stands against it: in another class it is another matter."""
        return self.found if self.photo.label == self.found_in else ()


@dataclass(frozen=True)
class Change:
    """Cross-validated accuracy of the live head at two moments."""

    n: int  # photos that count at both
    before: float  # accuracy on these
    now: float
    test: McNemar  # likewise
    all_before: float  # accuracy on all that counted then; not to be compared
    all_now: float
    n_before: int
    n_now: int


@dataclass(frozen=True)
class Effect:
    """What decisions did."""

    last: Change | None  # the last one; none, where the review was opened anew since
    all: Change  # all since the review was opened


class Review:
    """The photos of a project under review, and a head that follows every decision."""

    def __init__(
        self, project: Path | str, progress: Progress = silent, before: "Review | None" = None
    ) -> None:
        """Look for findings, as `curate` does, and fit the head.

        Args:
            project: a project folder.
            progress: told how far looking is.
            before: an earlier review of it, with whose accuracy that of now is compared.

        Raises:
            ProjectError: no project.
            PhotoError: no readable photo, or fewer than two classes.
            WeightsError: the backbone's weights cannot be had.
            Busy, FolderError: the project cannot be written.
        """
        self.project = disk.open_project(project)
        self.progress = progress
        self.effect: Effect | None = None  # of the last decision, once there is one
        self.opened: dict[str, bool] = {}  # by key, whether a head was right when the review was opened
        self.last: dict[str, bool] = {}  # likewise after the last decision
        self._load()
        if before:
            self.effect = Effect(None, _between(before.opened, self.last))
            self.opened = before.opened

    def _load(self) -> None:
        self._files = _list_files(self.project.photos)  # before looking: what comes meanwhile is noticed
        found = curate(self.project.folder, progress=self.progress)
        index = index_project(self.project, self.progress)
        counted = distinct_photos(index.photos, index.near).photos
        if len({photo.label for photo in counted}) < 2:
            raise PhotoError(f"{self.project.photos} has fewer than two classes: add photos of another one.")
        why: dict[str, list[Finding]] = {}
        for finding in found.findings:
            why.setdefault(finding.identifier, []).append(finding)
        features = curation_features(self.project, counted, self.progress)
        self.photos = {one.key: one for one in (_reviewed(photo, why) for photo in found.photos)}
        self._counted = {
            identify(photo.path, photo.sha256): (row, photo.group)
            for photo, row in zip(counted, features, strict=True)
        }
        self._steps: list[tuple[int, str]] = []  # of the journal, and the key of the photo
        self._fit()
        self.opened = self.last = self.head.right()

    def _fit(self) -> None:
        """Fit the head anew to the photos that count now."""
        here = [key for key in self._counted if not self.photos[key].aside]
        labels = [self.photos[key].photo.label for key in here]
        features = np.stack([self._counted[key][0] for key in here])
        groups = [self._counted[key][1] for key in here]
        self.class_names = tuple(sorted(set(labels)))
        self.head = LiveHead(here, features, labels, groups, self.class_names)

    def decide(self, key: str, label: str = "") -> Effect:
        """Set a photo aside, or move it to another class; return what the head makes of it.

        Raises:
            WrongUse: no such photo, it lies aside already, or the class cannot be a folder.
            Busy, FolderError: the project cannot be written.
        """
        if key not in self.photos or self.photos[key].aside:
            there = "lies aside already" if key in self.photos else "is not there"
            raise WrongUse(f"Photo {key!r} {there}: open the review again.")
        one = self.photos[key]
        self._check_unchanged()
        if label:
            check_class(self.project, one.photo.path, label)
        self._check_classes(key, label)
        folder = self.project.photos / label if label else self.project.set_aside / one.photo.label
        target = free_place(folder / one.photo.path.name, set())
        with self.project.writing():
            journal = Journal(self.project)
            step, moved = journal.move([self._move(one, target)])
        if not moved:
            raise WrongUse(f"{one.photo.path.name} has changed or gone since: open the review again.")
        self._steps.append((step, key))
        return self._follow(key, target)

    def undo(self) -> Effect:
        """Take the last decision back, also one of an earlier review.

        Raises:
            WrongUse: there is none.
            Busy, FolderError: the project cannot be written.
        """
        self._check_unchanged()
        with self.project.writing():
            journal = Journal(self.project)
            back = journal.undo(self._steps[-1][0] if self._steps else None)
            place = next(row["target"] for row in reversed(journal.rows) if "target" in row)
        if not self._steps or not back:
            self._load()
            return self._effect()
        _, key = self._steps.pop()
        return self._follow(key, self.project.folder / place)

    def suspicion(self) -> dict[str, float]:
        """Return by key how much more of another class than of its own a head sees that has not seen the photo."""
        scores = self.head.left_out()
        rows = np.arange(len(scores))
        own = np.array([self.class_names.index(label) for label in self.head.labels])
        of_own = scores[rows, own]
        scores[rows, own] = -np.inf
        return dict(zip(self.head.names, map(float, scores.max(axis=1) - of_own), strict=True))

    def confusion(self) -> NDArray[np.int64]:
        """Return how many photos of which class heads that have not seen them take for which: `(K, K)`."""
        k = len(self.class_names)
        own = np.array([self.class_names.index(label) for label in self.head.labels])
        return np.bincount(k * own + self.head.left_out().argmax(axis=1), minlength=k * k).reshape(k, k)

    @property
    def changed(self) -> bool:
        """Tell whether files came, went or changed otherwise than by decisions of this review."""
        return self._files != _list_files(self.project.photos)

    def _check_unchanged(self) -> None:
        if self.changed:
            raise WrongUse("Photos have come or gone since the review was opened: open it again.")

    def _check_classes(self, key: str, label: str) -> None:
        """Refuse a decision after which there is nothing to tell apart."""
        here = {name: self.photos[name].photo.label for name in self.head.names} | (
            {key: label} if label else {}
        )
        if not label:
            here.pop(key, None)
        if len(set(here.values())) < 2:
            raise WrongUse(
                f"{self.photos[key].photo.label} would have no photo left, and only one class would: leave one."
            )

    def _move(self, one: Reviewed, target: Path) -> Move:
        return Move(
            sha256=one.photo.sha256,
            source_sha256=source_of(self.project, one.photo.sha256),
            source=one.photo.path.relative_to(self.project.folder).as_posix(),
            target=target.relative_to(self.project.folder).as_posix(),
            reasons=tuple(finding.reason for finding in one.findings),
            rules=tuple(finding.rule for finding in one.findings),
            suggested=next((finding.suggested for finding in one.findings if finding.suggested), ""),
        )

    def _follow(self, key: str, path: Path) -> Effect:
        """Let page and head know where a photo is now."""
        one = self.photos[key]
        aside = self.project.set_aside in path.parents
        moved = replace(one.photo, path=path, label=path.parent.name)
        self.photos[key] = replace(one, photo=moved, aside=aside)
        if key in self._counted:
            self._refit(key, moved.label, aside)
        self._files.pop(short_name(one.photo.path), None)
        if not aside:
            self._files[short_name(path)] = _state(path)
        return self._effect()

    def _refit(self, key: str, label: str, aside: bool) -> None:
        here = {self.photos[name].photo.label for name in self._counted if not self.photos[name].aside}
        features, group = self._counted[key]
        if here != set(self.class_names):  # a class came or went: all scores are others
            self._fit()
        elif aside:
            self.head.remove([key])
        elif key in self.head.names:
            self.head.move(key, label)
        else:
            self.head.add([key], features[None], [label], [group])

    def _effect(self) -> Effect:
        """Compare the head with what it was before the last decision, and when the review was opened."""
        now, before = self.head.right(), self.last
        self.last = now
        self.effect = Effect(_between(before, now), _between(self.opened, now))
        return self.effect


def _list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file in class folders, by its place."""
    found = {}
    for label in disk.visible(folder):
        if label.is_dir():
            for file in label.iterdir():
                with suppress(FileNotFoundError):  # gone since, or a link to nothing
                    found[short_name(file)] = _state(file)
    return found


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _reviewed(photo: Photo, why: Mapping[str, Sequence[Finding]]) -> Reviewed:
    key = identify(photo.path, photo.sha256)
    return Reviewed(key, photo, tuple(why.get(key, ())), photo.label)


def _between(before: Mapping[str, bool], now: Mapping[str, bool]) -> Change:
    both = before.keys() & now.keys()
    was, has_become = ({key: right[key] for key in both} for right in (before, now))
    return Change(
        n=len(both),
        before=_share(was),
        now=_share(has_become),
        test=exact_mcnemar("before", was, has_become),
        all_before=_share(before),
        all_now=_share(now),
        n_before=len(before),
        n_now=len(now),
    )


def _share(right: Mapping[str, bool]) -> float:
    return sum(right.values()) / max(1, len(right))
