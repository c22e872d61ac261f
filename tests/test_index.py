import os

import pytest
from PIL import Image

from stockpot import project as disk
from stockpot.errors import PhotoError
from stockpot.photos import index as module
from stockpot.photos import pixels
from stockpot.photos.index import index_folder, index_project
from stockpot.photos.intake import bring_in
from stockpot.project import open_project


@pytest.fixture
def project(tmp_path, class_folders):
    bring_in(tmp_path / "pets", class_folders)
    return open_project(tmp_path / "pets")


def test_bad_files_are_named_and_the_rest_counts(project):
    """A file that cannot be read is refused by name; what is hidden is not mentioned."""
    (project.photos / "cat" / "page.jpg").write_text("<html>")
    (project.photos / "cat" / "Thumbs.db").write_text("x")
    (project.photos / "cat" / "._0.png").write_text("x")
    (project.photos / ".ipynb_checkpoints").mkdir()
    index = index_project(project)
    assert [file.path.name for file in index.refused] == ["Thumbs.db", "page.jpg"]
    assert len(index.photos) == 12


def test_a_file_is_read_once_and_again_when_it_changes(project, make_photo, monkeypatch):
    """The second look decodes nothing; a changed file is decoded again."""
    (project.photos / "cat" / "page.jpg").write_text("<html>")
    before = index_project(project)
    read = []
    inspect = module._inspect_and_sign
    monkeypatch.setattr(module, "_inspect_and_sign", lambda file: read.append(file.name) or inspect(file))
    assert index_project(project) == before
    assert read == []
    changed = make_photo(project.photos / "cat" / "0.png", seed=99)
    os.utime(changed, ns=(1, 1))
    assert index_project(project) != before
    assert read == ["0.png"]


def test_deleting_the_cache_loses_nothing(project):
    """The cache may be deleted at any time."""
    before = index_project(project)
    project.index_file.unlink()
    assert index_project(project) == before


def test_a_folder_without_photos_is_refused(tmp_path):
    """The error names the folder and the layout that is expected."""
    with pytest.raises(PhotoError, match="no folder"):
        index_folder(tmp_path / "nothing")
    (tmp_path / "a").mkdir()
    with pytest.raises(PhotoError, match="<class>"):
        index_folder(tmp_path)


def test_heic_is_read_once_the_extra_is_there(project, monkeypatch):
    """A refusal that an installation mends is not remembered beyond it."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    Image.effect_noise((64, 48), 90).convert("RGB").save(project.photos / "cat" / "phone.jpg", "HEIF")
    monkeypatch.setattr(pixels, "can_read_heic", lambda: False)
    monkeypatch.setattr(module, "can_read_heic", lambda: False)
    (refused,) = index_project(project).refused
    assert refused.reason == pixels.NEEDS_HEIC
    monkeypatch.undo()
    assert index_project(project).refused == ()


def test_near_duplicates_are_searched_for_once(project, monkeypatch):
    """The pairs are remembered until the photos are others."""
    searched = []
    search = module.near_duplicates
    monkeypatch.setattr(
        module, "near_duplicates", lambda signed: searched.append(len(signed)) or search(signed)
    )
    first = index_project(project)
    assert index_project(project) == first
    Image.effect_noise((64, 48), 90).convert("RGB").save(project.photos / "cat" / "new.png")
    index_project(project)
    assert searched == [12, 13]


def test_what_cannot_be_opened_is_refused(project, monkeypatch):
    """A link to nothing, and a file that vanishes between listing and reading."""
    (project.photos / "cat" / "link.jpg").symlink_to(project.photos / "nowhere.jpg")
    entries = disk.class_entries(project.photos)
    (project.photos / "cat" / "0.png").unlink()
    monkeypatch.setattr(disk, "class_entries", lambda root: entries)
    refused = {file.path.name: file.reason for file in index_project(project).refused}
    assert refused.keys() == {"link.jpg", "0.png"}
    assert all("cannot be opened" in reason for reason in refused.values())


def test_odd_names_are_photos_like_any_other(project):
    """Spaces, quotes, other scripts, no ending, capital endings, an ending that lies."""
    for number, name in enumerate(
        ("a b.JPG", "it's.jpeg", "Käse", "яблоко.png", "%20.jpg", "-rf", "tiff.jpg")
    ):
        kind = "TIFF" if name == "tiff.jpg" else "JPEG"
        Image.effect_noise((40, 30), 60 + number).convert("RGB").save(project.photos / "dog" / name, kind)
    found = {photo.path.name for photo in index_project(project).photos}
    assert {"a b.JPG", "it's.jpeg", "Käse", "яблоко.png", "%20.jpg", "-rf", "tiff.jpg"} <= found
