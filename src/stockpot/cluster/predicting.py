"""`predict` for millions of photos that a manifest names: actors of Ray read, classify and write part after part.

Photos and answers never pass through the driver: an actor gets names, fetches the files itself and writes a Parquet
file. `N` rows of a part, `C` channels, `K` classes, `h`, `w` cells of a map.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.cluster.parts import Job, Output, count, names_in, parts_of
from stockpot.cluster.storage import fetch
from stockpot.errors import RowsLost, UnreadablePhoto, WrongUse
from stockpot.learning.models import Place, graph_of, load_model
from stockpot.learning.predictions import columns, row
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import BATCH_SIZE, load_engine
from stockpot.model.model_file import ModelFile
from stockpot.model.prediction import Predictor
from stockpot.photos.pixels import decode
from stockpot.photos.preprocessing import Pixels, prepare, stream_read
from stockpot.progress import Progress, silent

PART_ROWS = 512  # what a killed worker does again at most
_FETCHING = 8  # files at once, a worker
_AGAIN = 3  # times that a part whose worker died is tried again


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
    part_rows: int = PART_ROWS,
    features: bool = False,
    maps: bool = False,
    progress: Progress = silent,
) -> Totals:
    """Write what a model says of every photo that a manifest names; called again, what is done is kept.

    Args:
        place: what `load_model` takes.
        manifest: Parquet, a file or a folder, with a column `uri`: paths, or addresses as `s3://bucket/a.jpg`.
        output: a folder, or an address; it gets Parquet files with `row`, `uri` and the columns of `predict`.
        address: of a Ray cluster, `ray://HOST:10001` or `HOST:6379`; by default the one that runs here or that
            `RAY_ADDRESS` names, else one is started on this computer.
        workers: processes; by default one a processor, or one a GPU where there are some.
        part_rows: photos of a part, the least that is lost and done again.
        features: keep pooled features `(C,)` too.
        maps: keep class activation maps `(K, h, w)` too, as float16.
        progress: told after every part.

    Raises:
        ModelError: there is no model, or it is damaged.
        PhotoError: there is no such manifest, or it has no names.
        WrongUse: the output holds something else, or there are not so many processors.
        RowsLost: not every row has an answer.
    """
    started = time.perf_counter()
    predictor = load_model(place, progress)
    rows, names = count(names_in(str(manifest)))
    if not rows:
        raise WrongUse(f"{manifest} names no photo: give another --manifest.")
    if part_rows < 1:
        raise WrongUse(f"part_rows is {part_rows}; expected 1 or more.")
    job = Job(_sha256(predictor.model.path), names, rows, part_rows, features, maps)
    folder = Output(str(output))
    done = folder.begin(job)
    by_node: Counter[str] = Counter()
    if len(done) < job.parts:
        wanted = (one for one in parts_of(names_in(str(manifest)), job) if one[0] not in done)
        finished = len(done)
        with _actors(predictor.model, job, folder, address, workers, progress) as actors:
            for node, photos in _hand_out(wanted, actors):
                by_node[node] += photos
                finished += 1
                progress("predicting", finished, job.parts)
    errors = folder.check(job)
    return Totals(rows, errors, job.parts, len(done), time.perf_counter() - started, dict(by_node))


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _actors(
    model: ModelFile, job: Job, output: Output, address: str, workers: int | None, progress: Progress
) -> Iterator[list[Any]]:
    """Yield workers on a cluster, spread over its nodes."""
    with cluster(address) as ray:
        has = ray.cluster_resources()
        processors, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        number = workers or gpus or processors
        if not 1 <= number <= processors:
            raise WrongUse(
                f"There are {processors} processors for {number} workers: give --workers {processors}."
            )
        threads = max(1, processors // number)
        options = {
            "num_cpus": threads,
            "num_gpus": 1 if gpus >= number else 0,
            "scheduling_strategy": "SPREAD",
        }
        worker = ray.remote(max_restarts=_AGAIN, max_task_retries=_AGAIN, **options)(_Worker)
        graph = ray.put(graph_of(model, progress).read_bytes())
        yield [worker.remote(model, graph, threads, job, output) for _ in range(number)]


@contextmanager
def cluster(address: str = "") -> Iterator[Any]:
    """Yield `ray`, connected; what was started or connected to here is left at the end.

    Raises:
        WrongUse: ray is not installed, or no cluster answers there.
    """
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"):  # no word to anybody
        os.environ.setdefault(name, "0")
    try:
        import ray
    except ImportError:
        raise WrongUse("Ray is not installed: pip install 'stockpot[cluster]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address or None, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
            raise WrongUse(f"No Ray cluster answers at {address} ({str(error).splitlines()[0]}).") from None
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _hand_out(parts: Iterator[tuple[int, list[str | None]]], actors: list[Any]) -> Iterator[tuple[str, int]]:
    """Give every idle worker the next part; yield where a part was made, and of how many photos.

    Raises:
        RowsLost: a part's worker died again and again.
    """
    import ray

    idle, busy = list(actors), {}
    failed = ""
    while True:
        while idle and (following := next(parts, None)):
            busy[idle[-1].make.remote(*following)] = (idle.pop(), following[0])
        if not busy:
            break
        (ready, *_), _ = ray.wait(list(busy))
        actor, part = busy.pop(ready)
        try:
            yield ray.get(ready)
            idle.append(actor)
        except ray.exceptions.RayActorError as error:  # the worker is lost; the others go on
            failed = f"Part {part} could not be made, its worker died {_AGAIN + 1} times ({_reason(error)})"
        if not idle and not busy:
            break
    if failed:
        raise RowsLost(f"{failed}: what is done is kept; give workers more memory and the command again.")


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


class _Worker:
    """An actor: makes parts, one after the other."""

    def __init__(self, model: ModelFile, graph: bytes, threads: int, job: Job, output: Output) -> None:
        self.predictor = Predictor(model, load_engine(graph, threads))
        self.job, self.output = job, output

    def make(self, part: int, names: list[str | None]) -> tuple[str, int]:
        """Write a part; return this node and how many photos the part has."""
        import ray

        self.output.write(part, self.table(part * self.job.part_rows, names))
        return ray.get_runtime_context().get_node_id(), len(names)

    def table(self, first: int, names: list[str | None]) -> Any:
        """Return the rows of a part (`pyarrow.Table`), the first of which is row `first` of the manifest."""
        import pyarrow

        model = self.predictor.model
        text, number, half = pyarrow.string(), pyarrow.float64(), pyarrow.list_(pyarrow.float16())
        labels = columns(model.class_names)[1:]  # without the path
        kinds = [text, number, *(number for _ in model.class_names), pyarrow.bool_(), text]
        fields = [("row", pyarrow.int64()), ("uri", text), *zip(labels, kinds, strict=True)]
        fields += [("features", pyarrow.list_(pyarrow.float32()))] if self.job.features else []
        fields += [("maps", half), ("maps_shape", pyarrow.list_(pyarrow.int32()))] if self.job.maps else []
        rows = [
            [first + i, name, *row(self.predictor.judge(Path(), answer), model.class_names)[1:], *kept]
            for i, (name, answer, kept) in enumerate(self.answers(names))
        ]
        values = zip(*rows, strict=True)
        arrays = [pyarrow.array(column, kind) for column, (_, kind) in zip(values, fields, strict=True)]
        return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))

    def answers(
        self, names: list[str | None]
    ) -> Iterator[tuple[str | None, NDArray[np.float32] | UnreadablePhoto, list[Any]]]:
        """Yield every name, its features `(C,)` or why there are none, and what else is kept of it."""
        batch: list[tuple[str | None, Pixels | UnreadablePhoto]] = []
        for pair in stream_read(names, self.read, _FETCHING, 4 * _FETCHING):
            batch.append(pair)
            if len(batch) == BATCH_SIZE:
                yield from self.look(batch)
                batch = []
        yield from self.look(batch)

    def read(self, name: str | None) -> Pixels:
        """Return a photo as the network receives it."""
        if not name:
            raise UnreadablePhoto("has no name")
        preprocessing = self.predictor.model.preprocessing
        return prepare(decode(fetch(name), 2 * preprocessing.image_size), preprocessing)

    def look(
        self, batch: list[tuple[str | None, Pixels | UnreadablePhoto]]
    ) -> Iterator[tuple[str | None, NDArray[np.float32] | UnreadablePhoto, list[Any]]]:
        """Send what could be read through the network."""
        pixels = [answer for _, answer in batch if not isinstance(answer, UnreadablePhoto)]
        found = iter(zip(*self.predictor.engine.run(np.stack(pixels)), strict=True) if pixels else ())
        for name, answer in batch:
            if isinstance(answer, UnreadablePhoto):
                yield name, answer, [None] * (self.job.features + 2 * self.job.maps)
                continue
            features, maps = next(found)
            kept: list[Any] = [features] if self.job.features else []
            if self.job.maps:
                cams = activation_maps(maps, self.predictor.model.weight).astype(np.float16)
                kept += [cams.ravel(), cams.shape]
            yield name, features, kept
