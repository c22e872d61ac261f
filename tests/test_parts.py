import json
import sys
from itertools import islice

import pyarrow as pa
import pytest
from pyarrow import parquet

from stockpot.cluster.parts import Job, Output, count, names_in, parts_of, usual_part_rows
from stockpot.cluster.storage import beside, fetch, place_of
from stockpot.cluster.workers import _threads, cluster
from stockpot.errors import PhotoError, RowsLost, UnreadablePhoto, WrongUse

JOB = Job("model", "manifest", rows=10, part_rows=4, features=False, maps=False)


def write(path, names, kind=None):
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table({"other": range(len(names)), "uri": pa.array(names, kind)}), path)


def part(first: int, rows: int) -> pa.Table:
    numbers = pa.array([0.5, *[None] * (rows - 1)], pa.float64())
    return pa.table({"row": range(first, first + rows), "probability": numbers})


def test_names_come_in_order_from_a_file_or_a_folder(tmp_path):
    """Of every kind of text, missing ones too; only .parquet files count, by name."""
    write(tmp_path / "m" / "2.parquet", ["c", None], pa.large_string())
    write(tmp_path / "m" / "1.parquet", ["a", ""], pa.dictionary(pa.int8(), pa.string()))
    (tmp_path / "m" / "notes.txt").write_text("no table")
    assert list(names_in(str(tmp_path / "m"))) == ["a", "", "c", None]
    assert list(names_in((tmp_path / "m" / "1.parquet").as_uri())) == ["a", ""]


def test_bytes_that_are_no_text_are_one_bad_name(tmp_path):
    """Not the end of the work."""
    odd = pa.array([b"a\xff.jpg", b"b.jpg"]).view(pa.string())
    write(tmp_path / "m.parquet", odd)
    assert list(names_in(str(tmp_path / "m.parquet"))) == ["a\\xff.jpg", "b.jpg"]


def test_a_manifest_that_is_none_is_refused(tmp_path):
    """With what is there instead."""
    parquet.write_table(pa.table({"uri": [1], "path": ["a"]}), tmp_path / "m.parquet")
    (tmp_path / "page.parquet").write_text("<html>")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("m.parquet", r"needs a column `uri` of text.* it has uri \(int64\), path \(string\)"),
        ("page.parquet", "cannot be read as Parquet"),
        ("empty", "holds no .parquet file"),
        ("none", "There is no manifest"),
    ):
        with pytest.raises(PhotoError, match=words):
            list(names_in(str(tmp_path / name)))


def test_parts_cover_all_names_once():
    """In order, the last one may be shorter; their number stays small for any manifest."""
    parts = list(parts_of(iter("abcdefghij"), JOB))
    assert [one.number for one in parts] == [0, 1, 2]
    assert "".join(name for one in parts for name in one.names) == "abcdefghij"
    assert [JOB.rows_of(i) for i in range(JOB.parts)] == [4, 4, 2]
    assert usual_part_rows(1000) == 256
    assert -(-10_000_000 // usual_part_rows(10_000_000)) <= 4096


def test_no_two_manifests_count_the_same():
    """Nor a missing name as an empty one, nor two names as one of two lines."""
    different = (["a", "b"], ["a\nb"], ["b", "a"], ["a", None], ["a", ""], ["a", "None"], ["a"])
    assert len({count(names) for names in different}) == len(different)
    assert count(iter(["a", "b"]))[0] == 2


def test_an_output_holds_one_job(tmp_path):
    """What is there is found; another job, or something else, is refused; hidden files do not matter."""
    output = Output(str(tmp_path / "out"))
    assert output.begin(JOB) == set()
    output.write(1, part(4, 4))
    (tmp_path / "out" / ".part-0000002.parquet.12ab.tmp").write_bytes(b"half")
    assert output.begin(JOB) == {1}
    with pytest.raises(WrongUse, match=r"of another job \(other model\)"):
        output.begin(Job("another", *list(vars(JOB).values())[1:]))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").write_bytes(b"")
    with pytest.raises(WrongUse, match=r"holds something else \(photo.jpg\)"):
        Output(str(tmp_path / "other")).begin(JOB)
    assert json.loads((tmp_path / "out" / "_job.json").read_text())["rows"] == 10


def test_rows_in_are_rows_out(tmp_path):
    """Errors are counted; a part that is missing, cut off, another's or too many is named."""
    output = Output(str(tmp_path))
    output.begin(JOB)
    for number in range(3):
        output.write(number, part(4 * number, JOB.rows_of(number)))
    assert output.check(JOB) == 3 + 3 + 1
    second = tmp_path / "part-0000001.parquet"
    whole = second.read_bytes()
    flipped = whole[:-300] + bytes(byte ^ 0xFF for byte in whole[-300:-8]) + whole[-8:]
    for data in (b"", whole[:-10], flipped, (tmp_path / "part-0000000.parquet").read_bytes()):
        second.write_bytes(data)
        with pytest.raises(
            RowsLost, match=r"part-0000001.parquet (cannot be read|has 4 rows from 0).* delete"
        ):
            output.check(JOB)
    second.unlink()
    with pytest.raises(RowsLost, match=r"part-0000001.parquet is missing"):
        output.check(JOB)
    second.write_bytes(whole)
    (tmp_path / "part-0000003.parquet").write_bytes(whole)
    with pytest.raises(RowsLost, match=r"part-0000003.parquet does not belong there"):
        output.check(JOB)


def test_names_are_relative_to_the_manifest():
    """Unless they are whole."""
    assert beside("a/b.jpg", "s3://bucket/set") == "s3://bucket/set/a/b.jpg"
    assert beside("s3://x/b.jpg", "/m") == "s3://x/b.jpg"


def test_a_file_that_cannot_be_had_is_one_bad_photo(tmp_path, monkeypatch):
    """Whatever its name is; what is too large is not read to its end."""
    for name in (
        str(tmp_path),
        str(tmp_path / "gone"),
        "magic://a",
        "s3://[",
        "a\0b",
        "x" * 5000,
        "://",
        "gs:///",
    ):
        with pytest.raises(UnreadablePhoto, match="cannot be opened"):
            fetch(name)
    (tmp_path / "a b%20.jpg").write_bytes(b"12345")
    assert fetch(str(tmp_path / "a b%20.jpg")) == fetch((tmp_path / "a b%20.jpg").as_uri()) == b"12345"
    monkeypatch.setattr("stockpot.cluster.storage.LARGEST", 4)
    with pytest.raises(UnreadablePhoto, match="more than"):
        fetch(str(tmp_path / "a b%20.jpg"))
    with pytest.raises(WrongUse, match="give a path or s3://"):
        place_of("magic://a")


def test_few_names_are_in_memory(tmp_path):
    """The first names are there before a manifest is read."""
    write(tmp_path / "m.parquet", [f"{i}.jpg" for i in range(100_000)])
    assert list(islice(names_in(str(tmp_path / "m.parquet")), 2)) == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize(
    ("rooms", "workers", "threads"),
    [
        ([(2, 2)], 2, 1),
        ([(8, 8)], 2, 4),
        ([(1, 1), (1, 1)], 1, 1),
        ([(3, 3), (3, 3)], 3, 1),
        ([(8, 1)], 1, 8),
    ],
)
def test_all_workers_find_room(rooms, workers, threads):
    """On nodes with so many processors, where so many workers may be."""
    assert _threads(rooms, workers) == threads


def test_without_ray_the_extra_is_named(monkeypatch):
    """In one line."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WrongUse, match=r"pip install 'stockpot\[cluster\]'"), cluster():
        pass
