from stockpot.learning.evaluation import ClassFigures, Evaluation
from stockpot.learning.runs import Epoch
from stockpot.reporting.charts import confusion_chart, learning_curves


def test_a_chart_holds_the_figures_it_shows():
    """Two lines of two epochs, each with its own value."""
    history = (Epoch(1, 0.9, 0.5, 1.0, 0.4, 1e-3, 1.0), Epoch(2, 0.7, 0.6, 0.8, 0.5, 1e-3, 1.0))
    values = learning_curves(history, "loss", "loss", "photos")["data"]["values"]
    assert {(v["epoch"], v["side"], v["value"]) for v in values} == {
        (1, "training", 0.9),
        (2, "training", 0.7),
        (1, "validation", 1.0),
        (2, "validation", 0.8),
    }


def test_the_run_before_ends_at_epoch_zero():
    """The first epoch of a run that goes on from another is its own epoch 1; a line parts the two."""
    before = tuple(Epoch(i, 0.9, 0.5, 1.0, 0.4, 1e-3, 1.0) for i in (1, 2, 3))
    chart = learning_curves((Epoch(1, 0.7, 0.6, 0.8, 0.5, 1e-3, 1.0),), "loss", "loss", "photos", before)
    values = [(v["epoch"], v["value"]) for v in chart["data"]["values"] if v["side"] == "validation"]
    assert values == [(-2, 1.0), (-1, 1.0), (0, 1.0), (1, 0.8)]
    assert chart["layer"][0]["data"]["values"] == [{"epoch": 0.5}]


def test_a_class_without_photos_divides_by_nothing():
    """Its row of the confusion matrix has the share 0."""
    figures = tuple(ClassFigures(name, n, 0.0, 0.0) for name, n in (("a", 2), ("b", 0)))
    evaluation = Evaluation(2, 0.5, (0.1, 0.9), 1.0, ((1, 1), (0, 0)), figures)
    values = confusion_chart(evaluation, "true", "given")["data"]["values"]
    assert [v["share"] for v in values] == [0.5, 0.5, 0, 0]
