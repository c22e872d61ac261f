"""`predict` for millions of photos that a manifest names: workers on a Ray cluster read, classify and write parts.

Photos and answers never pass through the driver: a worker gets names, fetches the files itself and writes a Parquet
file. `C` channels, `K` classes, `h`, `w` cells of a map.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.cluster.parts import Job, Output, Part, count, names_in, parts_of, usual_part_rows
from stockpot.cluster.storage import OutOfReach, beside, fetch, is_local, place_of, reason_of
from stockpot.cluster.workers import cluster, share_out
from stockpot.errors import FolderError, UnreadablePhoto, WrongUse
from stockpot.learning.models import Place, graph_of, read_place
from stockpot.learning.predictions import columns, row
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import BATCH_SIZE, load_engine
from stockpot.model.prediction import Predictor
from stockpot.photos.pixels import decode
from stockpot.photos.preprocessing import Pixels, prepare, stream_read
from stockpot.progress import Progress, remark, silent

_FETCHING = 8  # files at once, a worker
_OWN = ("row", "uri", "features", "maps", "maps_shape")  # columns that `predict` does not have

Answer = NDArray[np.float32] | UnreadablePhoto


@dataclass(frozen=True)
class Totals:
    """What became of a manifest."""

    rows: int  # in, and out
    errors: int  # rows whose photo could not be read
    parts: int
    parts_before: int  # of them were there already
    seconds: float
    photos_by_node: dict[str, int]  # of the parts that were made now


def predict_manifest(
    place: Place,
    manifest: Path | str,
    output: Path | str,
    address: str = "",
    workers: int | None = None,
    part_rows: int | None = None,
    features: bool = False,
    maps: bool = False,
    progress: Progress = silent,
) -> Totals:
    """Write what a model says of every photo that a manifest names; called again, what is done is kept.

    Args:
        place: what `load_model` takes.
        manifest: Parquet, a file or a folder, with a column `uri`: paths, also relative to the manifest's folder,
            or addresses as `s3://bucket/a.jpg`.
        output: a folder, or an address; it gets Parquet files with `row`, `uri` and the columns of `predict`.
        address: of a Ray cluster, `ray://HOST:10001` or `HOST:6379`; by default the one that runs here or that
            `RAY_ADDRESS` names, else one is started on this computer.
        workers: processes; by default one a GPU, or one a processor where there is no GPU.
        part_rows: photos of a part, what a lost worker does again at most; by default 256, or more so that there
            are at most 4,096 parts.
        features: keep pooled features `(C,)` too.
        maps: keep class activation maps `(K, h, w)` too, as float16 and flat, with their shape.
        progress: told after every part.

    Raises:
        ModelError: there is no model, or it is damaged.
        PhotoError: there is no such manifest, or it has no names.
        WrongUse: the output holds something else, there is no cluster, or it has not so many processors.
        FolderError: the output cannot be written.
        RowsLost: not every row has an answer.
    """
    started = time.perf_counter()
    if part_rows is not None and part_rows < 1:
        raise WrongUse(f"part_rows is {part_rows}; expected 1 or more.")
    if workers is not None and workers < 1:
        raise WrongUse(f"workers is {workers}; expected 1 or more.")
    model = read_place(place)
    manifest, folder = _absolute(manifest), Output(_absolute(output))
    rows, digest = count(names_in(manifest))
    if not rows:
        raise WrongUse(f"{manifest} names no photo: give another --manifest.")
    job = Job(_sha256(model.path), digest, rows, part_rows or usual_part_rows(rows), features, maps)
    done = folder.begin(job)
    by_node: Counter[str] = Counter()
    if len(done) < job.parts:
        with cluster(address):
            photos = sum(map(job.rows_of, done))
            progress("predicting", photos, rows)
            wanted = (part for part in parts_of(names_in(manifest), job) if part.number not in done)
            settings = (model, graph_of(model, progress).read_bytes(), job, folder, _folder_of(manifest))
            for node, made in share_out(wanted, _Worker, settings, workers, progress):
                by_node[node] += made
                photos += made
                progress("predicting", photos, rows)
    remark(progress, f"model: {model.path}")
    errors = folder.check(job)
    return Totals(rows, errors, job.parts, len(done), time.perf_counter() - started, dict(by_node))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _absolute(place: Path | str) -> str:
    """Return a name that means the same to a process in another folder: a path, or an address elsewhere."""
    system, path = place_of(str(place))
    return path if is_local(system) else str(place)


def _folder_of(manifest: str) -> str:
    """Return the folder that names in a manifest are relative to."""
    system, path = place_of(manifest)
    if not system.get_file_info(path).is_file:
        return manifest
    return str(Path(manifest).parent) if is_local(system) else manifest.rpartition("/")[0]


class _Worker:
    """Makes parts, one after the other, in a process of its own."""

    job: Job
    output: Output
    folder: str  # that names are relative to
    predictor: Predictor

    def __init__(self, threads: int, device: str) -> None:
        self.threads, self.device = threads, device
        self.decoding = Semaphore(
            threads
        )  # large photos need memory: files are fetched, not decoded, by many

    def ready(self, settings: list[Any]) -> str:
        """Load the model, once; return the node this is on."""
        import ray

        if not hasattr(self, "predictor"):
            model, graph, self.job, self.output, self.folder = ray.get(settings[0])
            self.predictor = Predictor(model, load_engine(graph, self.threads, self.device))
        return str(ray.get_runtime_context().get_node_id())

    def make(self, part: Part, settings: list[Any]) -> int:
        """Write a part; return how many photos it has.

        Raises:
            FolderError: the output is not the driver's, or cannot be written.
        """
        self.ready(settings)  # it may have been started again
        if self.output.said() != asdict(self.job):
            raise FolderError(
                f"A worker sees no {self.output.name} of this job: give a shared folder, or s3://..., and one job "
                f"at a time."
            )
        self.output.write(part.number, self.table(part))
        return len(part.names)

    def table(self, part: Part) -> Any:
        """Return the rows of a part (`pyarrow.Table`).

        Raises:
            FolderError: none of its photos can be had, which is rather the storage's fault.
        """
        import pyarrow

        model, first = self.predictor.model, self.job.first_of(part.number)
        fields = _fields(model.class_names, self.job)
        answers = list(self.answers(part))
        if all(isinstance(answer, OutOfReach) for answer, _ in answers):
            raise FolderError(
                f"No photo of part {part.number} can be had, the first {answers[0][0]}: what is done is kept, give "
                f"the command again when they can."
            )
        rows = [
            [first + i, name, *row(self.predictor.judge(Path(), answer), model.class_names)[1:], *kept]
            for i, (name, (answer, kept)) in enumerate(zip(part.names, answers, strict=True))
        ]
        values = zip(*rows, strict=True)
        arrays = [pyarrow.array(column, kind) for column, (_, kind) in zip(values, fields, strict=True)]
        return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))

    def answers(self, part: Part) -> Iterator[tuple[Answer, list[Any]]]:
        """Yield the pooled features `(C,)` of every photo, or why there are none, and what else is kept of it."""
        batch: list[Pixels | UnreadablePhoto] = []
        for _, pixels in stream_read(part.names, self.read, _FETCHING, 4 * _FETCHING):
            batch.append(pixels)
            if len(batch) == BATCH_SIZE:
                yield from self.look(batch)
                batch = []
        yield from self.look(batch)

    def read(self, name: str | None) -> Pixels:
        """Return a photo as the network receives it.

        Raises:
            UnreadablePhoto: there is none of that name.
        """
        if not name:
            raise UnreadablePhoto("has no name")
        preprocessing = self.predictor.model.preprocessing
        try:
            data = fetch(beside(name, self.folder))
            with self.decoding:
                return prepare(decode(data, 2 * preprocessing.image_size), preprocessing)
        except UnreadablePhoto:
            raise
        except Exception as error:  # noqa: BLE001 - one photo must not end the work on millions
            raise UnreadablePhoto(f"cannot be read ({type(error).__name__}: {reason_of(error)})") from None

    def look(self, batch: list[Pixels | UnreadablePhoto]) -> Iterator[tuple[Answer, list[Any]]]:
        """Send what could be read through the network."""
        pixels = [answer for answer in batch if not isinstance(answer, UnreadablePhoto)]
        found = zip(*self.predictor.engine.run(np.stack(pixels)), strict=True) if pixels else iter(())
        for answer in batch:
            if isinstance(answer, UnreadablePhoto):
                yield answer, [None] * (self.job.features + 2 * self.job.maps)
            else:
                features, maps = next(found)
                yield features, self.kept(features, maps)

    def kept(self, features: NDArray[np.float32], maps: NDArray[np.float32]) -> list[Any]:
        """Return what is asked for of features `(C,)` and feature maps `(C, h, w)`."""
        kept: list[Any] = [features] if self.job.features else []
        if self.job.maps:
            cams = activation_maps(maps, self.predictor.model.weight).astype(np.float16)
            kept += [cams.ravel(), cams.shape]
        return kept


def _fields(class_names: tuple[str, ...], job: Job) -> list[tuple[str, Any]]:
    """Return the names and types of a part's columns; a class called as one of them has `class ` before it."""
    import pyarrow

    text, number, half = pyarrow.string(), pyarrow.float64(), pyarrow.list_(pyarrow.float16())
    named = [f"class {name}" if name in _OWN else name for name in columns(class_names)[1:]]
    kinds = [text, number, *(number for _ in class_names), pyarrow.bool_(), text]
    fields = [("row", pyarrow.int64()), ("uri", text), *zip(named, kinds, strict=True)]
    fields += [("features", pyarrow.list_(pyarrow.float32()))] if job.features else []
    fields += [("maps", half), ("maps_shape", pyarrow.list_(pyarrow.int32()))] if job.maps else []
    return fields
