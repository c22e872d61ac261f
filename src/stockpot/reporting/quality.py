"""What a report says beside the points of the lab: which training is best, and how good it is."""

from typing import Any

from stockpot.learning.comparison import Row
from stockpot.learning.resampling import DRAWS
from stockpot.photos.photo import Photo, short_name
from stockpot.progress import in_words
from stockpot.reporting.blocks import (
    Block,
    Blocks,
    chart,
    charts,
    heading,
    hidden,
    sentences,
    table,
    text,
)
from stockpot.reporting.cards import mistake_anchor
from stockpot.reporting.charts import (
    FEW_CLASSES,
    accuracy_chart,
    cell_anchor,
    confusion_chart,
    photos_curve,
    reliability_chart,
    run_curves,
)
from stockpot.reporting.material import Material
from stockpot.reporting.pictures import Album
from stockpot.reporting.readings import (
    confused_pairs,
    read_calibration,
    read_confusion,
    read_learning_curve,
    read_rejection,
    read_reliability,
    read_remarks,
    read_test,
)
from stockpot.reporting.texts import Texts
from stockpot.reporting.training_points import highest_loss

PAIRS = 20  # of classes that were confused
RIGHT_SHOWN, WRONG_SHOWN = 4, 12  # photos behind a cell of the confusion matrix
ALL_SHOWN = 60  # behind all cells


def compare_runs(material: Material, say: Texts) -> Blocks:
    """Return all trainings side by side."""
    comparison, label = material.comparison, say("comparison.by_recipe")
    head = [say(f"comparison.{name}") for name in ("run", "accuracy", "interval", "loss", "time", "learned")]
    name, accuracy = comparison.majority
    always = (say("comparison.majority", name=name), say.percent(accuracy), *[""] * 5)
    highest = highest_loss(material)
    drawn = charts(
        *(
            chart(run_curves(material.runs, quantity, say, highest), say("comparison.curves"))
            for quantity in ("loss", "accuracy")
        )
    )
    return [
        text(say("comparison.how", n=material.run.evaluation.n)),
        table(
            [*head, say("comparison.against")],
            [*(_compared(row, say) for row in comparison.rows), always],
            words=(6,),
        ),
        *sentences(read_remarks(comparison, say)),
        heading(label),
        chart(accuracy_chart(comparison.rows, say), label),
        heading(say("comparison.curves")),
        drawn,
        *_more_photos(material, say),
    ]


def _compared(row: Row, say: Texts) -> tuple[Any, ...]:
    return (
        row.name,
        say.percent(row.accuracy) + "*" * row.chosen,
        say.interval(row.interval),
        say.number(row.loss, ".3f"),
        in_words(row.seconds).replace(".", say.sentences["numbers"]["decimal"]),
        row.trained_parameters,
        read_test(row.mcnemar, say),
    )


def _more_photos(material: Material, say: Texts) -> Blocks:
    curve = material.comparison.curve
    if curve is None:
        return []
    head = [
        say("comparison.more_photos"),
        say("comparison.more_draws", draws=DRAWS),
        say("comparison.interval"),
    ]
    rows = [
        (photos, say.percent(mean), say.interval(interval))
        for photos, mean, interval in zip(curve.photos, curve.means, curve.intervals, strict=True)
    ]
    return [
        heading(say("comparison.more")),
        chart(photos_curve(curve, say), say("comparison.more")),
        text(read_learning_curve(curve, say)),
        hidden(say("page.table"), table(head, rows)),
    ]


def evaluate(material: Material, album: Album, say: Texts) -> Blocks:
    """Return how good the chosen run is, by class, and the photos behind its confusion matrix."""
    run, evaluation = material.run, material.run.evaluation
    chosen = len(material.runs) > 1 and not material.asked
    which = say(f"evaluation.{'best' if chosen else 'asked'}", run=run.name, runs=len(material.runs))
    low, high = evaluation.interval
    summary = say("page.summary", accuracy=evaluation.accuracy, n=evaluation.n, low=low, high=high)
    return [
        text(f"{which} {summary}"),
        heading(say("evaluation.confusion")),
        text(f"{read_confusion(run, say)} {say('evaluation.confusion_note')}"),
        chart(confusion_chart(evaluation, say), say("evaluation.confusion")),
        _confusion_table(material, say),
        *_reliability(material, say),
        *_by_class(material, say),
        heading(say("evaluation.behind")),
        *_behind(material, album, say),
    ]


