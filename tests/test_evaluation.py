import numpy as np
import pytest

from stockpot.learning.evaluation import evaluate_logits, from_json


@pytest.fixture
def evaluation():
    """Ten photos of three classes, eight right: by hand."""
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 0])
    return evaluate_logits(np.log(np.eye(3)[predicted] * 0.7 + 0.1), truth, ("a", "b", "c"))


def test_figures_by_hand(evaluation):
    """Accuracy, Wilson's interval, loss, confusion, precision and recall of a table done by hand."""
    assert evaluation.n == 10
    assert evaluation.accuracy == 0.8
    assert evaluation.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert evaluation.loss == pytest.approx(-(8 * np.log(0.8) + 2 * np.log(0.1)) / 10)
    assert evaluation.confusion == ((3, 1, 0), (0, 3, 0), (1, 0, 2))
    a, b, c = evaluation.per_class
    assert (a.photos, a.precision, a.recall) == (4, 0.75, 0.75)
    assert (b.photos, b.precision, b.recall) == (3, 0.75, 1.0)
    assert (c.photos, c.precision, c.recall) == (3, 1.0, pytest.approx(2 / 3))


def test_it_survives_json(evaluation):
    """What a run stores is what it reads."""
    assert from_json(evaluation.to_json()) == evaluation


def test_a_class_without_photos_is_no_warning():
    """A test folder may lack a class."""
    result = evaluate_logits(np.array([[2.0, 1.0, 0.0]]), np.array([0]), ("a", "b", "c"))
    assert result.per_class[2].photos == 0
    assert result.interval[1] == 1
