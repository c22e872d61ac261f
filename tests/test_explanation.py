import numpy as np
import pytest

from stockpot.errors import PhotoError, UnreadablePhoto
from stockpot.explanation.explanation import explain, explain_files
from stockpot.explanation.selection import explain_run, farthest_first
from stockpot.learning.models import load_model
from stockpot.project import open_project


def test_maps_average_to_the_logits_for_every_class_of_every_validation_photo(solar):
    """From cached maps, without computing anything again."""
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    assert len(selection.mistakes) == round((1 - solar.run.evaluation.accuracy) * solar.run.evaluation.n)
    for explanation in (*selection.correct, *(mistake.explanation for mistake in selection.mistakes)):
        assert explanation.residual < 1e-4
        assert explanation.cam.shape == (4, 8, 8)


def test_a_photo_explained_from_its_file_is_the_cached_one(solar):
    """Cached maps are those of the file."""
    predictor = load_model(solar.run)
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    for cached in selection.correct[:2]:
        fresh = explain(predictor, cached.photo)
        assert fresh.predicted == cached.predicted
        assert np.abs(fresh.cam - cached.cam).max() < 0.02 * np.abs(cached.cam).max()
        assert fresh.residual < 1e-4


def test_a_selection_is_varied_and_sorted(solar):
    """At least two correct photos a class where there are two; the surest mistakes first."""
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    right = {
        label: row[k]
        for k, (label, row) in enumerate(
            zip(solar.split.class_names, solar.run.evaluation.confusion, strict=True)
        )
    }
    for label, count in right.items():
        shown = [e for e in selection.correct if e.truth == label]
        assert len(shown) >= min(2, count)
        assert all(e.predicted == label for e in shown)
    sure = [mistake.explanation.probability for mistake in selection.mistakes]
    assert sure == sorted(sure, reverse=True)


def test_farthest_first_covers_the_corners():
    """Of a cloud with three far points those three follow the typical one."""
    cloud = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    cloud[[3, 20, 41]] = [[100, 0], [-100, 0], [0, 90]]
    assert set(farthest_first(cloud, 4)[1:]) == {3, 20, 41}
    assert farthest_first(cloud[:2], 9) in ([0, 1], [1, 0])
    assert farthest_first(cloud[:0], 3) == []


def test_pictures_are_written_one_a_file(solar, tmp_path):
    """Photos of the same name do not overwrite each other; a bad file is an answer, not an end."""
    photo = solar.split.validation[0].path
    twin = tmp_path / photo.name
    twin.write_bytes(photo.read_bytes())
    bad = tmp_path / "bad.png"
    bad.touch()
    answers = list(explain_files(solar.run, [photo, bad, twin], tmp_path / "out"))
    assert isinstance(answers[1][2], UnreadablePhoto)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{photo.stem}-why.png",
        f"{photo.stem}-2-why.png",
    }
    assert answers[0][2].overlay(longest=100).size == (100, 100)


def test_a_class_that_does_not_exist_is_refused(solar, tmp_path):
    """With the classes there are."""
    photo = solar.split.validation[0].path
    with pytest.raises(PhotoError, match="no class 'penguin'"):
        list(explain_files(solar.run, [photo], tmp_path, label="penguin"))
