import os

import pytest

from stockpot.errors import PhotoError, ProjectError
from stockpot.photos.index import index_project
from stockpot.photos.intake import bring_in
from stockpot.project import open_project, read_lines


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_photos_come_in_byte_for_byte_and_the_source_stays(tmp_path, class_folders):
    """Copies are identical, and nothing is written to where they came from."""
    before = contents(class_folders)
    assert bring_in(tmp_path / "pets", class_folders) == 12
    assert contents(tmp_path / "pets" / "photos") == before == contents(class_folders)
    rows = read_lines(tmp_path / "pets" / "photos.jsonl")
    assert {row["file"] for row in rows} == set(before)
    assert not any(str(tmp_path) in str(row) for row in rows)


def test_a_second_time_brings_only_what_is_new(tmp_path, class_folders, make_photo):
    """What is there is not copied again, and what was taken out by hand stays out."""
    pets = tmp_path / "pets"
    bring_in(pets, class_folders)
    (pets / "photos" / "cat" / "0.png").unlink()
    make_photo(class_folders / "cat" / "new.png", seed=50)
    assert bring_in(pets, class_folders) == 1
    assert not (pets / "photos" / "cat" / "0.png").exists()


def test_the_same_name_never_overwrites(tmp_path, class_folders, make_photo):
    """Another photo of the same name gets a name of its own."""
    pets = tmp_path / "pets"
    bring_in(pets, class_folders)
    before = (pets / "photos" / "cat" / "0.png").read_bytes()
    make_photo(class_folders / "cat" / "0.png", seed=60)
    assert bring_in(pets, class_folders) == 1
    assert bring_in(pets, class_folders) == 0
    assert (pets / "photos" / "cat" / "0.png").read_bytes() == before
    assert len(list((pets / "photos" / "cat").iterdir())) == 7


def test_a_copy_that_broke_off_goes_on(tmp_path, class_folders):
    """A kill between a photo and its provenance loses neither."""
    pets = tmp_path / "pets"
    bring_in(pets, class_folders)
    lines = (pets / "photos.jsonl").read_bytes().splitlines(keepends=True)
    (pets / "photos.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    bring_in(pets, class_folders)
    assert contents(pets / "photos") == contents(class_folders)
    assert len(read_lines(pets / "photos.jsonl")) == 12


def test_sources_without_photos_are_refused_and_make_no_project(tmp_path):
    """A wrong path leaves nothing behind."""
    with pytest.raises(PhotoError, match="no folder"):
        bring_in(tmp_path / "pets", tmp_path / "nothing")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.jpg").write_bytes(b"x")
    with pytest.raises(PhotoError, match="<class>"):
        bring_in(tmp_path / "pets", tmp_path / "flat")
    assert not (tmp_path / "pets").exists()


def test_a_folder_with_something_else_is_not_taken_over(tmp_path, class_folders):
    """Photos never land among somebody's other files."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(ProjectError):
        bring_in(tmp_path / "thesis", class_folders)


@pytest.mark.parametrize(
    ("project", "source"), [("source/p", "source"), ("p", "p/photos"), ("source", "source")]
)
def test_photos_and_project_lie_apart(tmp_path, class_folders, project, source):
    """Neither may contain the other: nothing is written among the photos."""
    before = contents(class_folders)
    bring_in(tmp_path / "p", class_folders)
    with pytest.raises(ProjectError, match="keep them apart"):
        bring_in(tmp_path / project, tmp_path / source)
    assert contents(class_folders) == before


def test_odd_names_go_through(tmp_path, class_folders, make_photo):
    """A name that is no UTF-8 is a name like any other."""
    odd = os.fsdecode(b"caf\xe9.png")
    make_photo(class_folders / "cat" / "x.png", seed=70).rename(class_folders / "cat" / odd)
    assert bring_in(tmp_path / "pets", class_folders) == 13
    assert bring_in(tmp_path / "pets", class_folders) == 0
    assert odd in {photo.path.name for photo in index_project(open_project(tmp_path / "pets")).photos}
