"""Curating: what should perhaps not be there is named with a reason; what goes can come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.curation import checks
from stockpot.curation.findings import Finding, identify
from stockpot.curation.journal import Journal, Move, free_place
from stockpot.curation.known_by_sight import BACKBONE, Sight, known_by_sight
from stockpot.curation.shortcuts import CONTRAST, Shortcut, appearance, find_shortcut
from stockpot.errors import PhotoError, WrongUse
from stockpot.learning.features import cached_features
from stockpot.model.engine import load_engine
from stockpot.photos.duplicates import distinct_photos
from stockpot.photos.index import Index, index_project
from stockpot.photos.photo import Photo
from stockpot.progress import Progress, silent

FEWEST = 10  # photos of a class below which it is not judged by features


@dataclass(frozen=True)
class Curation:
    """What was found, and what was done about it."""

    photos: tuple[Photo, ...]  # that are in `photos/`, least fitting first
    findings: tuple[Finding, ...]  # of files that are there, certain ones and strong ones first
    sights: tuple[Sight, ...]
    shortcut: Shortcut | None
    moved: int  # files that this call moved
    step: int | None  # number to undo it by


def curate(
    project: Path | str,
    auto: bool = False,
    set_aside: Sequence[str] = (),
    move: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Curation:
    """Look for photos that should not be there; nothing is moved unless it is asked for.

    Args:
        project: a project folder.
        auto: set aside what is certain: unreadable files, second copies, blank and tiny photos.
        set_aside: identifiers of findings or photos to set aside.
        move: identifiers of photos, and the classes they go to.
        progress: told how far looking is.

    Returns:
        What is found after that.

    Raises:
        ProjectError: no project.
        PhotoError: no readable photo.
        WrongUse: an identifier that names nothing, or a class that cannot be a folder.
        WeightsError: the backbone's weights cannot be had.
        Busy, FolderError: the project cannot be written.
    """
    opened = disk.open_project(project)
    with opened.writing():
        journal = Journal(opened)
        journal.finish()
        index = index_project(opened, progress)
        if not index.photos:
            raise PhotoError(f"{opened.photos} has no readable photo: add some first.")
        found = _look(opened, journal, index, progress)
        moves = _moves(opened, found, auto, set_aside, move or {})
        if not moves:
            return found
        step = journal.move(moves)
        after = _look(opened, journal, index_project(opened, progress), progress)
        return Curation(after.photos, after.findings, after.sights, after.shortcut, len(moves), step)


def undo(project: Path | str, step: int | Literal["all"] | None = None) -> int:
    """Put back what a step of `curate` moved, the last one by default, or all; return how many files.

    Raises:
        ProjectError: no project.
        WrongUse: there is no such step.
        Busy, FolderError: the project cannot be written.
    """
    opened = disk.open_project(project)
    with opened.writing():
        journal = Journal(opened)
        steps = sorted(journal.standing, reverse=True) if step == "all" else [step]
        return sum(journal.undo(one) for one in steps)


def _look(opened: disk.Project, journal: Journal, index: Index, progress: Progress) -> Curation:
    """Apply all rules."""
    distinct = distinct_photos(index.photos, index.near)
    photos = distinct.photos
    looks = _looks(opened, index.photos, progress)
    findings = [
        *checks.unreadable(index.refused),
        *checks.set_aside_before(index.photos, journal.set_aside),
        *checks.too_small(index.photos),
        *checks.blank(index.photos, {sha256: look[CONTRAST] for sha256, look in looks.items()}),
        *checks.repeated(distinct),
        *checks.near(photos, index.near),
    ]
    certain = {finding.path for finding in findings if finding.certain}
    rest = [i for i, photo in enumerate(photos) if photo.path not in certain]
    judged = [photos[i] for i in rest]
    names = sorted({photo.label for photo in judged})
    labels = np.array([names.index(photo.label) for photo in judged])
    features = _features(opened, judged, progress)
    order = {photo.path: 0.0 for photo in index.photos}
    if len(names) > 1 and np.bincount(labels).min() >= FEWEST:
        groups = [photo.group for photo in judged]
        suspicion = checks.suspect(features, labels, groups)
        findings += checks.misfits(judged, names, suspicion)
        order |= {photo.path: float(rank) for photo, rank in zip(judged, suspicion.rank, strict=True)}
    sights = known_by_sight(features, [photo.label for photo in judged], progress)
    disk.write_json(opened.sights, [vars(sight) for sight in sights])
    appearances = np.array([looks[photo.sha256] for photo in judged])
    shortcut = find_shortcut(appearances, labels, [photo.group for photo in judged])
    return Curation(
        photos=tuple(sorted(index.photos, key=lambda photo: (-order[photo.path], photo.path))),
        findings=tuple(sorted(findings, key=lambda one: (not one.certain, -one.strength, one.path))),
        sights=sights,
        shortcut=shortcut,
        moved=0,
        step=None,
    )


def _features(opened: disk.Project, photos: Sequence[Photo], progress: Progress) -> NDArray[np.float32]:
    """Return features `(N, C)`, computed once."""
    backbone = load_backbone(BACKBONE, progress=progress)
    graph = ensure_graph(opened.graphs, backbone.key, lambda: backbone, progress)
    return cached_features(
        opened, photos, backbone.key, backbone.preprocessing, lambda: load_engine(graph), progress
    ).pooled


def _looks(opened: disk.Project, photos: Sequence[Photo], progress: Progress) -> dict[str, list[float]]:
    """Return the appearance of photos by their sha256, measured once."""
    file = opened.cache / "appearance.json"
    known: dict[str, list[float]] = disk.read_json(file) or {}
    missing = {photo.sha256: photo for photo in photos if photo.sha256 not in known}
    for done, photo in enumerate(missing.values(), 1):
        known[photo.sha256] = appearance(photo)
        progress("looking at photos", done, len(missing))
    if missing:
        disk.write_json(file, known)
    return known


def _moves(
    opened: disk.Project, found: Curation, auto: bool, set_aside: Sequence[str], move: Mapping[str, str]
) -> list[Move]:
    """Return the moves that were asked for."""
    files = {identify(photo.path, photo.sha256): (photo.path, photo.sha256) for photo in found.photos}
    files |= {one.identifier: (one.path, one.sha256) for one in found.findings}
    unknown = [name for name in (*set_aside, *move) if name not in files]
    if unknown:
        raise WrongUse(
            f"{unknown[0]!r} names no photo that is there now: see stockpot curate {opened.folder}"
        )
    for label in move.values():
        disk.check_class_name(label)
    goes = {one.identifier: ("set-aside", "rule") for one in found.findings if auto and one.certain}
    goes |= dict.fromkeys(set_aside, ("set-aside", "hand"))
    goes |= {name: (f"photos/{label}", "hand") for name, label in move.items()}
    taken: set[Path] = set()
    moves = []
    for name, (place, by) in goes.items():
        path, sha256 = files[name]
        why = [one for one in found.findings if one.identifier == name]
        folder = opened.folder / place
        target = free_place(folder / path.parent.name if place == "set-aside" else folder, path.name, taken)
        moves.append(
            Move(
                sha256=sha256,
                source=path.relative_to(opened.folder).as_posix(),
                target=target.relative_to(opened.folder).as_posix(),
                reasons=tuple(one.reason for one in why),
                rules=tuple(one.rule for one in why),
                by=by,
            )
        )
    return moves
