"""Photos on their way into a project: decoded, encoded anew, named by their own bytes, each with its origin.

A photo waits under a hidden name until its line stands in `photos.jsonl`. So, whenever the program is killed,
no photo is there without an origin, and none is half there.
"""

import io
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image

from stockpot import project as disk
from stockpot.collection.fetching import Dropped
from stockpot.collection.hits import Hit
from stockpot.errors import FolderError, UnreadablePhoto
from stockpot.photos.photo import fingerprint
from stockpot.photos.pixels import decode

LONGEST = 1024  # pixels of the longer side that is kept
SHORTEST = 64  # pixels of the shorter side that a photo must have
QUALITY = 90  # of our JPEG
_WAITING = ".arriving"


class Arrivals:
    """What has come into a project from outside, and what is never fetched again."""

    def __init__(self, project: disk.Project) -> None:
        self.project = project
        self.refusals = (
            project.cache / "refused.jsonl"
        )  # forgotten with the cache: then it is asked for again
        rows = disk.read_lines(project.provenance)
        self.urls = {row["url"] for row in rows if "url" in row}
        self.urls |= {row["url"] for row in disk.read_lines(self.refusals)}
        self.sources = {row["source_sha256"]: row["file"] for row in rows if "source_sha256" in row}
        self.files = {row["file"] for row in rows if "file" in row}
        self._finish()

    def count(self, label: str) -> int:
        """Return how many files a class has."""
        folder = self.project.photos / label
        return sum(file.is_file() for file in disk.visible(folder)) if folder.is_dir() else 0

    def check(self, label: str, data: bytes) -> None:
        """Refuse received bytes that were received before.

        Raises:
            Dropped: they are here already.
        """
        source = fingerprint(data)
        if source in self.sources:
            raise Dropped(_double(self.sources[source], label))

    def add(self, label: str, hit: Hit, data: bytes, kept: bytes, size: tuple[int, int]) -> None:
        """Keep a photo.

        Args:
            label: its class.
            hit: where it comes from.
            data: the bytes that were received.
            kept: the bytes that are kept, as `encode_anew` makes them.
            size: their width and height in pixels.

        Raises:
            Dropped: it is here already.
            FolderError: the project cannot be written.
        """
        self.check(label, data)
        sha256, source = fingerprint(kept), fingerprint(data)
        target = self.project.photos / label / f"{sha256[:12]}.jpg"
        name = target.relative_to(self.project.photos).as_posix()
        if name in self.files or target.exists():
            raise Dropped(_double(name, label))
        row = {
            "sha256": sha256,
            "source_sha256": source,
            "file": name,
            "url": hit.url,
            "page": hit.page,
            "query": hit.query,
            "engine": hit.engine,
            "license": hit.license,
            "attribution": hit.attribution,
            "size": size,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        waiting = target.with_name(f".{target.name}{_WAITING}")
        disk.write_bytes(waiting, kept)
        try:
            disk.append_lines(self.project.provenance, [row])
            waiting.replace(target)
        except OSError as error:
            raise FolderError(
                f"{self.project.folder} cannot be written ({error.strerror}): free space or rights."
            ) from None
        self.sources[source] = name
        self.files.add(name)
        self.urls.add(hit.url)

    def refuse(self, hit: Hit, reason: str) -> None:
        """Remember what is not to be fetched again, and why."""
        disk.append_lines(self.refusals, [{"url": hit.url, "reason": reason}])
        self.urls.add(hit.url)

    def _finish(self) -> None:
        """Give photos whose line was written before a kill their names; delete those without a line."""
        for waiting in self.project.photos.glob(f"*/.*{_WAITING}"):
            name = waiting.name[1 : -len(_WAITING)]
            with suppress(OSError):
                if f"{waiting.parent.name}/{name}" in self.files:
                    waiting.replace(waiting.with_name(name))
                else:
                    waiting.unlink()


def encode_anew(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Return a photo as our own JPEG, without metadata, and its width and height in pixels.

    Raises:
        Dropped: it is no photo, or too small.
    """
    try:
        photo = decode(data)
    except UnreadablePhoto as error:
        raise Dropped(str(error)) from None
    if min(photo.size) < SHORTEST:
        raise Dropped(f"has fewer than {SHORTEST} pixels on a side")
    photo.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=QUALITY, comment=b"")
    return file.getvalue(), photo.size


def _double(name: str, label: str) -> str:
    other = Path(name).parent.name
    return "here already" if other == label else f"here already, as {other}"
