import pytest

from stockpot.errors import WrongUse
from stockpot.photos.samples import bring_in_samples, is_sample
from stockpot.project import create_project, read_lines


def test_the_demo_set_has_four_classes_and_names_its_licence(tmp_path):
    """As many photos of each class as asked for, each with its licence."""
    project = create_project(tmp_path / "cells")
    assert bring_in_samples(project, 6) == 24
    assert bring_in_samples(project, 6) == 0
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
        bring_in_samples(create_project(tmp_path / "cells"), 1000)
