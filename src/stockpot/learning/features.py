"""What a frozen backbone makes of every photo, computed once: pooled features and the maps behind them.

Two files a backbone, one row a photo: maps before GAP as float16, and features as float32, which are the means
of those very maps, so that class activation maps average to the logits to rounding. Line i of the index names
the photo of row i; rows without a line, left by a crash, are overwritten. `n` rows, `C` channels, `h`, `w`
cells.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.errors import FolderError, ProjectError
from stockpot.model.engine import Engine
from stockpot.photos.photo import Photo
from stockpot.photos.preprocessing import Pixels, Preprocessing, stream_photos
from stockpot.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of the cache for some photos, in their order."""

    pooled: NDArray[np.float32]  # (n, C)
    all_maps: NDArray[np.float16]  # (rows of the cache, C, h, w), on disk
    rows: tuple[int, ...]  # of each photo in `all_maps`

    def maps(self, index: int) -> NDArray[np.float16]:
        """Return the feature maps of photo `index`: `(C, h, w)`."""
        return np.asarray(self.all_maps[self.rows[index]])


def cached_features(
    project: disk.Project,
    photos: Sequence[Photo],
    key: str,
    preprocessing: Preprocessing,
    engine: Callable[[], Engine],
    progress: Progress = silent,
) -> Features:
    """Return the features of photos; those that are not cached are computed and stay.

    Args:
        project: whose cache is used.
        photos: in any order, each sha256 once.
        key: of the backbone's weights and preprocessing.
        preprocessing: how photos are prepared.
        engine: called only if something has to be computed.
        progress: told after every batch.

    Raises:
        UnreadablePhoto: a photo is gone, or has other bytes now.
        Busy, FolderError: the cache cannot be written.
    """
    cache = _Cache(project.features / key)
    known = set(cache.order)
    missing = [photo for photo in photos if photo.sha256 not in known]
    if missing:
        with project.writing():
            cache = _Cache(project.features / key)  # another process may have added rows
            missing = [photo for photo in photos if photo.sha256 not in set(cache.order)]
            _compute(cache, missing, preprocessing, engine(), progress)
    return cache.read([photo.sha256 for photo in photos])


def missing_features(project: disk.Project, photos: Sequence[Photo], key: str) -> int:
    """Return how many photos a backbone's cache does not have."""
    known = set(_Cache(project.features / key).order)
    return sum(photo.sha256 not in known for photo in photos)


class _Shape(TypedDict):
    """The first line of a cache's index."""

    shape: tuple[int, int, int]  # C, h, w


class _Row(TypedDict):
    """Every other line: the photo of a row."""

    sha256: str


class _Cache:
    """The files of one backbone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        header, *rows = disk.read_lines(folder / "index.jsonl", _Shape | _Row) or [None]
        if header and (
            "shape" not in header or min(header["shape"]) < 1 or any("shape" in row for row in rows)
        ):
            raise ProjectError(f"{folder} is damaged: delete it, its features are computed anew.")
        self.shape: tuple[int, int, int] | None = tuple(header["shape"]) if header else None  # C, h, w
        self.order: list[str] = [row["sha256"] for row in rows][: self._whole_rows()]

    def _whole_rows(self) -> int:
        """Return how many rows both files hold."""
        if self.shape is None:
            return 0
        channels, height, width = self.shape
        sizes = {"features.f32": 4 * channels, "maps.f16": 2 * channels * height * width}
        files = {self.folder / name: size for name, size in sizes.items()}
        return min(path.stat().st_size // size if path.exists() else 0 for path, size in files.items())

    def append(self, names: list[str], maps: NDArray[np.float32]) -> None:
        """Write rows first, then the index lines that make them count."""
        kept = maps.astype(np.float16)
        channels, height, width = maps.shape[1:]
        if self.shape is None:
            self.shape = (channels, height, width)
            disk.append_lines(self.folder / "index.jsonl", [{"shape": self.shape}])
        self._write("features.f32", kept.mean(axis=(2, 3), dtype=np.float32))
        self._write("maps.f16", kept)
        disk.append_lines(self.folder / "index.jsonl", [{"sha256": name} for name in names])
        self.order += names

    def _write(self, name: str, rows: NDArray[Any]) -> None:
        path = self.folder / name
        try:
            path.touch()
            with path.open("rb+") as file:
                file.seek(len(self.order) * rows[0].nbytes)
                file.write(rows.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FolderError(f"{path} cannot be written ({error.strerror}): free space or rights.") from None

    def read(self, names: list[str]) -> Features:
        """Return the rows of photos, in the order of `names`."""
        assert self.shape is not None, "something was computed before it is read"
        row = {name: index for index, name in enumerate(self.order)}
        rows = [row[name] for name in names]
        count = len(self.order)
        pooled = np.memmap(self.folder / "features.f32", np.float32, "r", shape=(count, self.shape[0]))
        maps = np.memmap(self.folder / "maps.f16", np.float16, "r", shape=(count, *self.shape))
        return Features(np.asarray(pooled[rows]), maps, tuple(rows))


def _compute(
    cache: _Cache, photos: list[Photo], preprocessing: Preprocessing, engine: Engine, progress: Progress
) -> None:
    done = 0
    with ThreadPoolExecutor(
        1
    ) as writer:  # the disk need not wait for the network, nor the network for the disk
        writing: Future[None] | None = None
        for names, pixels in _batches(photos, preprocessing, engine.at_once):
            maps = engine.run(pixels)[1]
            if writing:
                writing.result()
            writing = writer.submit(cache.append, names, maps)
            done += len(names)
            progress("computing features", done, len(photos))
        if writing:
            writing.result()


def _batches(
    photos: list[Photo], preprocessing: Preprocessing, count: int
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """Yield sha256 and pixels `(n, S, S, 3)` of `count` photos at a time."""
    names: list[str] = []
    batch: list[Pixels] = []
    for photo, pixels in zip(photos, stream_photos(photos, preprocessing), strict=True):
        names.append(photo.sha256)
        batch.append(pixels)
        if len(batch) == count:
            yield names, np.stack(batch)
            names, batch = [], []
    if batch:
        yield names, np.stack(batch)
