"""The report's words on its photos: where they came from, what was set aside, and whether ImageNet knows them."""

from collections import Counter
from typing import Any

from stockpot import project as disk
from stockpot.collection.known_names import find_known
from stockpot.curation.findings import BY_PREDICTION
from stockpot.curation.journal import Journal
from stockpot.curation.known_by_sight import Sight, read_sights
from stockpot.photos.intake import read_origins
from stockpot.photos.splits import Split, known_sides
from stockpot.reporting.texts import Texts


def describe_photos(project: disk.Project, split: Split, say: Texts) -> dict[str, Any]:
    """Return what the report's section on photos says beside their numbers."""
    rows = {row["sha256"]: row for row in read_origins(project)}
    photos = split.training + split.validation
    used: list[dict[str, Any]] = [{**rows[one.sha256]} if one.sha256 in rows else {} for one in photos]
    origins = Counter((_origin(row, say), row.get("licence", "")) for row in used)
    journal = Journal(project)
    return {
        "origins": [(origin, licence, count) for (origin, licence), count in origins.most_common()],
        "attributions": sorted({row["attribution"] for row in used if row.get("attribution")}),
        "curated": _curated(project, journal, {photo.sha256 for photo in photos}, say),
        "aside_files": [
            f"{row['target']}: {', '.join(row['reasons']) or say('photos.by_hand')}"
            for row in journal.set_aside
        ],
        "known": _known(project, split, say),
    }


def _origin(row: dict[str, Any], say: Texts) -> str:
    """Return the search engine, the data set, or that they are one's own."""
    of_a_set, _, _ = str(row.get("source", "")).rpartition("/")
    return str(row.get("engine") or of_a_set or say("photos.own"))


def _curated(project: disk.Project, journal: Journal, used: set[str], say: Texts) -> list[str]:
    """Say what was set aside, by which rules, and what that did to the validation photos."""
    aside = journal.set_aside
    last = {row["sha256"]: row for moves in journal.standing.values() for row in moves}
    sides = known_sides(project)
    held = {sha256 for sha256, side in sides.items() if side == "validation"}
    gone = {row["sha256"]: row for row in aside if row["sha256"] in held - used}
    judged = sum(bool(BY_PREDICTION & set(row["rules"])) for row in gone.values())
    agreed = [sha256 for sha256 in held & used & last.keys() if _agrees(project, last[sha256])]
    sentences = []
    if aside:
        rules = Counter(rule for row in aside for rule in row["rules"] or (say("photos.by_hand"),))
        listed = ", ".join(f"{count} {rule}" for rule, count in rules.items())
        sentences.append(say("photos.aside", count=len(aside), rules=listed))
    if gone:
        sentences.append(say("photos.aside_validation", count=len(gone), judged=judged))
    if agreed:
        sentences.append(say("photos.moved_validation", count=len(agreed)))
    if judged or agreed:
        sentences.append(say("photos.flattered"))
    return sentences


def _agrees(project: disk.Project, row: dict[str, Any]) -> bool:
    """Tell whether a file was moved to the class that a model saw in it."""
    return (
        bool(row["suggested"])
        and (project.folder / row["target"]).parent == project.photos / row["suggested"]
    )


def _known(project: disk.Project, split: Split, say: Texts) -> list[str]:
    """Say which classes ImageNet or CIFAR may know, by name, and by sight where that was looked at."""
    sights = [sight for sight in read_sights(project) if sight.label in split.class_names]
    seen = {(sight.label, sight.index) for sight in sights}
    sentences = [read_sight(sight, say) for sight in sights]
    for label in split.class_names:
        for one in find_known(label):
            if one.data != "ImageNet" or (label, one.index) not in seen:
                values = {"label": label, "data": one.data, "index": one.index, "name": one.name}
                sentences.append(say(f"photos.known_{one.by}", **values))
    return sentences or [say("photos.known_none")]


def read_sight(sight: Sight, say: Texts) -> str:
    """Say what looking at a class's photos has found."""
    return say(f"curation.sight_{sight.verdict}", **vars(sight))
