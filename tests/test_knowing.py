"""What models know of themselves, on made features and on the real runs of the lab."""

import numpy as np
import pytest

from stockpot.learning.calibration import fit_temperature, measure_reliability
from stockpot.learning.knowing import know_from_folds, know_from_validation
from stockpot.learning.recipes import Recipe
from stockpot.model.model_file import read_model
from stockpot.model.prediction import softmax
from stockpot.model.rejection import RATE

CLASSES, CHANNELS = 3, 20


def made(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos of three classes that overlap."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    features = chance.normal(size=(count, CHANNELS)).astype(np.float32) + 3
    features[np.arange(count), labels] += 2
    return features, labels


def test_a_temperature_undoes_what_was_multiplied():
    """Logits that say the truth about their chances, made three times too sure, or a third as sure."""
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(20_000, CLASSES))
    labels = np.array([chance.choice(CLASSES, p=row) for row in softmax(logits)])
    for factor in (1 / 3, 1.0, 3.0):
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_photos_that_are_all_right_have_a_temperature_too():
    """The lowest there is: it stays a number."""
    assert 0.04 < fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) < 0.1


def test_held_out_heads_tell_how_sure_the_trained_one_is():
    """On photos that nobody has seen, the temperature of the folds brings accuracy and probability together."""
    features, labels = made(120, seed=1)
    recipe = Recipe.linear_probe(epochs=200, learning_rate=0.1, weight_decay=0.0)
    calibration, rejection = know_from_folds(recipe, features, labels, [f"{i}" for i in range(120)], CLASSES)
    assert calibration.temperature > 1.5 and (calibration.n, calibration.held_out) == (120, "training")
    assert 0 < rejection.rate <= RATE
    unseen, _ = made(3000, seed=2)
    assert rejection.rejects(unseen).mean() == pytest.approx(RATE, abs=0.03)
    assert rejection.rejects(-unseen).all()


def test_groups_are_held_out_together():
    """Every photo twice: only where its copy is held out too, the head is found too sure."""
    features, labels = made(60, seed=3)
    twice, both = np.concatenate([features, features]), np.concatenate([labels, labels])
    recipe = Recipe.linear_probe(epochs=200, learning_rate=0.1, weight_decay=0.0)
    together = know_from_folds(recipe, twice, both, [f"{i % 60}" for i in range(120)], CLASSES)
    apart = know_from_folds(recipe, twice, both, [f"{i}" for i in range(120)], CLASSES)
    assert together[0].temperature > 1.3 * apart[0].temperature


def test_a_class_of_one_group_cannot_be_held_out():
    features, labels = made(30, seed=4)
    groups = ["all" if label == 0 else f"{i}" for i, label in enumerate(labels)]
    assert know_from_folds(Recipe.linear_probe(), features, labels, groups, CLASSES) is None


def test_few_validation_photos_reject_none_of_themselves():
    features, labels = made(30, seed=5)
    calibration, rejection = know_from_validation(
        features, labels, features[:9], labels[:9], features[:9, :3]
    )
    assert (calibration.n, calibration.held_out) == (9, "validation")
    assert rejection.rate == 0 and not rejection.rejects(features[:9]).any()


def test_every_run_knows_itself(lab):
    """Training photos are held out in turn where only a head learned; else validation photos are used."""
    for run in lab.study.runs:
        model = read_model(run.model_path)
        held_out = "training" if run.recipe["trainable"] == "head" else "validation"
        assert model.calibration.held_out == model.rejection.held_out == held_out
        assert model.rejection.directions.shape == model.weight.shape
        assert np.linalg.norm(model.rejection.directions, axis=1) == pytest.approx(1, abs=1e-5)
        assert run.seconds["calibrating"] > 0


def test_reliability_of_nothing_is_refused_nowhere():
    """One photo is enough for a figure, and its interval says how little that is."""
    found = measure_reliability(np.array([0.7]), np.array([True]))
    assert found.n == 1 and found.interval[0] < 0.3
