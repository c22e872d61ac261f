"""Much work in parts: a manifest of photos in, one Parquet file of answers a part out; what is done is not done again.

An output folder has `_job.json`, which says what it is made from, and `part-0000000.parquet`, ... in the order of the
manifest. A part is there whole or not at all.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from stockpot.cluster.storage import place_of
from stockpot.errors import PhotoError, RowsLost, WrongUse

URI = "uri"  # the manifest's column
_JOB = "_job.json"  # readers of Parquet folders leave out what begins so


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

    def rows_of(self, part: int) -> int:
        """How many a part has; the last one may have fewer."""
        return min(self.part_rows, self.rows - part * self.part_rows)


def names_in(manifest: str) -> Iterator[str | None]:
    """Yield the names in a manifest, one Parquet file or a folder of them, in order.

    Raises:
        PhotoError: there is no such manifest, or it has no column `uri` of text.
    """
    import pyarrow
    from pyarrow import dataset, types

    system, path = place_of(manifest)
    try:
        table = dataset.dataset(path, format="parquet", filesystem=system)
        kind = table.schema.field(URI).type if URI in table.schema.names else None
        if kind is None or not (types.is_string(kind) or types.is_large_string(kind)):
            found = ", ".join(table.schema.names) or "none"
            raise PhotoError(
                f"{manifest} needs a column `{URI}` of text with a photo's name a row; it has {found}."
            )
        for batch in table.to_batches(columns=[URI]):
            yield from batch.column(0).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PhotoError(
            f"{manifest} is no Parquet file that can be read ({reason}): give another."
        ) from None


def count(names: Iterable[str | None]) -> tuple[int, str]:
    """Return how many names there are, and the sha256 of all of them."""
    digest, rows = hashlib.sha256(), 0
    for some in _chunks(names, 10_000):
        digest.update("".join(f"{name}\n" for name in some).encode("utf-8", "surrogatepass"))
        rows += len(some)
    return rows, digest.hexdigest()


def parts_of(names: Iterable[str | None], job: Job) -> Iterator[tuple[int, list[str | None]]]:
    """Yield the number of every part and the names in it."""
    yield from enumerate(_chunks(names, job.part_rows))


def _chunks(names: Iterable[str | None], size: int) -> Iterator[list[str | None]]:
    names = iter(names)
    while some := list(itertools.islice(names, size)):
        yield some


@dataclass(frozen=True)
class Output:
    """A folder of parts, here or in object storage."""

    name: str

    def begin(self, job: Job) -> set[int]:
        """Say what the folder is for, and return the parts that are there.

        Raises:
            WrongUse: it holds something else.
        """
        from pyarrow import fs

        system, folder = place_of(self.name)
        system.create_dir(folder, recursive=True)
        found = {info.base_name for info in system.get_file_info(fs.FileSelector(folder))}
        if _JOB in found:
            with system.open_input_stream(f"{folder}/{_JOB}") as stream:
                before = json.loads(stream.read())
            if changed := sorted(key for key, value in asdict(job).items() if before.get(key) != value):
                raise WrongUse(
                    f"{self.name} holds parts of another job ({', '.join(changed)} differ): give another --output."
                )
        elif found:
            raise WrongUse(f"{self.name} holds something else: give a new --output.")
        else:
            with system.open_output_stream(f"{folder}/{_JOB}") as stream:
                stream.write(json.dumps(asdict(job), indent=1).encode())
        return {part for part in range(job.parts) if _name(part) in found}

    def write(self, part: int, table: Any) -> None:
        """Write a part (`pyarrow.Table`) as one step."""
        from pyarrow import BufferOutputStream, fs, parquet

        buffer = BufferOutputStream()
        parquet.write_table(table, buffer)
        system, folder = place_of(self.name)
        path = f"{folder}/{_name(part)}"
        if not isinstance(system, fs.LocalFileSystem):  # an object appears when it is complete
            with system.open_output_stream(path) as stream:
                stream.write(buffer.getvalue())
            return
        temporary = f"{folder}/.{_name(part)}"
        with system.open_output_stream(temporary) as stream:
            stream.write(buffer.getvalue())
        system.move(temporary, path)

    def check(self, job: Job) -> int:
        """Count the rows of all parts, and return how many of them have an error.

        Raises:
            RowsLost: rows in and rows out differ.
        """
        from pyarrow import parquet

        system, folder = place_of(self.name)

        def look(part: int) -> tuple[int, int]:
            try:
                table = parquet.read_table(f"{folder}/{_name(part)}", columns=["error"], filesystem=system)
            except FileNotFoundError:
                return 0, 0
            return table.num_rows, sum(error != "" for error in table.column(0).to_pylist())

        errors = 0
        with ThreadPoolExecutor(8) as pool:
            for part, (rows, bad) in enumerate(pool.map(look, range(job.parts))):
                if rows != job.rows_of(part):
                    raise RowsLost(
                        f"{self.name}/{_name(part)} has {rows} rows, expected {job.rows_of(part)}: delete it if it is "
                        f"there, and give the same command again."
                    )
                errors += bad
        return errors


def _name(part: int) -> str:
    return f"part-{part:07}.parquet"
