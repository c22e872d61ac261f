import os
import shutil
import subprocess
import sys
import time

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
kinds = {"table.csv": replacing, "model": filling}
with kinds[sys.argv[2]](Path(sys.argv[1], sys.argv[2])) as inner:
    (inner / "half" if inner.is_dir() else inner).write_text("x")
    print("writing", flush=True)
    sys.stdin.read()
"""


def hidden(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


@pytest.mark.parametrize("name", ["table.csv", "model"])
def test_what_killed_writers_left_is_deleted_a_day_later(tmp_path, name):
    """By another process that writes there; before, somebody may still be at it, and nothing else is ours."""
    (tmp_path / ".other.1a2b3c4d.tmp").write_text("somebody else's")
    command = [sys.executable, "-c", WRITER, str(tmp_path), name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    for hours in (23, 25):
        with subprocess.Popen(command, **pipes) as killed:
            assert killed.stdout.readline() == "writing\n"
            killed.kill()
        for path in tmp_path.rglob("*"):
            os.utime(path, (time.time() - 3600 * hours,) * 2)
        left = hidden(tmp_path)
        with subprocess.Popen(command, **pipes) as last:
            last.communicate("")
        assert hidden(tmp_path) == (left if hours < 24 else [".other.1a2b3c4d.tmp"])
        for entry in tmp_path.glob(name):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    """Also where an empty one is, which stays the same one."""
    (tmp_path / "empty").mkdir()
    number = (tmp_path / "empty").stat().st_ino
    for name in ("empty", "deep/new"):
        with pytest.raises(RuntimeError), filling(tmp_path / name) as inner:
            (inner / "half").write_text("x")
            raise RuntimeError
        assert not list(tmp_path.glob(f"{name}/*"))
        with filling(tmp_path / name) as inner:
            (inner / "whole").write_text("x")
        assert [path.name for path in (tmp_path / name).iterdir()] == ["whole"]
    assert not hidden(tmp_path) and not hidden(tmp_path / "empty")
    assert (tmp_path / "empty").stat().st_ino == number


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


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    """Whatever the reason is: no rights, a disk for reading only, something else of that name."""
    project = create_project(tmp_path / "project")
    (project.folder / ".lock").mkdir()
    with (
        pytest.raises(FolderError, match=r"\.lock cannot be used \(Is a directory\): look at it"),
        project.writing(),
    ):
        pass
