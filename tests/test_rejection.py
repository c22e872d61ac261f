import numpy as np
import pytest

from stockpot.model.rejection import Rejection, mean_directions, nearest_distances

DIRECTIONS = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def test_the_distance_is_the_angle_to_the_nearest_class():
    """However long features are; what is at a right angle to all classes is as far as nothing at all."""
    features = np.array([[5, 0, 0], [0, 0.1, 0], [1, 1, 0], [0, 0, 3], [0, 0, 0]], np.float32)
    assert nearest_distances(features, DIRECTIONS) == pytest.approx([0, 0, 1 - 0.5**0.5, 1, 1], abs=1e-6)
    rejection = Rejection(DIRECTIONS, 0.5, 0.05, 100, "training")
    assert rejection.rejects(features).tolist() == [False, False, False, True, True]


def test_a_long_photo_counts_no_more_than_a_short_one():
    """The mean is of directions."""
    features = np.array([[100, 0, 0], [0, 1, 0], [0, 0, 2]], np.float32)
    found = mean_directions(features, np.array([0, 0, 1]), 2)
    assert found == pytest.approx(np.array([[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]]), abs=1e-6)
