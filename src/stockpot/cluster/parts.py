"""Much work in parts: a manifest of photos in, a Parquet file of answers a part out; what is done stays done.

An output folder has `_job.json`, which says what it is made from, and `part-0000000.parquet`, ... in the order of
the manifest. A part is there whole or not at all.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stockpot.cluster.storage import is_local, place_of, reason_of
from stockpot.errors import FolderError, PhotoError, RowsLost, WrongUse
from stockpot.project import parse_json, write_bytes

URI = "uri"  # the manifest's column
_JOB = "_job.json"  # readers of Parquet folders leave out what begins so
_FEWEST, _MOST_PARTS = 256, 4096  # rows of a part; parts, so that listing and checking them stays short
_AT_ONCE = 8  # files, when parts are checked
_NAMES = 8192  # of a manifest in memory


@dataclass(frozen=True)
class Job:
    """What the parts in a folder are made from."""

    model: str  # sha256 of its file
    manifest: str  # sha256 of its names
    rows: int
    part_rows: int
    features: bool  # that they are kept
    maps: bool

    @property
    def parts(self) -> int:
        """How many."""
        return -(-self.rows // self.part_rows)

    def first_of(self, part: int) -> int:
        """Return the row of the manifest that a part begins with."""
        return part * self.part_rows

    def rows_of(self, part: int) -> int:
        """Return how many rows a part has; the last one may have fewer."""
        return min(self.part_rows, self.rows - self.first_of(part))


@dataclass(frozen=True)
class Part:
    """A piece of a job that one worker does at once."""

    number: int
    names: list[str | None]


def usual_part_rows(rows: int) -> int:
    """Return how many rows a part has if nobody says: few are lost with a worker, and parts stay countable."""
    return max(_FEWEST, -(-rows // _MOST_PARTS))


def names_in(manifest: str) -> Iterator[str | None]:
    """Yield the names in a manifest, one Parquet file or a folder of them, in order; few are in memory at a time.

    Raises:
        PhotoError: there is no such manifest, or it has no column `uri` of text.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        system, files = _files(manifest)
        for path in files:
            with system.open_input_file(path) as file:
                table = parquet.ParquetFile(file, buffer_size=2**20)  # else a whole row group is in memory
                _check_column(manifest, table.schema_arrow)
                for batch in table.iter_batches(_NAMES, columns=[URI]):
                    yield from _texts(batch.column(0))
    except (pyarrow.ArrowException, OSError) as error:
        raise PhotoError(
            f"{manifest} cannot be read as Parquet ({reason_of(error)}): give another."
        ) from None


def _files(manifest: str) -> tuple[Any, list[str]]:
    """Return the file system and the files of a manifest, in the order of their names."""
    from pyarrow import fs

    system, path = place_of(manifest)
    kind = system.get_file_info(path).type
    if kind == fs.FileType.NotFound:
        raise PhotoError(f"There is no manifest {manifest}: check the name.")
    if kind == fs.FileType.File:
        return system, [path]
    found = [info.path for info in system.get_file_info(fs.FileSelector(path)) if info.is_file]
    files = sorted(file for file in found if file.endswith(".parquet") and not _is_hidden(file))
    if not files:
        raise PhotoError(f"{manifest} holds no .parquet file: give another manifest.")
    return system, files


def _is_hidden(path: str) -> bool:
    return path.rpartition("/")[2].startswith((".", "_"))


def _check_column(manifest: str, schema: Any) -> None:
    from pyarrow import types

    kind = schema.field(URI).type if URI in schema.names else None
    if kind is not None and types.is_dictionary(kind):
        kind = kind.value_type
    if kind is None or not (types.is_string(kind) or types.is_large_string(kind)):
        found = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
        raise PhotoError(f"{manifest} needs a column `{URI}` of text, a photo's name a row; it has {found}.")


