import os
import signal
import subprocess
import sys

import pytest

from stockpot.errors import Busy, FolderError, ProjectError
from stockpot.project import (
    append_lines,
    create_project,
    filling,
    open_project,
    read_json,
    read_lines,
    replacing,
    write_json,
)


def test_a_torn_line_is_dropped_and_swallows_nothing(tmp_path):
    """A journal survives a crash at every byte of its last line."""
    journal = tmp_path / "j.jsonl"
    append_lines(journal, [{"a": 1}, {"b": "é"}])
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        journal.write_bytes(whole[:length])
        append_lines(journal, [{"c": 3}])
        rows = read_lines(journal)
        assert rows[0] == {"a": 1}
        assert rows[-1] == {"c": 3}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """Whoever reads sees the old file or the new one, and no rest is left behind."""
    path = tmp_path / "value.json"
    write_json(path, {"old": True})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


WRITER = """
import sys; from pathlib import Path; from stockpot.project import filling, replacing
for kind, name in ((replacing, "table.csv"), (filling, "model")):
    with kind(Path(sys.argv[1], name)):
        print(name, flush=True)
        if name in sys.argv[2:]:
            sys.stdin.read()
"""


def writer(folder, *waits):
    """Another process that writes a file and a folder, and waits inside."""
    command = [sys.executable, "-c", WRITER, str(folder), *waits]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def hidden(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("stage", ["table.csv", "model"])
def test_what_killed_writers_left_is_deleted_by_the_next_process(tmp_path, stage):
    """Not while any other still writes there, and nothing that is not ours."""
    (tmp_path / ".other.1a2b3c4d.tmp").write_text("somebody else's")
    for _ in range(2):
        with writer(tmp_path, stage) as killed:
            while killed.stdout.readline() != f"{stage}\n":
                pass
            with writer(tmp_path) as beside:
                assert beside.wait() == 0
            os.kill(killed.pid, signal.SIGKILL)
        assert len(hidden(tmp_path)) == 2
        (tmp_path / "model").rmdir()
    with writer(tmp_path) as last:
        assert last.wait() == 0
    assert hidden(tmp_path) == [".other.1a2b3c4d.tmp"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    """Also where an empty one is; one that has come to hold something stays as it is."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/new"):
        with pytest.raises(RuntimeError), filling(tmp_path / name) as inner:
            (inner / "half").write_text("x")
            raise RuntimeError
        assert not list(tmp_path.glob(f"{name}/*"))
        with filling(tmp_path / name) as inner:
            (inner / "whole").write_text("x")
        assert [path.name for path in (tmp_path / name).iterdir()] == ["whole"]
    with pytest.raises(FolderError, match="give another folder"), filling(tmp_path / "empty") as inner:
        (inner / "other").write_text("x")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["whole"]
    assert not hidden(tmp_path)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    """A file where a folder should be."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderError, match="cannot be written"):
        write_json(tmp_path / "file" / "value.json", {})


def test_one_writer_at_a_time(tmp_path):
    """A second process is told so at once; calls within one process may nest."""
    project = create_project(tmp_path / "p")
    with project.writing(), project.writing():
        code = (
            "import sys; from stockpot.project import open_project\n"
            "with open_project(sys.argv[1]).writing(): pass"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(project.folder)], capture_output=True, text=True, check=False
        )
    assert "Busy" in other.stderr
    with project.writing():
        pass
    assert Busy.exit_code == 1


def test_what_is_no_project_is_explained(tmp_path, class_folders):
    """Each message has the command that helps."""
    with pytest.raises(ProjectError, match="no folder"):
        open_project(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProjectError, match="is empty.*--photos"):
        open_project(tmp_path / "empty")
    with pytest.raises(ProjectError, match=f"stockpot study source-project --photos {class_folders}"):
        open_project(class_folders)
    with pytest.raises(ProjectError, match="is a file"):
        create_project(class_folders / "cat" / "0.png")


def test_broken_json_is_a_sentence(tmp_path):
    """A file edited by hand and broken is named."""
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(ProjectError, match=r"split\.json"):
        read_json(tmp_path / "split.json")
