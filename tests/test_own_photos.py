import pytest

from stockpot.collection.own_photos import bring_one, bring_own
from stockpot.errors import PhotoError, ProjectError, UnreadablePhoto, WrongUse
from stockpot.project import read_lines


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_tree_comes_in_byte_for_byte(tmp_path, class_folders):
    """What cannot be decoded is listed and not copied; the source stays as it was; a second time nothing is new."""
    (class_folders / "cat" / "notes.txt").write_text("not a photo")
    before = contents(class_folders)
    own = bring_own(tmp_path / "pets", class_folders)
    assert (own.new, own.known) == (12, 0)
    assert [(file.path.name, file.reason.split(" of")[0]) for file in own.refused] == [
        ("notes.txt", "is not an image")
    ]
    assert contents(class_folders) == before
    before.pop("cat/notes.txt")
    assert contents(tmp_path / "pets" / "photos") == before
    again = bring_own(tmp_path / "pets", class_folders)
    assert (again.new, again.known, len(again.refused)) == (0, 12, 1)


def test_a_flat_folder_is_one_class(tmp_path, class_folders):
    """Its label is given."""
    assert bring_own(tmp_path / "pets", class_folders / "cat", label="house cat").new == 6
    assert len(list((tmp_path / "pets" / "photos" / "house cat").iterdir())) == 6
    with pytest.raises(PhotoError, match="give --label NAME"):
        bring_own(tmp_path / "pets", class_folders / "cat")
    with pytest.raises(PhotoError, match="leave out --label"):
        bring_own(tmp_path / "pets", class_folders, label="pet")


def test_a_list_names_every_photo(tmp_path, class_folders):
    """Paths are relative to the CSV file; two photos of one name both come in; what is gone is listed."""
    lines = ["label,path", "pet,cat/0.png", "pet,dog/0.png", "wolf,dog/1.png", "wolf,dog/gone.png"]
    table = class_folders / "list.csv"
    table.write_text("\ufeff" + "\n".join(lines))
    own = bring_own(tmp_path / "pets", table)
    assert own.new == 3
    assert [file.reason for file in own.refused] == ["cannot be opened (No such file or directory)"]
    rows = read_lines(tmp_path / "pets" / "photos.jsonl")
    assert sorted(row["file"].split("/")[0] for row in rows) == ["pet", "pet", "wolf"]


def test_mistakes_are_sentences(tmp_path, class_folders):
    """With the remedy; nothing is made."""
    table = tmp_path / "list.csv"
    for text, words in (
        ("path;label\na;b", "no rows with the columns"),
        ("path,label\na.png,", "line 2: path or label is empty"),
        ("path,label\na.png,../up", "cannot name a class"),
    ):
        table.write_text(text)
        with pytest.raises((PhotoError, WrongUse), match=words):
            bring_own(tmp_path / "pets", table)
    with pytest.raises(WrongUse, match="leave out --label"):
        bring_own(tmp_path / "pets", table, label="cat")
    with pytest.raises(PhotoError, match="no folder or CSV file"):
        bring_own(tmp_path / "pets", tmp_path / "gone")
    with pytest.raises(ProjectError, match="lie in one another"):
        bring_own(class_folders / "project", class_folders)
    assert not (tmp_path / "pets").exists()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("apple pie.png", "apple pie.png"),
        ("../../etc/x.png", "x.png"),
        ("C:\\photos\\x.png", "x.png"),
        (".hidden.png", "hidden.png"),
        ("a:b?c.png", "a_b_c.png"),
        ("con.png", "_con.png"),
        ("żółw.png", "żółw.png"),
        ("", "photo"),
    ],
)
def test_one_photo_comes_in_under_a_name_that_files_can_have(tmp_path, class_folders, name, kept):
    """Wherever it says it comes from, it lies in its class; the second time it is here already."""
    data = (class_folders / "cat" / "0.png").read_bytes()
    assert bring_one(tmp_path / "pets", "cat", name, data) is True
    assert bring_one(tmp_path / "pets", "cat", name, data) is False
    (file,) = (path for path in (tmp_path / "pets").rglob("*") if path.is_file() and "photos" in path.parts)
    assert file == tmp_path / "pets" / "photos" / "cat" / kept and file.read_bytes() == data


def test_one_photo_that_is_none_stays_out(tmp_path):
    """Neither is a project made for it."""
    with pytest.raises(UnreadablePhoto, match=r"x\.png is not an image.*: it was not brought in"):
        bring_one(tmp_path / "pets", "cat", "x.png", b"no photo")
    with pytest.raises(WrongUse, match="cannot name a class"):
        bring_one(tmp_path / "pets", "..", "x.png", b"")
    assert not (tmp_path / "pets").exists()
