from dataclasses import replace

import pytest

from stockpot.learning.runs import Epoch
from stockpot.model.model_file import read_model
from stockpot.reporting.readings import read_audit, read_confusion, read_curves, read_training, texts


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.9, 0.5, 0.4, 0.401], "did not overfit"),
        ([0.9, 0.4, 0.6, 0.7], "lowest at epoch 2 (0.400) and rose to 0.700"),
        ([0.9, 0.8, 0.7, 0.6], "still falling"),
    ],
)
def test_curves_are_read_as_they_run(solar, losses, words):
    """Three made-up histories have three readings."""
    history = tuple(Epoch(i, 0.1, 1.0, loss, 0.5, 1e-3, 1.0) for i, loss in enumerate(losses, 1))
    assert words in read_curves(replace(solar.run, history=history), texts("en"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainable": "all", "head": "keep"}, "means and variances are fixed"),
        (
            {"trainable": "all", "head": "keep", "warmup": 0.1},
            "the learning rate rises to 0.003 over the first 10% of",
        ),
        (
            {"trainable": "all", "head": "keep", "batch_norm": "training"},
            "learns its means and variances too",
        ),
        (
            {"start": "random", "trainable": "all", "batch_norm": "training"},
            "learns its means and variances too",
        ),
        ({"start": "random"}, "BatchNorm is frozen and runs in inference mode"),
        (
            {"start": "run probe (sha256 0123456789ab)", "trainable": "all"},
            "run probe was loaded again and got a new",
        ),
        (
            {"start": "run probe (sha256 0123456789ab)", "trainable": "all", "head": "keep"},
            "network and head of run",
        ),
    ],
)
def test_a_training_is_described_by_its_recipe(solar, changes, words):
    """What BatchNorm did and where the weights came from, as the recipe says, not as the recipe's name suggests."""
    run = replace(solar.run, recipe=solar.run.recipe | changes)
    assert words in read_training(run, None, read_model(solar.run.model_path), "solar", texts("en"))


def test_a_failed_audit_is_said_loudly(solar):
    """A frozen tensor that changed is in the sentence."""
    failed = replace(solar.run, audit=replace(solar.run.audit, frozen_changed=3))
    assert "FAILED: 3 frozen tensors changed" in read_audit(failed, texts("en"))


def test_the_most_confused_pair_is_named(solar):
    """The largest number off the diagonal."""
    matrix = ((9, 0, 0, 0), (5, 4, 0, 0), (0, 0, 9, 2), (0, 0, 0, 9))
    run = replace(solar.run, evaluation=replace(solar.run.evaluation, confusion=matrix))
    first, second = solar.split.class_names[:2]
    assert f"5 photos of {second} were taken for {first}" in read_confusion(run, texts("en"))
