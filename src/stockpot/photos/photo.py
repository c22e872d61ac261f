"""A labelled image file, known by its bytes."""

import hashlib
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


def fingerprint(data: bytes) -> str:
    """Return the sha256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def short_name(path: Path) -> str:
    """Return a photo's folder and name, as messages and the report show it."""
    return f"{path.parent.name}/{path.name}"
