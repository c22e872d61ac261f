"""Curating: what should perhaps not be there is named with a reason; what goes can come back."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.curation import checks
from stockpot.curation.findings import COPIES, Finding, identify, keep_findings
from stockpot.curation.journal import Journal, Move, free_place
from stockpot.curation.known_by_sight import BACKBONE, Sight, keep_sights, known_by_sight
from stockpot.curation.shortcuts import Looks, Shortcut, find_shortcut, look_at
from stockpot.errors import PhotoError, ProjectError, WrongUse
from stockpot.learning.features import cached_features
from stockpot.model.engine import load_engine
from stockpot.photos.duplicates import distinct_photos
from stockpot.photos.index import Index, index_project
from stockpot.photos.intake import read_origins
from stockpot.photos.photo import Photo, short_name
from stockpot.progress import Progress, silent

FEWEST = 10  # groups of photos of a class below which it is not judged by features
LOOKED_AT = 256  # photos after which what was measured is written down
_LOOKS_VERSION = 1


class _KeptLooks(TypedDict):
    """What `looks.json` holds."""

    version: int
    looks: dict[str, tuple[float, float, float, float, float, float]]  # of `Looks`


log = logging.getLogger("stockpot")


@dataclass(frozen=True)
class Curation:
    """What was found, and what was done about it."""

    photos: tuple[Photo, ...]  # that are in `photos/`, least fitting first
    findings: tuple[Finding, ...]  # of files that are there, certain ones and strong ones first
    unjudged: tuple[str, ...]  # classes with too few photos to say which of them do not fit
    sights: tuple[Sight, ...]
    shortcut: Shortcut | None
    moved: int = 0  # files that this call moved
    step: int | None = None  # number to undo it by


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
        auto: set aside what is certain: files that are no photos, second copies, blank and tiny photos, and what
            was set aside before.
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
        Busy, FolderError: the project cannot be written, or files in it cannot be moved.
    """
    opened = disk.open_project(project)
    with opened.writing():
        journal = Journal(opened)
        journal.finish()
        index = index_project(opened, progress)
        if not index.photos and not index.refused:
            raise PhotoError(f"{opened.photos} has no readable photo: add some first.")
        found = _look(opened, journal, index, progress)
        moves = _moves(opened, found, auto, set_aside, move or {})
        if moves:
            step, moved = journal.move(moves)
            after = _look(opened, journal, index_project(opened, progress), progress)
            found = replace(after, moved=moved, step=step)
        keep_sights(opened, found.sights)
        keep_findings(opened, found.findings)
        return found


def undo(project: Path | str, step: int | Literal["all"] | None = None) -> int:
    """Put back what a step of `curate` moved, the last one by default, or all; return how many files.

    Raises:
        ProjectError: no project.
        WrongUse: there is no such step, or a later one moved its files again.
        Busy, FolderError: the project cannot be written, or files in it cannot be moved.
    """
    opened = disk.open_project(project)
    with opened.writing():
        journal = Journal(opened)
        finished = journal.finish()
        if finished is not None and step in (None, finished):
            return sum(
                row.get("undoes") == finished for row in journal.rows
            )  # it was asked for before a kill
        steps = sorted(journal.standing, reverse=True) if step == "all" else [step]
        return sum(journal.undo(one) for one in steps)


def _look(opened: disk.Project, journal: Journal, index: Index, progress: Progress) -> Curation:
    """Apply all rules."""
    distinct = distinct_photos(index.photos, index.near)
    looks = _looks(opened, index.photos, progress)
    findings = [
        *checks.unreadable(index.refused),
        *checks.set_aside_before(index.photos, journal.verdicts, _sources(opened)),
        *checks.too_small(index.photos),
        *checks.blank(index.photos, {sha256: look.range for sha256, look in looks.items()}),
        *checks.repeated(distinct),
    ]
    certain = {finding.path for finding in findings if finding.certain}
    rest = [photo for photo in distinct.photos if photo.path not in certain]
    findings += checks.near(rest, index.near)
    features = curation_features(opened, rest, progress)
    labels, groups = [photo.label for photo in rest], [photo.group for photo in rest]
    counts = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    judged = [i for i, label in enumerate(labels) if counts[label] >= FEWEST]
    names = sorted({labels[i] for i in judged})
    order = {photo.path: 0.0 for photo in index.photos}
    if len(names) > 1:
        photos = [rest[i] for i in judged]
        numbers = np.array([names.index(photo.label) for photo in photos])
        suspicion = checks.suspect(features[judged], numbers, [photo.group for photo in photos])
        findings += checks.misfits(photos, names, suspicion)
        order |= {photo.path: float(rank) for photo, rank in zip(photos, suspicion.rank, strict=True)}
    return Curation(
        photos=tuple(sorted(index.photos, key=lambda photo: (-order[photo.path], photo.path))),
        findings=tuple(sorted(findings, key=lambda one: (not one.certain, -one.strength, one.path))),
        unjudged=tuple(sorted(set(labels) - set(names if len(names) > 1 else ()))),
        sights=known_by_sight(features, labels, progress) if rest else (),
        shortcut=find_shortcut([looks[photo.sha256] for photo in rest], labels, groups),
    )


def source_of(opened: disk.Project, sha256: str) -> str:
    """Return the sha256 of the bytes that a photo was received as."""
    return _sources(opened).get(sha256, sha256)


def _sources(opened: disk.Project) -> dict[str, str]:
    """Return the sha256 of the bytes that were received, by that of the file they became."""
    rows = read_origins(opened)
    return {row["sha256"]: row["source_sha256"] for row in rows if "source_sha256" in row}


