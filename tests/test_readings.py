from dataclasses import replace

import numpy as np
import pytest

from stockpot.explanation.explanation import explain
from stockpot.learning.comparison import exact_mcnemar
from stockpot.learning.runs import Epoch
from stockpot.model.model_file import read_model
from stockpot.reporting.readings import (
    read_audit,
    read_batch_norm,
    read_confusion,
    read_curves,
    read_gain,
    read_map,
    read_origin,
    read_rate,
)
from stockpot.reporting.texts import texts


@pytest.mark.parametrize(
    ("losses", "training_accuracy", "words", "not_words"),
    [
        ([0.9, 0.5, 0.4, 0.401], 0.6, "did not overfit", "known much better"),
        ([0.9, 0.4, 0.6, 0.7], 0.6, "lowest at epoch 2 (0.400) and rose to 0.700", "known much better"),
        ([0.9, 0.8, 0.7, 0.6], 0.6, "still falling", "known much better"),
        (
            [0.9, 0.5, 0.4, 0.401],
            0.98,
            "known much better than the others: 98.0\xa0% of them are right, 50.0\xa0%",
            "did not overfit",
        ),
    ],
)
def test_curves_are_read_as_they_run(solar, losses, training_accuracy, words, not_words):
    """Four made-up histories have four readings."""
    history = tuple(
        Epoch(i, 0.1, training_accuracy, loss, 0.5, 1e-3, 1.0) for i, loss in enumerate(losses, 1)
    )
    reading = read_curves(replace(solar.run, history=history), texts("en"))
    assert words in reading and not_words not in reading
    assert f"After 4 epochs the loss is 0.100 on training and {losses[-1]:.3f}" in reading


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainable": "all", "head": "keep"}, "means and variances are fixed"),
        ({"trainable": "all", "head": "keep", "batch_norm": "training"}, "means and variances too"),
        ({"start": "random", "trainable": "all", "batch_norm": "training"}, "means and variances too"),
        ({"start": "random"}, "BatchNorm is frozen and runs in inference mode"),
    ],
)
def test_batch_norm_is_described_by_the_recipe(solar, changes, words):
    """What it did, as the recipe says, not as the recipe's name suggests."""
    run = replace(solar.run, recipe=solar.run.recipe | changes)
    assert words in read_batch_norm(run, texts("en"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"start": "run probe (sha256 0123456789ab)", "trainable": "all"},
            "run probe was loaded again and got a new",
        ),
        (
            {"start": "run probe (sha256 0123456789ab)", "trainable": "all", "head": "keep"},
            "network and the head of run probe",
        ),
        ({"start": "random"}, "began with the weights random"),
        ({}, "loaded from one file, without running code"),
    ],
)
def test_the_origin_of_the_weights_is_told(solar, changes, words):
    """Another run, or where they were published."""
    run = replace(solar.run, recipe=solar.run.recipe | changes)
    assert words in read_origin(run, read_model(solar.run.model_path), texts("en"))


def test_the_learning_rate_is_told_beside_the_one_before(solar):
    """A tenth of it, and a warm-up where there was one."""
    tuned = replace(solar.run, recipe=solar.run.recipe | {"learning_rate": 3e-4, "warmup": 0.1})
    told = read_rate(tuned, solar.run, texts("en"))
    assert (
        "rises to 0.0003, where it was 0.003 in run probe (10 times as much), over the first 10\xa0%" in told
    )
    assert "begins at 0.003 and falls to zero" in read_rate(solar.run, None, texts("en"))


@pytest.mark.parametrize(
    ("gained", "lost", "words"),
    [
        (9, 0, "+22.5 points; chance alone would rarely do that (exact McNemar test, p = 0.004)"),
        (5, 3, "+5.0 points; that is no more than chance could do (exact McNemar test, p = 0.727)."),
    ],
)
def test_a_gain_is_told_with_its_significance(solar, gained, lost, words):
    """By hand: 9 of 9 is p = 2/2^9; 5 of 8 is far from it, and how much would have been needed is told."""
    before = {str(i): i < lost for i in range(40)}
    now = {str(i): lost <= i < lost + gained for i in range(40)}
    row = replace(solar.comparison.rows[0], n=40, mcnemar=exact_mcnemar("probe", before, now))
    told = read_gain(row, texts("en"))
    assert words in told and ("would have been significant" in told) == (lost > 0)


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


def test_where_the_evidence_lies_is_told(solar):
    """One cell of 64 at the lower right has all of it; half of the others speak against the class."""
    explanation = explain(solar.run, solar.split.validation[0].path)
    cam = np.zeros_like(explanation.cam)
    cam[:, 7, 7], cam[:, :4, :] = 5.0, -1.0
    told = read_map(replace(explanation, cam=cam), texts("en"))
    assert "lies in 1 of 64 cells (2\xa0% of the map), the strongest at the bottom right. 50\xa0% of" in told
    assert "Nothing in this map speaks for" in read_map(replace(explanation, cam=-1 - cam**2), texts("en"))
    assert "cannot show where" in read_map(replace(explanation, cam=cam[:, :1, :1]), texts("en"))


def test_photos_learned_by_heart_are_called_so(solar):
    """Validation loss rises while training loss falls; where both rise it is something else."""
    falling = tuple(
        Epoch(i, 1 / i, 0.6, loss, 0.5, 1e-3, 1.0) for i, loss in enumerate([0.9, 0.4, 0.6, 0.7], 1)
    )
    rising = tuple(replace(epoch, training_loss=float(epoch.number)) for epoch in falling)
    assert "learned by heart" in read_curves(replace(solar.run, history=falling), texts("en"))
    assert "learned by heart" not in read_curves(replace(solar.run, history=rising), texts("en"))
    assert "overfit" not in read_curves(replace(solar.run, history=falling[:1]), texts("en"))
