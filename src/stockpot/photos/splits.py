"""Which photos are learned from and which are only looked at.

The split is a function of the photos' bytes, the seed and the `split.json` already there; never of file names
or order. Photos that were split before keep their side.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from stockpot import project as disk
from stockpot.errors import PhotoError, ProjectError, WrongUse
from stockpot.photos.duplicates import Distinct, Pair, distinct_photos
from stockpot.photos.index import index_project
from stockpot.photos.photo import Photo, Refused
from stockpot.progress import Progress, silent
from stockpot.tables import html_table

Side = Literal["training", "validation"]
FEWEST_PHOTOS = 5  # of a class: four to learn from, one to look at


@dataclass(frozen=True)
class Split:
    """Two sides, and what was left out on the way."""

    class_names: tuple[str, ...]  # sorted folder names; their order in the head
    training: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    seed: int
    share: float  # of each class that goes to validation
    refused: tuple[Refused, ...] = ()
    repeated: tuple[tuple[Photo, Photo], ...] = ()  # (left out, the one that counts instead)
    conflicts: tuple[tuple[Photo, ...], ...] = ()  # the same bytes in two classes
    between: tuple[Photo, ...] = ()  # new ones near to old ones on both sides: left out

    @property
    def skipped(self) -> int:
        """How many readable photos are on no side."""
        return len(self.repeated) + sum(map(len, self.conflicts)) + len(self.between)

    @property
    def near_duplicates(self) -> tuple[tuple[Photo, ...], ...]:
        """Groups of photos that are nearly the same, each on one side."""
        straddling = set(self.straddling)
        return tuple(group for group in self._groups() if group not in straddling)

    @property
    def straddling(self) -> tuple[tuple[Photo, ...], ...]:
        """Groups whose photos kept old places on both sides: a split made anew would not have them."""
        held = {photo.sha256 for photo in self.validation}
        return tuple(g for g in self._groups() if 0 < sum(photo.sha256 in held for photo in g) < len(g))

    def _groups(self) -> list[tuple[Photo, ...]]:
        groups = _by((*self.training, *self.validation), "group").values()
        return [tuple(group) for group in groups if len(group) > 1]

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that differ as soon as a photo, its label or its side does."""
        sides = sorted(
            (photo.sha256, photo.label, side)
            for side, photos in (("training", self.training), ("validation", self.validation))
            for photo in photos
        )
        return hashlib.sha256(json.dumps([self.class_names, sides]).encode()).hexdigest()[:12]

    def _repr_html_(self) -> str:
        """Return how many photos of each class are on each side, as a notebook shows it."""
        sides = (self.training, self.validation)
        counts = [Counter(photo.label for photo in side) for side in sides]
        rows = [(name, *(f"{count[name]}" for count in counts)) for name in self.class_names]
        total = ("all", *(f"{len(side)}" for side in sides))
        out = f"left out: {len(self.refused)} files refused, {self.skipped} photos skipped"
        notes = [out] if self.refused or self.skipped else []
        return html_table(
            f"Split, seed {self.seed}", ("class", "training", "validation"), [*rows, total], notes
        )


def split(
    project: Path | str,
    validation: float | None = None,
    seed: int | None = None,
    progress: Progress = silent,
) -> Split:
    """Put every photo of a project on one side, and remember it in `split.json`.

    Args:
        project: a project folder.
        validation: share of each class that is only looked at, between 0 and 1 (0.2 at first). Another
            share than before splits anew.
        seed: decides which photos (0 at first). Another seed than before splits anew.
        progress: told how far reading the photos is.

    Returns:
        The split. Photos that were split before keep their side.

    Raises:
        ProjectError: `project` is no project.
        WrongUse: `validation` is no share.
        PhotoError: fewer than two classes, or a class with too few usable photos.
    """
    if validation is not None and not 0 < validation < 1:
        raise WrongUse(f"validation is {validation}; give a share between 0 and 1, for instance 0.2.")
    opened = disk.open_project(project)
    with opened.writing():
        result, sides = _plan(opened, validation, seed, progress)
        value = {
            "class_names": list(result.class_names),
            "seed": result.seed,
            "validation": result.share,
            "sides": dict(sorted(sides.items())),
        }
        if value != read_split(opened):
            disk.write_json(opened.split_file, value)
    return result


class Kept(TypedDict):
    """What `split.json` holds."""

    class_names: list[str]
    seed: int
    validation: float
    sides: dict[str, Side]


def read_split(project: disk.Project) -> Kept | None:
    """Return what `split.json` holds; None before the first split.

    Raises:
        ProjectError: it is damaged.
    """
    kept: Kept | None = disk.read_shaped(project.split_file, Kept)
    if kept and not 0 < kept["validation"] < 1:
        raise ProjectError(
            f"{project.split_file} is damaged (validation is {kept['validation']}): restore it from a backup "
            f"or delete it."
        )
    return kept


def known_sides(project: disk.Project) -> dict[str, Side]:
    """Return by sha256 on which side photos were put, also of those that are gone for now.

    Raises:
        ProjectError: `split.json` is damaged.
    """
    kept = read_split(project)
    return kept["sides"] if kept else {}


def look_at_split(project: Path | str, progress: Progress = silent) -> Split:
    """Return what `split` would return now, and write nothing but the cache.

    Raises:
        ProjectError: `project` is no project.
        PhotoError: fewer than two classes, or a class with too few usable photos.
    """
    return _plan(disk.open_project(project), None, None, progress)[0]