def _by_class(material: Material, say: Texts) -> Blocks:
    head = [say("photos.class"), *(say(f"evaluation.{name}") for name in ("photos", "precision", "recall"))]
    rows = [
        (one.name, one.photos, say.percent(one.precision), say.percent(one.recall))
        for one in material.run.evaluation.per_class
    ]
    title = say("evaluation.per_class")
    if len(rows) > FEW_CLASSES:
        return [hidden(title, table(head, rows))]
    return [heading(title), table(head, rows)]


def _confusion_table(material: Material, say: Texts) -> Block:
    """Return the matrix as a table of links; of many classes the pairs that were confused most often."""
    names = material.split.class_names
    if len(names) > FEW_CLASSES:
        pairs = [
            (truth, predicted, (count, f"#{cell_anchor(names.index(truth), names.index(predicted))}"))
            for count, truth, predicted in confused_pairs(material.run)
        ]
        head = [say("evaluation.truth"), say("evaluation.predicted"), say("evaluation.photos")]
        return hidden(say("evaluation.pairs"), table(head, pairs[:PAIRS], words=(1,)))
    rows = [
        (names[i], *((count, f"#{cell_anchor(i, j)}") if count else 0 for j, count in enumerate(row)))
        for i, row in enumerate(material.run.evaluation.confusion)
    ]
    corner = f"{say('evaluation.truth')} \\ {say('evaluation.predicted')}"
    return hidden(say("page.table"), table([corner, *names], rows))


def _behind(material: Material, album: Album, say: Texts) -> Blocks:
    """Return the photos behind the cells of the matrix: mistakes first, then some of the others."""
    left, blocks = ALL_SHOWN, []
    cells = sorted(material.behind.items(), key=lambda cell: (cell[0][0] == cell[0][1], -len(cell[1])))
    for (truth, predicted), photos in cells:
        shown = photos[: min(left, RIGHT_SHOWN if truth == predicted else WRONG_SHOWN)]
        left -= len(shown)
        blocks.append(_cell(material, truth, predicted, photos, len(shown), album, say))
    return blocks


def _cell(
    material: Material,
    truth: str,
    predicted: str,
    photos: list[Photo],
    shown: int,
    album: Album,
    say: Texts,
) -> Block:
    """Return the first photos of a cell, each leading to its card where it has one, and how many more there are."""
    key, rest = "right" if truth == predicted else "wrong", photos[shown:]
    if not shown:
        more = ", ".join(short_name(photo.path) for photo in rest[:WRONG_SHOWN])
    else:
        more = say("evaluation.cell_more", count=len(rest)) if rest else ""
    names, carded = material.split.class_names, material.carded
    title = say(f"evaluation.cell_{key}", truth=truth, predicted=predicted, label=truth, count=len(photos))
    content = {
        "anchor": cell_anchor(names.index(truth), names.index(predicted)),
        "title": title,
        "figures": [(album.add(photo.path), _sure(material, photo, say)) for photo in photos[:shown]],
        "links": [f"#{mistake_anchor(photo)}" if photo.sha256 in carded else "" for photo in photos[:shown]],
        "more": more,
    }
    return Block("behind", content)


def _sure(material: Material, photo: Photo, say: Texts) -> str:
    said = material.predicted[photo.sha256]
    return say("maps.predicted", label=said.label, probability=said.probability)


def _own_knowledge(material: Material, say: Texts) -> list[str]:
    """Say how probabilities were calibrated, and what is none of the classes."""
    model, n = material.model, material.run.evaluation.n
    return [
        read_calibration(model, material.uncalibrated.error, say),
        read_rejection(model, material.selection.rejected, n, say),
    ]


def _reliability(material: Material, say: Texts) -> Blocks:
    found = material.reliability
    head = [
        say("evaluation.photos"),
        say("evaluation.mean"),
        say("evaluation.right"),
        say("comparison.interval"),
    ]
    rows = [
        (one.n, say.percent(one.probability), say.percent(one.accuracy), say.interval(one.interval))
        for one in found.groups
    ]
    return [
        heading(say("evaluation.reliability")),
        text(read_reliability(found, say)),
        *(text(words) for words in _own_knowledge(material, say) if words),
        chart(reliability_chart(found, say), say("evaluation.reliability")),
        text(say("evaluation.reliability_how", bins=len(found.groups)), "quiet"),
        hidden(say("page.table"), table(head, rows)),
    ]