def curation_features(
    opened: disk.Project, photos: Sequence[Photo], progress: Progress = silent
) -> NDArray[np.float32]:
    """Return the features `(N, C)` that curation judges photos by, computed once."""
    if not photos:
        return np.zeros((0, 0), np.float32)
    backbone = load_backbone(BACKBONE, progress=progress)
    graph = ensure_graph(opened.graphs, backbone.key, lambda: backbone, progress)
    return cached_features(
        opened, photos, backbone.key, backbone.preprocessing, lambda: load_engine(graph), progress
    ).pooled


def _looks(opened: disk.Project, photos: Sequence[Photo], progress: Progress) -> dict[str, Looks]:
    """Return size, brightness and the like of photos by their sha256, measured once."""
    known = _known_looks(opened)
    missing = iter({photo.sha256: photo for photo in photos if photo.sha256 not in known}.values())
    total = len({photo.sha256 for photo in photos} - known.keys())
    done = 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as lookers:
        while some := list(islice(missing, LOOKED_AT)):
            for photo, look in zip(some, lookers.map(look_at, some), strict=True):
                known[photo.sha256] = look
                done += 1
                progress("measuring photos", done, total)
            disk.write_json(opened.looks_file, {"version": _LOOKS_VERSION, "looks": known})
    return known


def _known_looks(opened: disk.Project) -> dict[str, Looks]:
    try:
        stored = disk.read_shaped(opened.looks_file, _KeptLooks)
        if stored and stored["version"] == _LOOKS_VERSION:
            return {sha256: Looks(*look) for sha256, look in stored["looks"].items()}
    except (ProjectError, TypeError):
        pass  # a damaged cache is no cache
    return {}


def _moves(
    opened: disk.Project, found: Curation, auto: bool, set_aside: Sequence[str], move: Mapping[str, str]
) -> list[Move]:
    """Return the moves that were asked for."""
    goes: dict[str, str] = dict.fromkeys(set_aside, "")  # identifier -> class, or nothing: set aside
    if twice := sorted(goes.keys() & move.keys()):
        raise WrongUse(f"{twice[0]} is to be set aside and to be moved: choose one.")
    goes |= move
    files: dict[str, set[tuple[Path, str]]] = {}
    for photo in found.photos:
        files.setdefault(identify(photo.path, photo.sha256), set()).add((photo.path, photo.sha256))
    for one in found.findings:
        files.setdefault(one.identifier, set()).add((one.path, one.sha256))
    for name in goes:
        if len(files.get(name, ())) != 1:
            names = "no photo that is there now" if name not in files else "two photos; rename one"
            raise WrongUse(f"{name!r} names {names}: see stockpot curate {opened.folder}")
    for name, label in move.items():
        check_class(opened, next(iter(files[name]))[0], label)
    why: dict[str, list[Finding]] = {}
    for finding in found.findings:
        why.setdefault(finding.identifier, []).append(finding)
    by_rule = {one.identifier for one in found.findings if auto and one.certain} - goes.keys()
    aside = {name for name, label in goes.items() if not label}
    by_rule -= _spared(found, by_rule, aside, why)
    stays = _staying(found, aside | by_rule)
    sources = _sources(opened)
    taken: set[str] = set()
    moves = []
    for name, label in [*goes.items(), *((name, "") for name in sorted(by_rule))]:
        for path, sha256 in sorted(files[name]):
            folder = opened.photos / label if label else opened.set_aside / path.parent.name
            target = free_place(folder / path.name, taken)
            moves.append(
                Move(
                    sha256=sha256,
                    source_sha256=sources.get(sha256, sha256),
                    source=path.relative_to(opened.folder).as_posix(),
                    target=target.relative_to(opened.folder).as_posix(),
                    reasons=tuple(one.reason for one in why.get(name, ())),
                    rules=tuple(one.rule for one in why.get(name, ())) or ("duplicate",) * (sha256 in stays),
                    suggested=next((one.suggested for one in why.get(name, ()) if one.suggested), ""),
                    by="rule" if name in by_rule else "hand",
                )
            )
    return moves


def _spared(
    found: Curation, by_rule: Set[str], aside: Set[str], why: Mapping[str, Sequence[Finding]]
) -> set[str]:
    """Return a second copy of each photo whose first is set aside for no other reason than being there twice."""
    stays = _staying(found, aside | by_rule)
    judged = {one.sha256 for name in aside for one in why.get(name, ()) if one.rule not in COPIES}
    spared = {}
    for one in found.findings:
        only_copy = one.rule == "duplicate" and len(why[one.identifier]) == 1 and one.identifier in by_rule
        if only_copy and one.sha256 not in stays | judged:
            spared[one.sha256] = one.identifier
    return set(spared.values())


def _staying(found: Curation, leaving: Set[str]) -> set[str]:
    """Return the sha256 of photos of which a copy stays where it is."""
    return {one.sha256 for one in found.photos if identify(one.path, one.sha256) not in leaving}


def check_class(opened: disk.Project, path: Path, label: str) -> None:
    """Refuse a class that a photo cannot go to; name one that is new.

    Raises:
        WrongUse: it is the photo's own class, or cannot be a folder.
    """
    folders = {folder.name: folder for folder in disk.visible(opened.photos) if folder.is_dir()}
    if label not in folders:
        disk.check_class_name(label)
    there = opened.photos / label
    if there.exists() and there.samefile(path.parent):
        raise WrongUse(f"{short_name(path)} is in class {path.parent.name} already.")
    if not there.exists():
        log.warning("%s is a new class", label)