def _texts(column: Any) -> list[str | None]:
    """Return a column as text; bytes that are none are escaped, so that they are a bad row and no crash."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = column.cast(pyarrow.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "backslashreplace") for value in values]


def count(names: Iterable[str | None]) -> tuple[int, str]:
    """Return how many names there are, and the sha256 of all of them."""
    digest, rows = hashlib.sha256(), 0
    for some in _chunks(names, _NAMES):
        digest.update(json.dumps(some).encode())
        rows += len(some)
    return rows, digest.hexdigest()


def parts_of(names: Iterable[str | None], job: Job) -> Iterator[Part]:
    """Yield all parts, in order."""
    for number, some in enumerate(_chunks(names, job.part_rows)):
        yield Part(number, some)


def _chunks(names: Iterable[str | None], size: int) -> Iterator[list[str | None]]:
    names = iter(names)
    while some := list(itertools.islice(names, size)):
        yield some


@dataclass(frozen=True)
class Output:
    """A folder of parts, on this computer or in object storage."""

    name: str

    def begin(self, job: Job) -> set[int]:
        """Say what the folder is for, and return the parts that are there.

        Raises:
            WrongUse: it holds something else.
            FolderError: it cannot be written.
        """
        found = self._names()
        if _JOB not in found and found:
            raise WrongUse(f"{self.name} holds something else ({min(found)}): give a new --output.")
        if _JOB not in found:
            self._write(_JOB, json.dumps(asdict(job), indent=1).encode())
        before = self.said()
        if changed := [key for key, value in asdict(job).items() if before.get(key) != value]:
            raise WrongUse(
                f"{self.name} is of another job (other {', '.join(changed)}): give a new --output."
            )
        return {part for part in range(job.parts) if _name(part) in found}

    def said(self) -> dict[str, Any]:
        """Return what the folder says it is for; nothing where it says nothing."""
        system, folder = place_of(self.name)
        try:
            with _telling(self.name, "read"), system.open_input_stream(f"{folder}/{_JOB}") as stream:
                said = parse_json(stream.read())
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def write(self, part: int, table: Any) -> None:
        """Write a part (`pyarrow.Table`) as one step.

        Raises:
            FolderError: the place cannot be written.
        """
        from pyarrow import BufferOutputStream, parquet

        buffer = BufferOutputStream()
        parquet.write_table(table, buffer, row_group_size=table.num_rows)
        self._write(_name(part), buffer.getvalue())

    def _write(self, name: str, data: Any) -> None:
        system, folder = place_of(self.name)
        if is_local(system):
            write_bytes(Path(folder) / name, data)
            return
        with _telling(self.name, "written"), system.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(data)  # an object appears when it is complete

    def check(self, job: Job) -> int:
        """Count the rows of all parts, by their footers, and return how many of them have an error.

        Raises:
            RowsLost: rows in and rows out differ.
        """
        expected = {_name(part) for part in range(job.parts)}
        found = self._names() - {_JOB}
        again = "delete it if it is there, and give the same command again."
        if differ := expected ^ found:
            what = "is missing" if min(differ) in expected else "does not belong there"
            raise RowsLost(f"{self.name}/{min(differ)} {what}: {again}")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            errors = 0
            for part, (first, rows, bad) in enumerate(pool.map(self._look, range(job.parts))):
                if (first, rows) != (job.first_of(part), job.rows_of(part)):
                    raise RowsLost(
                        f"{self.name}/{_name(part)} has {rows} rows from {first}, expected {job.rows_of(part)} "
                        f"from {job.first_of(part)}: {again}"
                    )
                errors += bad
        return errors

    def _look(self, part: int) -> tuple[int, int, int]:
        """Return a part's first row, how many rows it has, and how many of them have an error."""
        import pyarrow
        from pyarrow import parquet

        system, folder = place_of(self.name)
        try:
            footer = parquet.read_metadata(f"{folder}/{_name(part)}", filesystem=system)
            names = footer.schema.names
            group = footer.row_group(0)
            rows, probability = (
                group.column(names.index(name)).statistics for name in ("row", "probability")
            )
            return rows.min, footer.num_rows, probability.null_count
        except (pyarrow.ArrowException, OSError, IndexError, ValueError, AttributeError) as error:
            raise RowsLost(
                f"{self.name}/{_name(part)} cannot be read as Parquet ({reason_of(error)}): delete it, and give "
                f"the same command again."
            ) from None

    def _names(self) -> set[str]:
        """Return what is in the folder and not hidden."""
        from pyarrow import fs

        system, folder = place_of(self.name)
        with _telling(self.name, "listed"):
            found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return {info.base_name for info in found if not info.base_name.startswith(".")}


def _name(part: int) -> str:
    return f"part-{part:07}.parquet"


@contextmanager
def _telling(name: str, done: str) -> Iterator[None]:
    """Say which folder could not be read, written or listed; that a file is not there is the caller's affair."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FolderError(
            f"{name} cannot be {done} ({reason_of(error)}): check its name and rights."
        ) from None
