from types import SimpleNamespace

import numpy as np
import pytest

from stockpot.explanation.explanation import explain
from stockpot.explanation.mistakes import beside_nearest
from stockpot.explanation.neighbors import nearest_training_photos
from stockpot.explanation.selection import explain_run
from stockpot.project import open_project


def test_the_nearest_photos_are_of_both_classes():
    """By the angle, not by the length: the second cat points the same way, however short it is."""
    training = [
        SimpleNamespace(label=label, path=str(i)) for i, label in enumerate(["cat", "cat", "dog", "dog"])
    ]
    features = np.array([[31, 24], [0.1, 0.1], [0, 40], [4, 5]], np.float32)
    wrong = SimpleNamespace(predicted="dog", truth="cat")
    (found,) = beside_nearest([None], [wrong], np.array([[30, 30]], np.float32), training, features)
    assert found.like_truth is training[1] and found.like_predicted is training[3]


def test_a_mistake_is_shown_beside_what_was_learned_from(solar):
    """Real mistakes: the training photos are of the two classes, and no validation photo is among them."""
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    assert selection.mistakes, "nothing to look at"
    for mistake in selection.mistakes:
        assert mistake.explanation.predicted != mistake.explanation.truth
        assert mistake.like_predicted.label == mistake.explanation.predicted
        assert mistake.like_truth.label == mistake.explanation.truth
        assert {mistake.like_predicted, mistake.like_truth} <= set(solar.split.training)


def test_the_difference_of_two_maps_is_zero_for_the_same_class(solar):
    """What speaks for a class rather than for itself is nothing: the photo stays gray."""
    mistake = explain_run(open_project(solar.project), solar.run, solar.split).mistakes[0].explanation
    nothing = np.asarray(mistake.overlay(mistake.truth, longest=64, rather_than=mistake.truth)).astype(int)
    assert (np.ptp(nothing, axis=2) == 0).all()
    something = np.asarray(mistake.overlay(longest=64, rather_than=mistake.truth)).astype(int)
    difference = mistake.map_of(mistake.predicted) - mistake.map_of(mistake.truth)
    row, column = np.unravel_index(np.abs(difference).argmax(), difference.shape)
    red, _, blue = something[8 * row + 4, 8 * column + 4]
    assert (red > blue) == (difference[row, column] > 0)  # orange speaks for the class it was given


def test_the_nearest_of_a_training_photo_is_itself(solar):
    """And all others follow in the order of their angle."""
    project = open_project(solar.project)
    for photo in solar.split.training[:3]:
        found = nearest_training_photos(project, solar.split, explain(solar.run, photo.path), count=5)
        assert found[0].photo == photo and found[0].cosine == pytest.approx(1, abs=1e-3)
        assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)
        assert {one.photo for one in found} <= set(solar.split.training)
