"""The page for looking through all photos: findings first, boxes to tick, and the command that carries it out."""

import os
import shlex
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stockpot import project as disk
from stockpot.curation.curation import Curation
from stockpot.curation.findings import Finding, identify
from stockpot.curation.shortcuts import Shortcut
from stockpot.errors import UnreadablePhoto
from stockpot.photos.photo import Photo
from stockpot.photos.pixels import thumbnail
from stockpot.progress import Progress, silent
from stockpot.reporting.origins import read_sight
from stockpot.reporting.pictures import jpeg_url
from stockpot.reporting.texts import Texts, texts

SIDE = 112  # pixels of the long side of a photo on the page


def write_curation_page(project: Path | str, curation: Curation, progress: Progress = silent) -> Path:
    """Write `curation.html`: all photos by class, those with findings first; return its path.

    Args:
        project: a project folder; the page's commands name it as it is reached from the present folder.
        curation: what was found in it.
        progress: told how many photos are on the page.

    Raises:
        ProjectError: no project.
        Busy, FolderError: it cannot be written.
    """
    opened = disk.open_project(project)
    say, name = texts("en"), opened.folder.resolve().name
    findings: dict[Path, list[Finding]] = defaultdict(list)
    for finding in curation.findings:
        findings[finding.path].append(finding)
    cards: dict[str, list[dict[str, Any]]] = defaultdict(list)
    first = sorted(curation.photos, key=lambda photo: _place(findings[photo.path]))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as makers:
        made = makers.map(lambda photo: _card(photo, findings.get(photo.path, [])), first)
        for done, (photo, card) in enumerate(zip(first, made, strict=True), 1):
            cards[photo.label].append(card)
            progress("making the page", done, len(first))
    room = files("stockpot.reporting") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stockpot.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("curation.html").render(
        language="en",
        say=say,
        style=Markup((room / "report.css").read_text("utf-8")),
        project=name,
        folder=_from_here(opened.folder),
        quoted=shlex.quote(_from_here(opened.folder)),
        photos=len(curation.photos),
        flagged=sum(bool(findings[photo.path]) for photo in curation.photos),
        refused=[one for one in curation.findings if one.rule == "unreadable"],
        unjudged=", ".join(curation.unjudged),
        classes=sorted(cards.items()),
        sights=[read_sight(sight, say) for sight in curation.sights],
        shortcut=_shortcut(curation.shortcut, say),
    )
    with opened.writing():
        disk.write_bytes(opened.curation_page, page.encode("utf-8", "backslashreplace"))
    return opened.curation_page


def _from_here(folder: Path) -> str:
    """Return the way to a folder from the present one."""
    try:
        return Path(os.path.relpath(folder)).as_posix()
    except ValueError:  # on another drive
        return folder.as_posix()


def _place(found: list[Finding]) -> tuple[bool, float]:
    """Return where a photo stands; photos without a finding keep the order they come in."""
    return not found, -max((one.strength for one in found), default=0.0)


def _card(photo: Photo, found: list[Finding]) -> dict[str, Any]:
    try:
        image = jpeg_url(thumbnail(photo.path, SIDE))
    except UnreadablePhoto:  # it has changed since
        image = ""
    return {
        "identifier": identify(photo.path, photo.sha256),
        "image": image,
        "name": photo.path.name,
        "reasons": [one.reason for one in found],
        "suggested": next((one.suggested for one in found if one.suggested), ""),
    }


def _shortcut(found: Shortcut | None, say: Texts) -> str:
    if found is None:
        return say("curation.shortcut_few")
    return say(
        f"curation.shortcut_{'found' if found.found else 'none'}",
        accuracy=found.accuracy,
        chance=found.chance,
        n=found.n,
        by=found.by,
    )
