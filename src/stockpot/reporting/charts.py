"""Charts as Vega-Lite specifications: JSON that any Vega-Lite page draws. Each has a table beside it."""

from collections.abc import Sequence
from typing import Any

from stockpot.learning.calibration import Reliability
from stockpot.learning.comparison import Row
from stockpot.learning.evaluation import Evaluation
from stockpot.learning.resampling import LearningCurve
from stockpot.learning.runs import Epoch, Run
from stockpot.reporting.texts import Texts

Spec = dict[str, Any]
History = tuple[Epoch, ...]

FEW_CLASSES = 12  # of which a confusion matrix shows every cell, with large figures
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # names the format; never fetched
_TRAINING, _VALIDATION = (
    "#8e6bbf",
    "#e66101",
)  # seen on white and on black, and told apart by any color vision
_RUNS = ("#e66101", "#8e6bbf", "#2b83ba", "#b8860b", "#7f7f7f", "#d6569b")
_RULE = {
    "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#888"},
    "encoding": {"x": {"field": "epoch", "type": "quantitative"}},
}
_CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12},
    "legend": {"labelFontSize": 12, "titleFontSize": 12},
    "view": {"stroke": None},
}


def learning_curves(
    history: History, quantity: str, say: Texts, before: History = (), highest: float | None = None
) -> Spec:
    """Return training and validation figures per epoch.

    Args:
        history: the run's epochs.
        quantity: `"loss"` or `"accuracy"`.
        say: the titles.
        before: epochs of the run that it went on from, drawn to the left of a line, the last one as epoch 0.
        highest: end of the axis of losses, so that runs can be compared by eye; accuracies end at 1.
    """
    sides = {"training": say("training.training_side"), "validation": say("training.validation_side")}
    rows = [
        {"epoch": number, "side": name, "value": getattr(epoch, f"{side}_{quantity}")}
        for number, epoch in enumerate(before + history, 1 - len(before))
        for side, name in sides.items()
    ]
    color = {
        "field": "side",
        "type": "nominal",
        "title": say("training.side"),
        "scale": {"domain": list(sides.values()), "range": [_TRAINING, _VALIDATION]},
    }
    curves = _curves(quantity, say, color, highest)
    start = {"data": {"values": [{"epoch": 0.5}]}, **_RULE}
    return _wide(rows) | ({"layer": [start, curves]} if before else curves)


def run_curves(runs: Sequence[Run], quantity: str, say: Texts, highest: float | None = None) -> Spec:
    """Return the validation figures of all runs per epoch; arguments as `learning_curves`."""
    rows = [
        {"epoch": epoch.number, "run": run.name, "value": getattr(epoch, f"validation_{quantity}")}
        for run in runs
        for epoch in run.history
    ]
    names = [run.name for run in runs]
    color = {
        "field": "run",
        "type": "nominal",
        "title": say("comparison.run"),
        "scale": {"domain": names, "range": [_RUNS[i % len(_RUNS)] for i in range(len(names))]},
    }
    return _wide(rows) | _curves(quantity, say, color, highest)


def _curves(quantity: str, say: Texts, color: Spec, highest: float | None) -> Spec:
    """Return lines by themselves."""
    share = quantity == "accuracy"
    end = 1.0 if share else highest
    y: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": say(f"training.{quantity}"),
        "axis": {"format": ".0%"} if share else {},
        "scale": {"domain": [0, end], "clamp": True} if end else {"zero": True},
    }
    x: Spec = {
        "field": "epoch",
        "type": "quantitative",
        "title": say("training.epoch"),
        "axis": {"tickMinStep": 1, "grid": False, "format": "d"},
    }
    told = [
        {"field": color["field"], "title": color["title"]},
        {"field": "epoch", "title": x["title"]},
        {"field": "value", "title": y["title"], "format": ".1%" if share else ".3f"},
    ]
    return {
        "mark": {"type": "line", "point": {"size": 18}, "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "color": color, "tooltip": told},
    }


def photos_curve(curve: LearningCurve, say: Texts) -> Spec:
    """Return accuracy on the validation photos by the number of training photos: each draw, and the means."""
    rows = [
        {"photos": photos, "accuracy": accuracy}
        for photos, draws in zip(curve.photos, curve.accuracies, strict=True)
        for accuracy in draws
    ]
    y = _share_axis(say("comparison.accuracy")) | {"scale": {"zero": False}}
    mean = {"field": "accuracy", "aggregate": "mean"}
    bars = [
        {"photos": photos, "low": low, "high": high}
        for photos, (low, high) in zip(curve.photos, curve.intervals, strict=True)
    ]
    x = {"field": "photos", "type": "quantitative", "title": say("comparison.more_photos")}
    return _wide(rows) | {
        "encoding": {"x": x},
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "rule", "color": "#bbb", "strokeWidth": 3},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "color": _VALIDATION}, "encoding": {"y": y | mean}},
            {"mark": {"type": "point", "color": _VALIDATION}, "encoding": {"y": y | {"field": "accuracy"}}},
        ],
    }


