"""Photos on their way into a project: decoded, encoded anew, named by their own bytes, each with its origin.

A photo waits under a hidden name until its line stands in `photos.jsonl`. So, whenever the program is killed,
no photo is there without an origin, and none is half there.
"""

import io
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from PIL import Image

from stockpot import project as disk
from stockpot.collection.fetching import Dropped
from stockpot.collection.hits import Hit
from stockpot.errors import FolderError, UnreadablePhoto
from stockpot.photos.intake import read_origins
from stockpot.photos.photo import fingerprint
from stockpot.photos.pixels import decode

LONG_SIDE = 1024  # pixels that are kept
SHORT_SIDE = 64  # pixels that a photo must have
MOST_PIXELS = 40_000_000  # of a stranger's photo: several are decoded at once
QUALITY = 90  # of our JPEG
_WAITING = ".arriving"


class _Refusal(TypedDict):
    """A line of `refused.jsonl`."""

    url: str
    reason: str


class Arrivals:
    """What has come into a project from outside, and what is not fetched again."""

    def __init__(self, project: disk.Project, asked: Mapping[str, str | bool]) -> None:
        """Read what came before.

        Args:
            project: where photos come in.
            asked: what was asked for that is not usual, kept with every photo.
        """
        self.project, self.asked = project, dict(asked)
        self.refusals = (
            project.cache / "refused.jsonl"
        )  # forgotten with the cache: then it is asked for again
        rows = read_origins(project)
        self.urls = {row["url"]: "" for row in disk.read_lines(self.refusals, _Refusal)}
        self.urls |= {row["url"]: row["file"] for row in rows if "url" in row}  # to the file, if it came
        self.received = {row["source_sha256"]: row["file"] for row in rows if "source_sha256" in row}
        self.kept = {row["sha256"]: row["file"] for row in rows}
        self._finish()

    def count(self, label: str) -> int:
        """Return how many files a class has."""
        folder = self.project.photos / label
        return sum(file.is_file() for file in disk.visible(folder)) if folder.is_dir() else 0

    def elsewhere(self, label: str, hit: Hit) -> str:
        """Return the other class that has a photo already, or nothing."""
        other = Path(self.urls.get(hit.url, "")).parent.name
        return "" if other == label else other

    def check(self, label: str, data: bytes) -> None:
        """Refuse received bytes that were received before.

        Raises:
            Dropped: they are here already.
        """
        source = fingerprint(data)
        if source in self.received:
            raise Dropped(_double(self.received[source], label))

    def add(self, label: str, hit: Hit, data: bytes, jpeg: bytes, size: tuple[int, int]) -> None:
        """Keep a photo.

        Args:
            label: its class.
            hit: where it comes from.
            data: the bytes that were received.
            jpeg: the bytes that are kept, as `encode_anew` makes them.
            size: their width and height in pixels.

        Raises:
            Dropped: it is here already.
            ProjectError: the class is a link that leads out of the project.
            FolderError: the project cannot be written.
        """
        self.check(label, data)
        sha256, source = fingerprint(jpeg), fingerprint(data)
        if sha256 in self.kept:
            raise Dropped(_double(self.kept[sha256], label))
        target = self.project.inside(f"photos/{label}/{sha256[:12]}.jpg")
        name = target.relative_to(self.project.photos).as_posix()
        row = {
            "sha256": sha256,
            "source_sha256": source,
            "file": name,
            "url": hit.url,
            "page": hit.page,
            "query": hit.query,
            "engine": hit.engine,
            "licence": hit.license,
            "attribution": hit.attribution,
            "size": len(jpeg),
            "width": size[0],
            "height": size[1],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        } | self.asked
        waiting = target.with_name(f".{target.name}{_WAITING}")
        disk.write_bytes(waiting, jpeg)
        disk.append_lines(self.project.provenance, [row])
        try:
            waiting.replace(target)
        except OSError as error:
            raise FolderError(f"{target} cannot be written ({error.strerror}): rights.") from None
        self.received[source] = self.kept[sha256] = self.urls[hit.url] = name

    def refuse(self, hit: Hit, reason: str) -> None:
        """Remember what is not to be fetched again, and why.

        Raises:
            FolderError: the project cannot be written.
        """
        disk.append_lines(self.refusals, [{"url": hit.url, "reason": reason}])
        self.urls[hit.url] = ""

    def _finish(self) -> None:
        """Give photos whose line was written before a kill their names; delete those without a line."""
        came = set(self.kept.values())
        for waiting in self.project.photos.glob(f"*/.*{_WAITING}*"):
            name = waiting.name[1 : -len(_WAITING)]
            with suppress(OSError):
                if waiting.name.endswith(_WAITING) and f"{waiting.parent.name}/{name}" in came:
                    waiting.replace(waiting.with_name(name))
                else:
                    waiting.unlink()


def encode_anew(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Return a photo as our own JPEG, without metadata, and its width and height in pixels.

    Raises:
        Dropped: it is no photo, too large or too small.
    """
    try:
        photo = decode(data, 2 * LONG_SIDE, MOST_PIXELS)
    except UnreadablePhoto as error:
        raise Dropped(str(error).partition(" (")[0].partition(":")[0]) from None
    if min(photo.size) < SHORT_SIDE:
        raise Dropped(f"has fewer than {SHORT_SIDE} pixels on a side")
    photo.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=QUALITY, comment=b"")
    return file.getvalue(), photo.size


def _double(name: str, label: str) -> str:
    other = Path(name).parent.name
    return "here already" if other == label else f"here already, as {other}"
