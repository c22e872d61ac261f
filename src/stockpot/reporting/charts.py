"""Charts as Vega-Lite specifications: JSON that any Vega-Lite page draws. Each has a table beside it."""

from typing import Any

from stockpot.learning.evaluation import Evaluation
from stockpot.learning.resampling import LearningCurve
from stockpot.learning.runs import Epoch

Spec = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # names the format; never fetched
_SIDES = {"training": "#5e3c99", "validation": "#e66101"}
_RULE = {
    "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#888"},
    "encoding": {"x": {"field": "epoch", "type": "quantitative"}},
}
_CONFIG = {
    "font": "system-ui, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e8e8e8"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12},
    "view": {"stroke": None},
}


def learning_curves(
    history: tuple[Epoch, ...],
    quantity: str,
    title: str,
    side_title: str,
    before: tuple[Epoch, ...] = (),
) -> Spec:
    """Return training and validation figures per epoch.

    Args:
        history: the run's epochs.
        quantity: `"loss"` or `"accuracy"`.
        title: of the vertical axis.
        side_title: of the legend.
        before: epochs of the run that it went on from, drawn to the left of a line, the last one as epoch 0.
    """
    rows = [
        {"epoch": number, "side": side, "value": getattr(epoch, f"{side}_{quantity}")}
        for number, epoch in enumerate(before + history, 1 - len(before))
        for side in _SIDES
    ]
    curves = _curves(quantity, title, side_title)
    start = {"data": {"values": [{"epoch": 0.5}]}, **_RULE}
    return _wide(rows) | ({"layer": [start, curves]} if before else curves)


def photos_curve(curve: LearningCurve, photos_title: str, accuracy_title: str) -> Spec:
    """Return accuracy on the validation photos by the number of training photos: each draw, and the means."""
    rows = [
        {"photos": photos, "accuracy": accuracy}
        for photos, draws in zip(curve.photos, curve.accuracies, strict=True)
        for accuracy in draws
    ]
    y: Spec = {
        "type": "quantitative",
        "title": accuracy_title,
        "axis": {"format": ".0%"},
        "scale": {"zero": False},
    }
    color = _SIDES["validation"]
    mean = {"field": "accuracy", "aggregate": "mean"}
    bars = [
        {"photos": photos, "low": low, "high": high}
        for photos, (low, high) in zip(curve.photos, curve.intervals, strict=True)
    ]
    return _wide(rows) | {
        "encoding": {"x": {"field": "photos", "type": "quantitative", "title": photos_title}},
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "rule", "color": "#bbb", "strokeWidth": 3},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "color": color}, "encoding": {"y": y | mean}},
            {"mark": {"type": "point", "color": color}, "encoding": {"y": y | {"field": "accuracy"}}},
        ],
    }


def _wide(rows: list[dict[str, Any]]) -> Spec:
    """Return what charts as wide as the page have in common."""
    return {
        "$schema": _SCHEMA,
        "config": _CONFIG,
        "width": "container",
        "height": 230,
        "data": {"values": rows},
    }


def _curves(quantity: str, title: str, side_title: str) -> Spec:
    """Return the lines of both sides by themselves."""
    axis = {"format": ".0%"} if quantity == "accuracy" else {}
    return {
        "mark": {"type": "line", "point": {"size": 18}, "strokeWidth": 2},
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "axis": {"tickMinStep": 1, "grid": False}},
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": title,
                "axis": axis,
                "scale": {"zero": quantity == "loss"},
            },
            "color": {
                "field": "side",
                "type": "nominal",
                "title": side_title,
                "scale": {"domain": list(_SIDES), "range": list(_SIDES.values())},
            },
            "tooltip": [
                {"field": "epoch"},
                {"field": "side"},
                {"field": "value", "format": ".3f"},
            ],
        },
    }


def confusion_chart(evaluation: Evaluation, truth_title: str, predicted_title: str) -> Spec:
    """Return the confusion matrix as a heat map: color by share of the true class, text by count."""
    names = [figures.name for figures in evaluation.per_class]
    rows = [
        {"truth": names[i], "predicted": names[j], "photos": count, "share": count / max(1, sum(row))}
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
    ]
    position = {
        "x": {"field": "predicted", "type": "nominal", "sort": names, "title": predicted_title},
        "y": {"field": "truth", "type": "nominal", "sort": names, "title": truth_title},
    }
    return {
        "$schema": _SCHEMA,
        "config": _CONFIG,
        "width": {"step": 70 if len(names) <= 12 else 24},
        "height": {"step": 44 if len(names) <= 12 else 24},
        "data": {"values": rows},
        "encoding": position | {"tooltip": [{"field": name} for name in ("truth", "predicted", "photos")]},
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "share",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"domain": [0, 1], "scheme": "purples"},
                    }
                },
            },
            {
                "mark": {"type": "text", "fontSize": 13},
                "encoding": {
                    "text": {"field": "photos"},
                    "color": {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "#222"},
                },
            },
        ],
    }
