"""How things stand in a project: what is there, what is new, what is stale, and what to do next."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stockpot import project as disk
from stockpot.errors import PhotoError
from stockpot.learning.runs import Run, read_runs
from stockpot.photos.duplicates import distinct_photos
from stockpot.photos.index import index_project
from stockpot.photos.photo import Refused, short_name
from stockpot.photos.splits import Split, known_sides, look_at_split
from stockpot.progress import Progress, silent


@dataclass(frozen=True)
class ClassCount:
    """How many photos a class has, all and by side."""

    name: str
    photos: int
    training: int
    validation: int


@dataclass(frozen=True)
class RunState:
    """A completed run in a line."""

    name: str
    accuracy: float
    n: int
    stale: bool  # made on another split than the present photos give


@dataclass(frozen=True)
class Status:
    """How things stand in a project."""

    classes: tuple[ClassCount, ...]
    refused: tuple[Refused, ...]
    repeated: int  # photos that are there twice
    conflicts: int  # photos that lie in two classes
    between: int  # new photos near to old ones on both sides: left out
    near_duplicates: int  # photos in groups that stay on one side
    gone: int  # photos that are not there now and whose side is remembered
    new: int  # photos that no split has seen yet
    runs: tuple[RunState, ...]
    problem: str  # why no classifier can be made of the photos, or nothing
    next: str  # command

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON holds it."""
        value = asdict(self)
        value["refused"] = [
            {"file": short_name(refused.path), "reason": refused.reason} for refused in self.refused
        ]
        return value


def look_at_status(project: Path | str, progress: Progress = silent) -> Status:
    """Return how things stand in a project; nothing but the cache is written.

    Raises:
        ProjectError: `project` is no project.
    """
    opened = disk.open_project(project)
    index = index_project(opened, progress)
    try:
        split, problem = look_at_split(opened.folder, progress), ""
    except PhotoError as error:
        split, problem = None, str(error)
    runs = read_runs(opened)
    distinct = distinct_photos(index.photos, index.near)
    groups = Counter(photo.group for photo in distinct.photos)
    known = known_sides(opened)
    between = {photo.sha256 for photo in split.between} if split else set()
    present = {photo.sha256 for photo in index.photos}
    return Status(
        classes=_count(Counter(photo.label for photo in index.photos), split),
        refused=index.refused,
        repeated=len(distinct.repeated),
        conflicts=sum(map(len, distinct.conflicts)),
        between=len(split.between) if split else 0,
        near_duplicates=sum(count for count in groups.values() if count > 1),
        gone=len(known.keys() - present),
        new=sum(photo.sha256 not in known for photo in distinct.photos if photo.sha256 not in between),
        runs=tuple(
            RunState(run.name, run.evaluation.accuracy, run.evaluation.n, _is_stale(run, split))
            for run in runs
        ),
        problem=problem,
        next=_next(opened, runs, split),
    )


def _count(photos: Counter[str], split: Split | None) -> tuple[ClassCount, ...]:
    training = Counter(photo.label for photo in split.training) if split else Counter()
    validation = Counter(photo.label for photo in split.validation) if split else Counter()
    return tuple(ClassCount(name, photos[name], training[name], validation[name]) for name in sorted(photos))


def _is_stale(run: Run, split: Split | None) -> bool:
    return split is None or run.split_fingerprint != split.fingerprint


def _next(project: disk.Project, runs: list[Run], split: Split | None) -> str:
    if split is None:
        return f"add photos to {project.photos}/<class>/"
    if all(_is_stale(run, split) for run in runs):
        return f"stockpot study {project.folder}"
    return f"stockpot predict {project.folder} PHOTO..."
