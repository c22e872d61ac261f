import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from stockpot.errors import WrongUse
from stockpot.learning import predictions as module
from stockpot.learning.predictions import columns, open_table, record
from stockpot.model.prediction import Prediction

NAMES = ("cat", "dog")


def some(count: int) -> list[Prediction]:
    """Predictions of which every third file is bad."""
    return [
        Prediction(Path(f"p/{i}é.jpg"), "", 0.0, (), "is empty")
        if i % 3 == 2
        else Prediction(Path(f"p/{i}é.jpg"), "dog", 0.75, (0.25, 0.75), none_of_these=i % 2 == 0)
        for i in range(count)
    ]


def write(path: Path, rows: list[Prediction]) -> None:
    with open_table(path, NAMES) as table:
        for answer in rows:
            table.write(answer)


def test_every_format_holds_the_same_rows(tmp_path, monkeypatch):
    """One row a file, in order, an error in place of figures; Parquet in groups of rows."""
    monkeypatch.setattr(module, "_ROWS", 4)
    rows = some(11)
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        write(tmp_path / name, rows)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_json = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text("utf-8").splitlines()]
    from_parquet = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3
    assert list(from_csv[0]) == list(from_json[0]) == list(from_parquet[0]) == columns(NAMES)
    assert from_json == from_parquet
    assert [row["path"] for row in from_csv] == [str(answer.path) for answer in rows]
    assert from_json[1]["dog"] == 0.75 and from_csv[1]["dog"] == "0.750000"
    assert from_json[2] == {
        "path": "p/2é.jpg",
        "label": "",
        "probability": None,
        "cat": None,
        "dog": None,
        "none_of_these": None,
        "error": "is empty",
    }
    assert [row["none_of_these"] for row in from_csv[:3]] == ["true", "false", ""]
    assert [row["none_of_these"] for row in from_json[:3]] == [True, False, None]
    assert from_csv[2]["probability"] == "" and from_csv[2]["error"] == "is empty"


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_table_is_whole_or_not_there(tmp_path, name):
    """What was there before stays if writing ends early; nothing half is left beside it."""
    write(tmp_path / name, some(2))
    before = (tmp_path / name).read_bytes()
    with pytest.raises(RuntimeError), open_table(tmp_path / name, NAMES) as table:
        table.write(some(1)[0])
        raise RuntimeError
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_ending_is_refused(tmp_path):
    """The endings that are known are named."""
    with pytest.raises(WrongUse, match=r"\.csv, \.jsonl, \.parquet"):
        write(tmp_path / "t.xlsx", [])


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_class_called_as_a_column_spoils_nothing(tmp_path, name):
    """Its column has another name."""
    with open_table(tmp_path / name, ("error", "path")) as table:
        table.write(Prediction(Path("1.jpg"), "path", 0.75, (0.25, 0.75)))
    assert columns(("error", "path")) == [
        "path",
        "label",
        "probability",
        "class error",
        "class path",
        "none_of_these",
        "error",
    ]


def test_names_that_are_no_text_are_kept(tmp_path):
    """A file name may hold any bytes; every format can be written and read."""
    odd = Prediction(Path("odd\udcff.jpg"), "dog", 0.75, (0.25, 0.75))
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        write(tmp_path / name, [odd])
    assert "odd\\udcff.jpg" in (tmp_path / "t.csv").read_text("utf-8")
    assert json.loads((tmp_path / "t.jsonl").read_text("utf-8"))["path"] == "odd\udcff.jpg"
    assert parquet.read_table(tmp_path / "t.parquet")["path"][0].as_py() == "odd\\udcff.jpg"


def test_photos_are_sorted_by_class_and_none_is_overwritten(tmp_path):
    """Copies by class; the unsure apart; the same name again gets a number, the same bytes nothing."""
    for folder, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / folder / "1.png")
    first = Prediction(tmp_path / "a" / "1.png", "dog", 0.9, (0.1, 0.9))
    second = Prediction(tmp_path / "b" / "1.png", "dog", 0.9, (0.1, 0.9))
    unsure = Prediction(tmp_path / "b" / "1.png", "dog", 0.6, (0.4, 0.6))
    out = tmp_path / "sorted"
    gone = Prediction(tmp_path / "gone.png", "dog", 0.9, (0.1, 0.9))
    stranger = Prediction(tmp_path / "b" / "1.png", "dog", 0.6, (0.4, 0.6), none_of_these=True)
    answers = (first, second, first, second, unsure, some(3)[2], gone, stranger)
    with open_table(tmp_path / "t.jsonl", NAMES) as table:
        assert record(answers, table, out, unsure_below=0.7) == (6, 2)
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text("utf-8").splitlines()]
    assert [row["error"] for row in rows[5:7]] == ["is empty", "cannot be opened (No such file or directory)"]
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {"dog/1.png", "dog/1-2.png", "unsure/1.png", "none of these/1.png"}
    assert (out / "dog" / "1-2.png").read_bytes() == second.path.read_bytes()