def accuracy_chart(rows: Sequence[Row], say: Texts) -> Spec:
    """Return every run's accuracy with its interval, below each other."""
    values = [
        {"run": row.name, "accuracy": row.accuracy, "low": row.interval[0], "high": row.interval[1]}
        for row in rows
    ]
    x = _share_axis(say("comparison.accuracy")) | {"scale": {"domain": [0, 1]}}
    names = [row.name for row in rows]
    told = [
        {"field": "run", "title": say("comparison.run")},
        {"field": "accuracy", "title": say("comparison.accuracy"), "format": ".1%"},
    ]
    return _wide(values) | {
        "height": 30 * len(values),
        "encoding": {
            "y": {"field": "run", "type": "nominal", "sort": names, "title": None},
            "tooltip": told,
        },
        "layer": [
            {
                "mark": {"type": "rule", "color": "#999", "strokeWidth": 3},
                "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "color": _VALIDATION, "opacity": 1},
                "encoding": {"x": x | {"field": "accuracy"}},
            },
        ],
    }


def reliability_chart(found: Reliability, say: Texts) -> Spec:
    """Return how many are right by how sure the model was, beside the line where both are the same."""
    rows = [
        {"mean": one.probability, "right": one.accuracy, "low": one.interval[0], "high": one.interval[1]}
        for one in found.groups
    ]
    scale = {"scale": {"domain": [0, 1]}}
    x = _share_axis(say("evaluation.mean")) | scale | {"field": "mean"}
    y = _share_axis(say("evaluation.right")) | scale
    same = [{"mean": 0, "right": 0}, {"mean": 1, "right": 1}]
    return _wide(rows) | {
        "height": 300,
        "encoding": {"x": x, "y": y | {"field": "right"}},
        "layer": [
            {
                "data": {"values": same},
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888"},
            },
            {
                "mark": {"type": "rule", "color": "#999", "strokeWidth": 3},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "point", "filled": True, "size": 90, "color": _VALIDATION, "opacity": 1}},
        ],
    }


def _share_axis(title: str) -> Spec:
    return {"type": "quantitative", "title": title, "axis": {"format": ".0%"}}


def _wide(rows: list[dict[str, Any]]) -> Spec:
    """Return what charts as wide as the page have in common."""
    return {
        "$schema": _SCHEMA,
        "config": _CONFIG,
        "width": "container",
        "height": 230,
        "data": {"values": rows},
    }


def cell_anchor(truth: int, predicted: int) -> str:
    """Return the name of the place that a cell of the confusion matrix leads to."""
    return f"cell-{truth}-{predicted}"


def confusion_chart(evaluation: Evaluation, say: Texts) -> Spec:
    """Return the confusion matrix as a heat map: color by share of the true class, text by count, and links.

    Of more than 12 classes only the cells that have photos are drawn, so that a hundred classes can be read.
    """
    names = [figures.name for figures in evaluation.per_class]
    few = len(names) <= FEW_CLASSES
    step, font = (18, 9) if len(names) <= 40 else (11, 8)
    rows = [
        {
            "truth": names[i],
            "predicted": names[j],
            "photos": count,
            "share": count / max(1, sum(row)),
            "link": f"#{cell_anchor(i, j)}" if count else None,
        }
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
        if count or few
    ]
    axis = {"labelFontSize": 12 if few else font, "labelLimit": 160, "domain": False, "ticks": False}
    position = {
        "x": _classes(
            names, "predicted", say("evaluation.predicted"), axis | {"labelAngle": -40 if few else -90}
        ),
        "y": _classes(names, "truth", say("evaluation.truth"), axis),
    }
    told = [
        *({"field": name} for name in ("truth", "predicted", "photos")),
        {"field": "share", "format": ".0%"},
    ]
    return {
        "$schema": _SCHEMA,
        "config": _CONFIG | {"view": {"stroke": "#999"}},
        "width": {"step": 70 if few else step},
        "height": {"step": 44 if few else step},
        "data": {"values": rows},
        "encoding": position | {"tooltip": told, "href": {"field": "link", "type": "nominal"}},
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "share",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"domain": [0, 1], "range": ["#f4f1f9", "#4b2a8c"]},
                    }
                },
            },
            {
                "mark": {"type": "text", "fontSize": 13 if few else font},
                "encoding": {
                    "text": {"field": "photos"},
                    "color": {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "#222"},
                },
            },
        ],
    }


def _classes(names: list[str], field: str, title: str, axis: Spec) -> Spec:
    """Return an axis with every class on it."""
    scale = {"domain": names}
    return {"field": field, "type": "nominal", "sort": names, "title": title, "scale": scale, "axis": axis}
