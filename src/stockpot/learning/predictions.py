"""Predictions on disk: one row a file as CSV, JSON lines or Parquet, and photos sorted into folders by class."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stockpot.errors import WrongUse
from stockpot.model.prediction import Prediction
from stockpot.photos.photo import fingerprint
from stockpot.project import replacing

UNSURE = "unsure"  # folder of the photos whose label is less probable than asked for
_ROWS = 1024  # of a Parquet row group


def columns(class_names: Iterable[str]) -> list[str]:
    """Return the names of a table's columns."""
    return ["path", "label", "probability", *class_names, "error"]


def row(prediction: Prediction, class_names: tuple[str, ...]) -> list[Any]:
    """Return the values of a table's row; those of a file that cannot be read are empty but for the error."""
    if prediction.error:
        return [str(prediction.path), "", None, *(None for _ in class_names), prediction.error]
    return [str(prediction.path), prediction.label, prediction.probability, *prediction.probabilities, ""]


class Table(Protocol):
    """What predictions are written to, one at a time."""

    def write(self, prediction: Prediction) -> None:
        """Add a row."""


@contextmanager
def open_table(output: Path, class_names: tuple[str, ...]) -> Iterator[Table]:
    """Yield a table that replaces the file `output` when the block succeeds.

    Args:
        output: `.csv`, `.jsonl` or `.parquet`.
        class_names: in the order of the head.

    Raises:
        WrongUse: another ending.
        FolderError: the place cannot be written.
    """
    kinds = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
    if output.suffix not in kinds:
        raise WrongUse(f"{output} must end in {', '.join(kinds)}: --output predictions.csv")
    with replacing(output) as temporary, kinds[output.suffix](temporary, class_names) as table:
        yield table


def open_stream(stream: Any, class_names: tuple[str, ...], as_json: bool) -> AbstractContextManager[Table]:
    """Return a table that writes to an open text stream: CSV, or JSON lines."""
    if as_json:
        return nullcontext(_JsonTable(stream, class_names))
    table = _CsvTable(stream, class_names)
    table.header()
    return nullcontext(table)


@dataclass(frozen=True)
class _CsvTable:
    """Rows of comma-separated values; probabilities with six digits."""

    file: Any  # a text file
    class_names: tuple[str, ...]

    def header(self) -> None:
        """Write the names of the columns."""
        csv.writer(self.file, lineterminator="\n").writerow(columns(self.class_names))

    def write(self, prediction: Prediction) -> None:
        """Add a row."""
        shown = (
            f"{value:.6f}" if isinstance(value, float) else value
            for value in row(prediction, self.class_names)
        )
        csv.writer(self.file, lineterminator="\n").writerow(shown)


@dataclass(frozen=True)
class _JsonTable:
    """One JSON object a line, with the columns as keys."""

    file: Any  # a text file
    class_names: tuple[str, ...]

    def write(self, prediction: Prediction) -> None:
        """Add a line."""
        values = dict(zip(columns(self.class_names), row(prediction, self.class_names), strict=True))
        self.file.write(json.dumps(values, ensure_ascii=False) + "\n")


class _ParquetTable:
    """Rows in groups, so that memory does not grow with their number."""

    def __init__(self, path: Path, class_names: tuple[str, ...]) -> None:
        import pyarrow
        from pyarrow import parquet

        self.class_names = class_names
        text, number = pyarrow.string(), pyarrow.float64()
        kinds = [text, text, number, *(number for _ in class_names), text]
        self.schema = pyarrow.schema(list(zip(columns(class_names), kinds, strict=True)))
        self.writer = parquet.ParquetWriter(path, self.schema)
        self.rows: list[list[Any]] = []

    def write(self, prediction: Prediction) -> None:
        """Add a row."""
        self.rows.append(row(prediction, self.class_names))
        if len(self.rows) == _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        import pyarrow

        for values in self.rows:  # Parquet holds text only, a file name any bytes
            values[0] = values[0].encode("utf-8", "backslashreplace").decode()
        named = [dict(zip(self.schema.names, values, strict=True)) for values in self.rows]
        self.writer.write_table(pyarrow.Table.from_pylist(named, self.schema))
        self.rows = []


@contextmanager
def _csv(path: Path, class_names: tuple[str, ...]) -> Iterator[Table]:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = _CsvTable(file, class_names)
        table.header()
        yield table


@contextmanager
def _json_lines(path: Path, class_names: tuple[str, ...]) -> Iterator[Table]:
    with path.open("w", encoding="utf-8", errors="surrogateescape") as file:
        yield _JsonTable(file, class_names)


@contextmanager
def _parquet(path: Path, class_names: tuple[str, ...]) -> Iterator[Table]:
    table = _ParquetTable(path, class_names)
    try:
        yield table
        table.flush()
    finally:
        table.writer.close()


def sort_one(folder: Path, prediction: Prediction, unsure_below: float) -> Path | None:
    """Copy a photo into the folder of its predicted class; nothing that is there already is overwritten.

    Args:
        folder: one folder a class is made in it, and `unsure`.
        prediction: of the photo; one with an error is not copied.
        unsure_below: probability below which the photo goes to `unsure`.

    Returns:
        Where the photo is now, also if these bytes were there before; None where it cannot be read.
    """
    if prediction.error:
        return None
    label = UNSURE if prediction.probability < unsure_below else prediction.label
    digest = fingerprint(prediction.path.read_bytes())
    name, number = folder / label / prediction.path.name, 1
    target = name
    while target.exists() and fingerprint(target.read_bytes()) != digest:
        number += 1
        target = name.with_name(f"{name.stem}-{number}{name.suffix}")
    if not target.exists():
        with replacing(target) as temporary:
            shutil.copyfile(prediction.path, temporary)
    return target
