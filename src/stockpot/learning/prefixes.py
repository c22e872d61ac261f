"""What the frozen blocks below the learning ones make of every photo, computed once: a few varied views of each.

Views are made before the frozen blocks, because a mirrored map is not the map of the mirrored photo (maps of
even size are padded on one side). One file of float16, deleted when its run is complete. `N` photos, `V` views,
`S` input size, `C` channels, `h`, `w` cells.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones.backbone import Backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.errors import FolderError, ProjectError
from stockpot.learning.augmentation import seed_of, varied
from stockpot.model.engine import Engine
from stockpot.photos.photo import Photo
from stockpot.progress import Progress, silent

COUNTED = 128  # views after which the file is made to last


@dataclass(frozen=True, eq=False)
class Views:
    """Maps of some photos before the first block that learns."""

    maps: NDArray[np.float16]  # (N, V, C, h, w), on disk
    folder: Path

    def delete(self) -> None:
        """Delete the file; it can be computed again."""
        _forget(self.folder)


@dataclass(frozen=True)
class Variation:
    """How the views of a photo differ; they depend on this and on the photo's bytes alone."""

    kind: str  # as `varied` takes it
    count: int  # V, views of a photo; the first is the photo as it is
    seed: int

    def view(self, photo: Photo, pixels: Tensor, number: int) -> Tensor:
        """Return view `number` of a photo `(S, S, 3)`, uint8."""
        seed = seed_of(self.seed, int(photo.sha256[:12], 16), number)
        return varied(pixels, self.kind if number else "none", seed)


def graph_before(
    project: disk.Project, backbone: Backbone, block: str, before: nn.Module, progress: Progress = silent
) -> tuple[str, Path]:
    """Return key and ONNX graph of what comes before a block, exported now if it is not cached.

    Args:
        project: whose cache is used.
        backbone: the whole.
        block: the first one that learns.
        before: the part, as `Backbone.parts` gives it.
        progress: told before and after.

    Raises:
        ModelError: the graph does not compute what torch computes.
        FolderError: the cache cannot be written.
    """
    key = f"{backbone.key}-before-{block}"
    return key, ensure_graph(project.graphs, key, lambda: backbone, progress, before)


def missing_views(project: disk.Project, photos: Sequence[Photo], variation: Variation, key: str) -> int:
    """Return how many views of photos `cached_views` would have to compute."""
    return len(photos) * variation.count - _done(_folder(project, photos, variation, key))


def cached_views(
    project: disk.Project,
    photos: Sequence[Photo],
    pixels: Tensor,
    variation: Variation,
    key: str,
    engine: Callable[[], Engine],
    progress: Progress = silent,
) -> Views:
    """Return maps of varied views of photos; what an interrupted call has computed is not computed again.

    Args:
        project: whose cache is used.
        photos: N of them.
        pixels: `(N, S, S, 3)`, uint8: the same photos as the network receives them.
        variation: how views differ, and how many there are.
        key: of the frozen blocks and the preprocessing.
        engine: of the frozen blocks; called only if something has to be computed.
        progress: told after every batch.

    Raises:
        FolderError: the cache cannot be written.
    """
    folder = _folder(project, photos, variation, key)
    done = _done(folder)
    total = len(photos) * variation.count
    numbers = [divmod(number, variation.count) for number in range(done, total)]
    stream = (variation.view(photos[i], pixels[i], view) for i, view in numbers)
    if done < total:
        _compute(folder, done, total, stream, engine(), progress)
    shape = _written(folder)[-1]["shape"]
    maps = np.memmap(folder / "views.f16", np.float16, "r", shape=(len(photos), variation.count, *shape))
    return Views(maps, folder)


def forget_views(project: disk.Project, but: Sequence[Views]) -> None:
    """Delete all cached views but some."""
    kept = {views.folder for views in but}
    for folder in disk.visible(project.prefixes):
        if folder not in kept:
            _forget(folder)


def _forget(folder: Path) -> None:
    (folder / "done.jsonl").unlink(missing_ok=True)  # first: without it nothing counts
    shutil.rmtree(folder, ignore_errors=True)


def _folder(project: disk.Project, photos: Sequence[Photo], variation: Variation, key: str) -> Path:
    identity = [key, *astuple(variation), [photo.sha256 for photo in photos]]
    return project.prefixes / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


class _Line(TypedDict):
    """A line of `done.jsonl`."""

    views: int
    shape: tuple[int, int, int]


def _written(folder: Path) -> list[_Line]:
    """Return what is known of the views on disk; of a damaged file nothing, so that they are computed anew."""
    try:
        found: list[_Line] = disk.read_lines(folder / "done.jsonl", _Line)
    except ProjectError:
        return []
    return found if all(min(line["views"], *line["shape"]) > 0 for line in found) else []


def _done(folder: Path) -> int:
    """Return how many views count: those that the journal names and the file holds."""
    written, path = _written(folder), folder / "views.f16"
    if not written or not path.exists():
        return 0
    whole = path.stat().st_size // int(2 * math.prod(written[-1]["shape"]))
    return min(int(written[-1]["views"]), whole)


def _compute(
    folder: Path, done: int, total: int, stream: Iterator[Tensor], engine: Engine, progress: Progress
) -> None:
    """Append the maps of the views that are not there; a line in `done.jsonl` makes them count."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "views.f16").open("rb+" if done else "wb") as file:
            counted = done
            while batch := list(islice(stream, engine.at_once)):
                maps = engine.run(torch.stack(batch).numpy())[1].astype(np.float16)
                file.seek(done * maps[0].nbytes)
                file.write(maps.tobytes())
                done += len(batch)
                if done == total or done - counted >= COUNTED:
                    counted = done
                    file.flush()
                    os.fsync(file.fileno())
                    disk.append_lines(folder / "done.jsonl", [{"views": done, "shape": maps.shape[1:]}])
                progress("computing frozen blocks", done, total)
    except OSError as error:
        raise FolderError(f"{folder} cannot be written ({error.strerror}): free space or rights.") from None
