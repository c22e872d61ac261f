import pytest

from stockpot.errors import WrongUse
from stockpot.photos.intake import bring_in
from stockpot.photos.samples import bring_in_samples, is_sample
from stockpot.project import open_project, read_lines


def test_the_demo_set_has_four_classes_and_names_its_licence(tmp_path):
    """As many photos of each class as asked for, each with its licence."""
    assert bring_in_samples(tmp_path / "cells", 6) == 24
    assert bring_in_samples(tmp_path / "cells", 6) == 0
    project = open_project(tmp_path / "cells")
    counts = {folder.name: len(list(folder.iterdir())) for folder in project.photos.iterdir()}
    assert counts == {
        "monocrystalline defective": 6,
        "monocrystalline functional": 6,
        "polycrystalline defective": 6,
        "polycrystalline functional": 6,
    }
    assert all(row["licence"] == "CC BY-NC-SA 4.0" for row in read_lines(project.provenance))
    assert is_sample(project)


def test_more_than_there_are_is_refused(tmp_path):
    """The error says how many there are."""
    with pytest.raises(WrongUse, match="5 to 313"):
        bring_in_samples(tmp_path / "cells", 1000)
    assert not (tmp_path / "cells").exists()


def test_the_demo_never_mixes_with_photos_of_ones_own(tmp_path, class_folders):
    """A project that holds other photos is refused and stays as it is."""
    bring_in(tmp_path / "pets", class_folders)
    with pytest.raises(WrongUse, match="photos of your own"):
        bring_in_samples(tmp_path / "pets", 6)
    assert {entry.name for entry in (tmp_path / "pets" / "photos").iterdir()} == {"cat", "dog"}
