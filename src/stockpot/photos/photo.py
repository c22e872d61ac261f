"""A labelled image file, known by its bytes."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Photo:
    """A labelled image file, known by its bytes."""

    path: Path
    label: str  # name of the class folder
    sha256: str  # of the file's bytes: its identity
    width: int  # pixels, upright
    height: int
    group: str = ""  # smallest sha256 of its duplicate group


@dataclass(frozen=True)
class Refused:
    """A file in a class folder that does not count, and why."""

    path: Path
    reason: str
    sha256: str = ""  # of the file's bytes, where they could be read


def describe_refused(refused: Iterable[Refused], names: int = 10) -> list[str]:
    """Return a line a reason: how many files, why, and the first of their names."""
    by_reason: dict[str, list[str]] = {}
    for file in refused:
        by_reason.setdefault(file.reason, []).append(short_name(file.path))
    lines = []
    for reason, files in by_reason.items():
        more = f" and {len(files) - names} more" if len(files) > names else ""
        listed = f"{', '.join(files[:names])}{more}"
        one = len(files) == 1
        lines.append(f"{listed}: {reason}" if one else f"{len(files)} files, each {reason}: {listed}")
    return lines


def fingerprint(data: bytes) -> str:
    """Return the sha256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def short_name(path: Path) -> str:
    """Return a photo's folder and name, as messages and the report show it."""
    return f"{path.parent.name}/{path.name}"
