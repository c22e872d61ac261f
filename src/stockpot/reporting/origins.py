"""The report's words on its photos: where they came from, what was set aside, and whether ImageNet knows them."""

from collections import Counter
from typing import Any

from stockpot import project as disk
from stockpot.collection.known_names import find_known
from stockpot.curation.findings import BY_PREDICTION
from stockpot.curation.journal import Journal
from stockpot.curation.known_by_sight import Sight
from stockpot.photos.splits import Split
from stockpot.reporting.readings import Say, percent


def describe_photos(project: disk.Project, split: Split, say: Say) -> dict[str, Any]:
    """Return what the report's section on photos says beside their numbers."""
    rows = {row["sha256"]: row for row in disk.read_lines(project.provenance) if "sha256" in row}
    used = [rows.get(photo.sha256, {}) for photo in split.training + split.validation]
    origins = Counter((_engine(row, say), row.get("license", "")) for row in used)
    return {
        "origins": [(engine, license, count) for (engine, license), count in origins.most_common()],
        "attributions": sorted({row["attribution"] for row in used if row.get("attribution")}),
        "aside": _aside(project, say),
        "known": _known(project, split, say),
    }


def _engine(row: dict[str, Any], say: Say) -> str:
    return str(row.get("engine") or say("photos.own"))


def _aside(project: disk.Project, say: Say) -> list[str]:
    """Say what was set aside, by which rules, and how much of it had been validation photos."""
    rows = list(Journal(project).set_aside.values())
    if not rows:
        return []
    rules = Counter(rule for row in rows for rule in row["rules"] or ("by hand",))
    listed = ", ".join(f"{count} {rule}" for rule, count in rules.most_common())
    sides = (disk.read_json(project.split_file) or {}).get("sides", {})
    held = [row for row in rows if sides.get(row["sha256"]) == "validation"]
    judged = sum(bool(BY_PREDICTION & set(row["rules"])) for row in held)
    return [
        say("photos.aside", count=len(rows), rules=listed),
        say("photos.aside_validation", count=len(held), judged=judged),
    ]


def _known(project: disk.Project, split: Split, say: Say) -> list[str]:
    """Say which classes ImageNet or CIFAR may know, by name, and by sight where that was looked at."""
    sights = [Sight(**row) for row in disk.read_json(project.sights) or []]
    seen = {(sight.label, sight.index) for sight in sights}
    sentences = [read_sight(sight, say) for sight in sights]
    for label in split.class_names:
        for one in find_known(label):
            if one.data != "ImageNet" or (label, one.index) not in seen:
                sentences.append(say(f"photos.known_{one.by}", label=label, **_values(one)))
    return sentences or [say("photos.known_none")]


def _values(one: Any) -> dict[str, Any]:
    return {"data": one.data, "index": one.index, "name": one.name}


def read_sight(sight: Sight, say: Say) -> str:
    """Say what looking at a class's photos has found."""
    values = {"label": sight.label, "index": sight.index, "name": sight.name, "share": percent(sight.share)}
    return say(f"curation.sight_{sight.verdict}", **values)
