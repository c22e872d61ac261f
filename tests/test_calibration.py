import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from stockpot.learning.calibration import measure_reliability


def test_groups_agree_with_scikit_learn():
    """An independent implementation, where all groups are equally large."""
    chance = np.random.default_rng(0)
    probabilities = chance.random(100)
    right = chance.random(100) < probabilities
    found = measure_reliability(probabilities, right)
    accuracy, mean = calibration_curve(right, probabilities, n_bins=10, strategy="quantile")
    assert [group.n for group in found.groups] == [10] * 10
    assert [group.accuracy for group in found.groups] == pytest.approx(accuracy)
    assert [group.probability for group in found.groups] == pytest.approx(mean)
    assert found.error == pytest.approx(np.abs(accuracy - mean).mean())


@pytest.mark.parametrize(("probability", "answer"), [(0.99, "sure"), (0.8, "fits"), (0.4, "modest")])
def test_what_the_mean_says(probability, answer):
    """80 of 100 are right: too sure, as sure as right, too modest."""
    right = np.arange(100) < 80
    assert measure_reliability(np.full(100, probability), right).answer == answer


def test_few_photos_are_one_group():
    """Three photos, by hand."""
    found = measure_reliability(np.array([0.9, 0.6, 0.6]), np.array([True, True, False]))
    (group,) = found.groups
    assert (group.n, group.probability, found.accuracy) == (3, pytest.approx(0.7), pytest.approx(2 / 3))
    assert found.error == pytest.approx(0.7 - 2 / 3)
