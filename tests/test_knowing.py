"""What models know of themselves, on made features and on the real runs of the lab."""

import shutil

import numpy as np
import pytest
import torch

from stockpot.explanation.explanation import explain
from stockpot.learning.calibration import fit_temperature
from stockpot.learning.comparison import read_predictions
from stockpot.learning.inputs import fixed
from stockpot.learning.knowing import know_from_folds, know_from_validation
from stockpot.learning.models import predict
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
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


def know(recipe: Recipe, features: np.ndarray, labels: np.ndarray, groups: list[str], **more):
    some = fixed(torch.from_numpy(features[:9]), torch.from_numpy(labels[:9]))
    return know_from_folds(recipe, features, labels, groups, CLASSES, some, **more)


def test_a_temperature_undoes_what_was_multiplied():
    """Logits that say the truth about their chances, made three times too sure, or a third as sure."""
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(20_000, CLASSES))
    labels = np.array([chance.choice(CLASSES, p=row) for row in softmax(logits)])
    for factor in (1 / 3, 1.0, 3.0):
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_photos_that_are_all_right_make_no_model_sure_of_everything():
    """As sure as so many photos can make it: 100 of 100 right is no proof of 100 %."""
    labels = np.arange(100) % 2
    logits = np.eye(2)[labels] * 4.0
    temperature = fit_temperature(logits, labels)
    assert softmax(logits / temperature).max() == pytest.approx(101 / 102, abs=1e-3)


def test_held_out_heads_tell_how_sure_the_trained_one_is():
    """On photos that nobody has seen, the temperature of the folds brings accuracy and probability together."""
    features, labels = made(120, seed=1)
    recipe = Recipe.linear_probe(epochs=200, learning_rate=0.1, weight_decay=0.0)
    calibration, rejection = know(recipe, features, labels, [f"{i}" for i in range(120)])
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
    together = know(recipe, twice, both, [f"{i % 60}" for i in range(120)])
    apart = know(recipe, twice, both, [f"{i}" for i in range(120)])
    assert together[0].temperature > 1.3 * apart[0].temperature


def test_a_class_of_one_group_cannot_be_held_out():
    features, labels = made(30, seed=4)
    groups = ["all" if label == 0 else f"{i}" for i, label in enumerate(labels)]
    assert know(Recipe.linear_probe(), features, labels, groups) is None
    stopped = know(Recipe.linear_probe(), features, labels, [f"{i}" for i in range(30)], stop=lambda: True)
    assert stopped is None


def test_few_validation_photos_reject_none_of_themselves():
    features, labels = made(30, seed=5)
    calibration, rejection = know_from_validation(
        features, labels, features[:9], labels[:9], features[:9, :3]
    )
    assert (calibration.n, calibration.held_out) == (9, "validation")
    assert rejection.rate == 0 and not rejection.rejects(features[:9]).any()


def test_every_run_knows_itself(lab):
    """Training photos are held out in turn where only a head learned; else validation photos are used."""
    held_out = {}
    for run in lab.study.runs:
        model = read_model(run.model_path)
        assert model.calibration.held_out == model.rejection.held_out
        held_out[run.name] = model.rejection.held_out
        assert model.rejection.directions.shape == model.weight.shape
        assert np.linalg.norm(model.rejection.directions, axis=1) == pytest.approx(1, abs=1e-5)
        assert run.seconds["calibrating"] > 0
    heads = dict.fromkeys(("cifar", "probe"), "training")
    assert held_out == heads | dict.fromkeys(("scratch", "tail"), "validation")


def test_what_was_learned_before_is_not_held_out(lab, tmp_path):
    """A tuned network whose file has another name: its head is calibrated on validation photos all the same."""
    shutil.copytree(lab.study.project, tmp_path / "solar")
    tail = next(run for run in lab.study.runs if run.name == "tail")
    mine = tmp_path / "mine.safetensors"
    shutil.copy(tail.model_path, mine)
    run = train(tmp_path / "solar", Recipe.linear_probe(start=str(mine), epochs=2), "again")
    assert read_model(run.model_path).calibration.held_out == "validation"


def test_a_stopped_head_is_not_given_the_doubts_of_complete_ones(lab, tmp_path):
    """It is calibrated as it is, on validation photos; a stopped network cannot say no."""
    shutil.copytree(lab.study.project, tmp_path / "solar")
    for name, recipe in (
        ("head", Recipe.linear_probe("cifar", epochs=500)),
        ("all", Recipe.from_scratch(epochs=50)),
    ):
        seen = []
        run = train(tmp_path / "solar", recipe, name, stop=lambda seen=seen: len(seen) > 1, watch=seen.append)
        model = read_model(run.model_path)
        assert run.interrupted and model.calibration.held_out == "validation"
        assert (model.rejection is None) == (name == "all")


def test_everybody_says_the_same_of_a_photo(lab):
    """Predictions on disk, `predict` and `explain` give one photo one probability; that is the calibrated one."""
    for run in lab.study.runs:
        sha256, said = next(iter(read_predictions(run).items()))
        photo = next(one for one in lab.study.split.validation if one.sha256 == sha256)
        (predicted,) = predict(run, [photo.path])
        why = explain(run, photo.path)
        assert predicted.probability == pytest.approx(said.probability, abs=2e-4)
        assert why.probability == pytest.approx(predicted.probability, abs=1e-4)
        assert why.none_of_these == predicted.none_of_these
        assert why.probability != pytest.approx(float(softmax(why.logits).max()), abs=1e-4)
