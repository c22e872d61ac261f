from dataclasses import replace

import numpy as np
import pytest

from stockpot.learning.calibration import measure_reliability
from stockpot.learning.evaluation import ClassFigures, Evaluation
from stockpot.learning.runs import Epoch
from stockpot.reporting import charts
from stockpot.reporting.texts import texts

SAY = texts("en")


def test_a_chart_holds_the_figures_it_shows():
    """Two lines of two epochs, each with its own value."""
    history = (Epoch(1, 0.9, 0.5, 1.0, 0.4, 1e-3, 1.0), Epoch(2, 0.7, 0.6, 0.8, 0.5, 1e-3, 1.0))
    values = charts.learning_curves(history, "loss", SAY)["data"]["values"]
    assert {(v["epoch"], v["side"], v["value"]) for v in values} == {
        (1, "training", 0.9),
        (2, "training", 0.7),
        (1, "validation", 1.0),
        (2, "validation", 0.8),
    }


def test_the_run_before_ends_at_epoch_zero():
    """The first epoch of a run that goes on from another is its own epoch 1; a line parts the two."""
    before = tuple(Epoch(i, 0.9, 0.5, 1.0, 0.4, 1e-3, 1.0) for i in (1, 2, 3))
    chart = charts.learning_curves((Epoch(1, 0.7, 0.6, 0.8, 0.5, 1e-3, 1.0),), "loss", SAY, before)
    values = [(v["epoch"], v["value"]) for v in chart["data"]["values"] if v["side"] == "validation"]
    assert values == [(-2, 1.0), (-1, 1.0), (0, 1.0), (1, 0.8)]
    assert chart["layer"][0]["data"]["values"] == [{"epoch": 0.5}]


def test_curves_of_runs_can_be_compared(solar):
    """The same axes, a color each, validation figures only."""
    other = replace(solar.run, name="other")
    chart = charts.run_curves([solar.run, other], "accuracy", SAY)
    colors = chart["encoding"]["color"]["scale"]
    assert colors["domain"] == ["probe", "other"] and len(set(colors["range"])) == 2
    assert chart["encoding"]["y"]["scale"]["domain"] == [0, 1.0]
    assert len(chart["data"]["values"]) == 2 * len(solar.run.history)


def test_a_class_without_photos_divides_by_nothing():
    """Its row of the confusion matrix has the share 0, and leads nowhere."""
    figures = tuple(ClassFigures(name, n, 0.0, 0.0) for name, n in (("a", 2), ("b", 0)))
    evaluation = Evaluation(2, 0.5, (0.1, 0.9), 1.0, ((1, 1), (0, 0)), figures)
    values = charts.confusion_chart(evaluation, SAY)["data"]["values"]
    assert [v["share"] for v in values] == [0.5, 0.5, 0, 0]
    assert [v["link"] for v in values] == ["#cell-0-0", "#cell-0-1", None, None]


@pytest.mark.parametrize(("classes", "cells", "step"), [(2, 4, 70), (10, 100, 70), (100, 100, 11)])
def test_a_matrix_can_be_read_with_few_and_many_classes(classes, cells, step):
    """A few classes show every cell; of a hundred only those with photos, in small steps, all names on the axes."""
    matrix = tuple(tuple(3 * (i == j) for j in range(classes)) for i in range(classes))
    figures = tuple(ClassFigures(f"class {k}", 3, 1.0, 1.0) for k in range(classes))
    chart = charts.confusion_chart(Evaluation(3 * classes, 1.0, (0.9, 1.0), 0.1, matrix, figures), SAY)
    assert len(chart["data"]["values"]) == cells and chart["width"]["step"] == step
    assert len(chart["encoding"]["x"]["scale"]["domain"]) == classes


def test_intervals_are_drawn_around_their_figures(solar):
    """Of accuracies by run, and of groups of probabilities."""
    (value,) = charts.accuracy_chart(solar.comparison.rows, SAY)["data"]["values"]
    assert value["low"] < value["accuracy"] < value["high"]
    found = measure_reliability(np.linspace(0.1, 0.9, 40), np.arange(40) % 2 == 0)
    values = charts.reliability_chart(found, SAY)["data"]["values"]
    assert len(values) == 4 and all(v["low"] < v["right"] < v["high"] for v in values)
