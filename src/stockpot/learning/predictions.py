"""Predictions on disk: one row a file as CSV, JSON lines or Parquet, and photos sorted into folders by class."""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stockpot.errors import WrongUse
from stockpot.model.prediction import Prediction
from stockpot.project import read_bytes, replacing, write_bytes

UNSURE = "unsure"  # folder of the photos whose label is less probable than asked for
NONE = "none of these"  # folder of the photos that resemble no class
_ROWS = 1024  # of a Parquet row group


def columns(class_names: Iterable[str]) -> list[str]:
    """Return the names of a table's columns; a class that is called as another column has `class ` before it."""
    own = ("path", "label", "probability", "none_of_these", "error")
    return [*own[:3], *(f"class {name}" if name in own else name for name in class_names), *own[3:]]


def row(prediction: Prediction, class_names: tuple[str, ...]) -> list[Any]:
    """Return the values of a table's row; those of a file that cannot be read are empty but for the error."""
    if prediction.error:
        return [str(prediction.path), "", None, *(None for _ in class_names), None, prediction.error]
    values = (prediction.label, prediction.probability, *prediction.probabilities, prediction.none_of_these)
    return [str(prediction.path), *values, ""]


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
    check_request(output)
    with replacing(output) as temporary, _KINDS[output.suffix](temporary, class_names) as table:
        yield table


def check_request(
    output: Path | None,
    sort_into: Path | None = None,
    unsure_below: float = 0.5,
    class_names: Iterable[str] = (),
) -> None:
    """Refuse what cannot be carried out before anything is computed.

    Raises:
        WrongUse: an ending that is not known, a probability that is none, or a class called as such a folder.
    """
    if output is not None and output.suffix not in _KINDS:
        raise WrongUse(f"{output} must end in {', '.join(_KINDS)}: --output predictions.csv")
    if not 0 <= unsure_below <= 1:
        raise WrongUse(f"unsure_below is {unsure_below}; expected a probability from 0 to 1.")
    for name in (UNSURE, NONE):
        if sort_into is not None and name in class_names:
            raise WrongUse(f"A class is called {name!r}, as the folder of such photos is: rename the class.")


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
        shown = (_as_text(value) for value in row(prediction, self.class_names))
        csv.writer(self.file, lineterminator="\n").writerow(shown)


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else value


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
        kinds = [text, text, number, *(number for _ in class_names), pyarrow.bool_(), text]
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
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = _CsvTable(file, class_names)
        table.header()
        yield table


@contextmanager
def _json_lines(path: Path, class_names: tuple[str, ...]) -> Iterator[Table]:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield _JsonTable(file, class_names)


@contextmanager
def _parquet(path: Path, class_names: tuple[str, ...]) -> Iterator[Table]:
    table = _ParquetTable(path, class_names)
    try:
        yield table
        table.flush()
    finally:
        table.writer.close()


_KINDS = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}


def record(
    predictions: Iterable[Prediction], table: Table, sort_into: Path | None = None, unsure_below: float = 0.5
) -> tuple[int, int]:
    """Write predictions to a table and, where asked for, copy the photos into folders by class.

    Args:
        predictions: in any number; none is kept.
        table: takes a row each.
        sort_into: one folder a class is made in it, `unsure` and `none of these`; nothing there is overwritten.
        unsure_below: probability below which a photo goes to `unsure`.

    Returns:
        How many photos were classified, and how many files could not be read.
    """
    done = refused = 0
    for prediction in predictions:
        answer = _sorted(sort_into, prediction, unsure_below) if sort_into else prediction
        table.write(answer)
        done, refused = done + (not answer.error), refused + bool(answer.error)
    return done, refused


def _sorted(folder: Path, prediction: Prediction, unsure_below: float) -> Prediction:
    """Copy a photo into the folder of its class; return its prediction, with an error if it is gone."""
    if prediction.error:
        return prediction
    try:
        data = read_bytes(prediction.path)
    except OSError as error:
        return Prediction(prediction.path, "", 0.0, (), f"cannot be opened ({error.strerror})")
    unsure = prediction.probability < unsure_below
    room = NONE if prediction.none_of_these else UNSURE if unsure else prediction.label
    name = folder / room / prediction.path.name
    target, number = name, 1
    while target.exists() and target.read_bytes() != data:
        number += 1
        target = name.with_name(f"{name.stem}-{number}{name.suffix}")
    if not target.exists():
        write_bytes(target, data)
    return prediction