def _plan(
    project: disk.Project, share: float | None, seed: int | None, progress: Progress
) -> tuple[Split, dict[str, Side]]:
    """Return the split, and the side of every photo it knows, also of those that are gone for now."""
    index = index_project(project, progress)
    stored = read_split(project) or {"class_names": [], "validation": 0.2, "seed": 0, "sides": {}}
    share = stored["validation"] if share is None else share
    seed = stored["seed"] if seed is None else seed
    before = stored["sides"] if (share, seed) == (stored["validation"], stored["seed"]) else {}
    between = _between(index.near, before)
    distinct = distinct_photos(index.photos, [pair for pair in index.near if not between & set(pair)])
    candidates = (photo for photo in distinct.photos if photo.sha256 not in between)
    sides = assign_sides(candidates, share, seed, before)
    result = _split(distinct, sides, share, seed, index.refused)
    _check(project.folder, result)
    return result, before | sides


def _between(near: Iterable[Pair], before: dict[str, Side]) -> set[str]:
    """Return new photos with near duplicates among the old ones of both sides."""
    beside: dict[str, set[Side]] = defaultdict(set)
    for a, b in near:
        for new, old in ((a, b), (b, a)):
            if old in before and new not in before:
                beside[new].add(before[old])
    return {sha256 for sha256, sides in beside.items() if len(sides) == 2}


def assign_sides(
    photos: Iterable[Photo], share: float, seed: int, before: dict[str, Side]
) -> dict[str, Side]:
    """Return the side of every photo by its sha256.

    Old photos keep their side, and new ones of their group get it. New ones of a group that has old photos on both
    sides get none. New groups, those of two classes first, are taken in the order of sha256(seed + group) and
    go to validation while each of their classes has less than `share` there.
    """
    photos = tuple(photos)
    sides = {photo.sha256: before[photo.sha256] for photo in photos if photo.sha256 in before}
    new = []
    for together in _by(photos, "group").values():
        known = {sides[photo.sha256] for photo in together if photo.sha256 in sides}
        if not known:
            new.append(together)
        elif len(known) == 1:
            sides |= dict.fromkeys((photo.sha256 for photo in together), known.pop())
    placed = {photo.sha256 for together in new for photo in together} | sides.keys()
    total = Counter(photo.label for photo in photos if photo.sha256 in placed)
    held = Counter(photo.label for photo in photos if sides.get(photo.sha256) == "validation")
    for together in sorted(new, key=lambda together: _turn(together, seed)):
        labels = Counter(photo.label for photo in together)
        if all(held[label] < share * total[label] for label in labels):
            sides |= dict.fromkeys((photo.sha256 for photo in together), "validation")
            held += labels
        else:
            sides |= dict.fromkeys((photo.sha256 for photo in together), "training")
    return sides


def _turn(together: list[Photo], seed: int) -> tuple[bool, bytes]:
    """Return the place of a new group in the order in which sides are given."""
    one_class = len({photo.label for photo in together}) == 1
    return one_class, hashlib.sha256(f"{seed}{together[0].group}".encode()).digest()


def _by(photos: Iterable[Photo], attribute: str) -> dict[str, list[Photo]]:
    together = defaultdict(list)
    for photo in photos:
        together[getattr(photo, attribute)].append(photo)
    return together


def _split(
    distinct: Distinct, sides: dict[str, Side], share: float, seed: int, refused: tuple[Refused, ...]
) -> Split:
    return Split(
        class_names=tuple(sorted({photo.label for photo in distinct.photos})),
        training=tuple(photo for photo in distinct.photos if sides.get(photo.sha256) == "training"),
        validation=tuple(photo for photo in distinct.photos if sides.get(photo.sha256) == "validation"),
        seed=seed,
        share=share,
        refused=refused,
        repeated=distinct.repeated,
        conflicts=distinct.conflicts,
        between=tuple(photo for photo in distinct.photos if photo.sha256 not in sides),
    )


def _check(folder: Path, split: Split) -> None:
    """Refuse photos that no classifier can be made of."""
    names = split.class_names
    folders = [path for path in disk.visible(folder / "photos") if path.is_dir()]
    if not names:
        raise PhotoError(
            f"{folder}/photos has no readable photo: put at least {FEWEST_PHOTOS} into each of two or more "
            f"folders {folder}/photos/<class>/"
        )
    if len(folders) < 2:
        raise PhotoError(
            f"{folder} has one class, {names[0]!r}: add a second folder of photos beside {folder}/photos/{names[0]}"
        )
    usable = Counter(photo.label for photo in split.training + split.validation)
    few = {path.name: usable[path.name] for path in folders if usable[path.name] < FEWEST_PHOTOS}
    if few:
        listed = ", ".join(f"{name!r} has {count}" for name, count in few.items())
        raise PhotoError(
            f"A class needs at least {FEWEST_PHOTOS} usable photos, {listed}: add photos to "
            f"{folder}/photos/{next(iter(few))}, or take the folder out."
        )
    seen = {photo.label for photo in split.validation}
    if missing := [name for name in names if name not in seen]:
        raise PhotoError(
            f"No photo of {missing[0]!r} is left to validate on, the old ones keep their side: add photos, or "
            f"split anew: stockpot split {folder} --seed {split.seed + 1}"
        )
    learned = {photo.label for photo in split.training}
    if missing := [name for name in names if name not in learned]:
        raise PhotoError(
            f"A validation share of {split.share} leaves nothing of {missing[0]!r} to learn from: "
            f"lower it or add photos."
        )
