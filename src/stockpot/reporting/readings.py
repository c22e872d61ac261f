"""Sentences of the report: the texts of a language, and what the figures of a run say in words."""

import math
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files

from stockpot.learning.comparison import Comparison, McNemar
from stockpot.learning.resampling import LearningCurve, Resampled
from stockpot.learning.runs import CHECKED_PHOTOS, Run
from stockpot.model.model_file import ModelFile

Say = Callable[..., str]


def texts(language: str) -> Say:
    """Return a function that fills in one sentence of a language."""
    sentences = tomllib.loads((files("stockpot.reporting") / "texts" / f"{language}.toml").read_text("utf-8"))

    def say(key: str, **values: object) -> str:
        section, name = key.split(".")
        return str(sentences[section][name]).format(**values)

    return say


def read_curves(run: Run, say: Say) -> str:
    """Say in words what the loss curves show."""
    last = run.history[-1]
    best = min(run.history, key=lambda epoch: epoch.validation_loss)
    gap = say(
        "training.gap",
        epochs=len(run.history),
        training=f"{last.training_loss:.3f}",
        validation=f"{last.validation_loss:.3f}",
    )
    if last.validation_loss > 1.01 * best.validation_loss:
        key = "training.turn_middle"
    elif len(run.history) > 1 and run.history[-2].validation_loss > 1.005 * last.validation_loss:
        key = "training.turn_falling"
    else:
        key = "training.turn_end"
    lowest, final = f"{best.validation_loss:.3f}", f"{last.validation_loss:.3f}"
    return f"{gap} {say(key, best=best.number, lowest=lowest, last=final)}"


def read_training(run: Run, before: Run | None, model: ModelFile, project: str, say: Say) -> str:
    """Say what learned from what, in which way."""
    recipe, audit = run.recipe, run.audit
    channels, height, width = run.maps
    tenth = before is not None and math.isclose(recipe["learning_rate"], before.recipe["learning_rate"] / 10)
    views = recipe["views"]
    origin = "other" if not run.started_from else "run" if recipe["head"] == "keep" else "head"
    return say(
        f"training.how_{kind(run)}",
        size=recipe["image_size"],
        classes=len(model.class_names),
        channels=channels,
        height=height,
        width=width,
        attribution=model.attribution,
        block=recipe["trainable"],
        trained=f"{audit.trained_parameters:,}",
        all=f"{audit.trained_parameters + audit.frozen_parameters:,}",
        origin=say(f"training.origin_{origin}", start=run.started_from or recipe["start"]),
        batch_norm=say(
            f"training.batch_norm_{'frozen' if recipe['trainable'] == 'head' else recipe['batch_norm']}"
        ),
        varied=say(f"training.varied_{recipe['augment']}"),
        views=say("training.view") if views == 1 else say("training.views", count=views),
        rate=say(
            f"training.rate_{'rises' if recipe['warmup'] else 'falls'}",
            rate=f"{recipe['learning_rate']:g}",
            share=f"{recipe['warmup']:.0%}",
        ),
        tenth=say("training.tenth") if tenth else "",
        project=shlex.quote(project),
    )


def read_summary(run: Run, say: Say) -> str:
    """Say how good a run is, and what to think of the figure."""
    evaluation = run.evaluation
    sentences = [
        say(
            "training.summary",
            accuracy=percent(evaluation.accuracy),
            n=evaluation.n,
            low=percent(evaluation.interval[0]),
            high=percent(evaluation.interval[1]),
            loss=f"{evaluation.loss:.3f}",
            epoch=run.chosen_epoch,
        )
    ]
    if run.chosen:
        sentences.append(say("training.chosen"))
    if run.interrupted:
        sentences.append(say("training.interrupted", done=len(run.history), epochs=run.recipe["epochs"]))
    return " ".join(sentences)


def read_learning_curve(curve: LearningCurve, say: Say) -> str:
    """Say whether more photos would help."""
    answer = say(
        f"comparison.more_{curve.answer}",
        before=curve.photos[-3],
        all=curve.photos[-1],
        gain=f"{100 * curve.gain:+.1f}",
        low=f"{100 * curve.gain_interval[0]:+.1f}",
        high=f"{100 * curve.gain_interval[1]:+.1f}",
    )
    return f"{answer} {say('comparison.more_note', n=curve.n)}"


def read_test(test: McNemar | None, say: Say) -> str:
    """Say what a run's test against another found."""
    if test is None:
        return ""
    p = (f"{test.p:.3f}" if test.p >= 0.001 else f"{test.p:.0e}") + "*" * test.chosen
    found = say("comparison.test", against=test.against, gained=test.gained, lost=test.lost, p=p)
    if test.significant:
        return found
    if test.smallest is None:
        return f"{found}; {say('comparison.too_few')}"
    points = f"{math.ceil(1000 * test.smallest) / 10:.1f}"
    return f"{found}; {say('comparison.not_significant', points=points)}"


def read_remarks(comparison: Comparison, say: Say) -> list[str]:
    """Return what must be said beside the table, a sentence each."""

    def spread(key: str, run: str, found: Resampled) -> str:
        low, high = map(percent, found.interval or (0.0, 0.0))
        figures = {
            "mean": percent(found.mean),
            "deviation": f"{100 * found.deviation:.1f}",
            "low": low,
            "high": high,
        }
        return say(f"comparison.{key}", run=run, count=found.count, **figures)

    rows = comparison.rows
    remarks = [say("comparison.chosen")] if any(row.chosen for row in rows) else []
    remarks += [say("comparison.interrupted", run=row.name) for row in rows if row.interrupted]
    remarks += [spread("seeds", row.name, row.seeds) for row in rows if row.seeds]
    remarks += [spread("folds", comparison.probe, comparison.folds)] if comparison.folds else []
    if comparison.unequal:
        (few, least), (many, most) = comparison.unequal
        lowest = (
            say(
                "comparison.recall",
                run=row.name,
                share=percent(row.lowest_recall[1]),
                label=row.lowest_recall[0],
            )
            for row in rows
        )
        counts = {"few": few, "least": least, "many": many, "most": most}
        remarks.append(say("comparison.unequal", recalls=", ".join(lowest), **counts))
    return remarks + [say("comparison.stale", run=name) for name in comparison.stale]


def kind(run: Run) -> str:
    """Return which texts a run has: scratch, probe, tail or tuned."""
    if run.kind == "fine-tune":
        return "tuned" if run.recipe["trainable"] == "all" else "tail"
    return "scratch" if run.kind == "from-scratch" else "probe"


def percent(share: float) -> str:
    """Return a share as a figure that no line break parts from its sign."""
    return f"{share:.1%}".replace("%", "\u00a0%")


def read_audit(run: Run, say: Say) -> str:
    """Say whether exactly what was to learn has changed."""
    audit = run.audit
    if not audit.passed:
        return say("training.audit_failed", **asdict(audit))
    passed = say(
        "training.audit_scratch" if audit.batch_norm == "training" else "training.audit_passed",
        frozen=f"{audit.frozen_parameters:,}",
        trained=f"{audit.trained_parameters:,}",
        batch_norms=audit.batch_norms,
    )
    whitening = audit.batch_norm == "training" and audit.frozen_parameters > 0
    return f"{passed} {say('training.audit_whitening')}" if whitening else passed


def read_checks(run: Run, say: Say) -> str:
    """Say how far apart the ways to compute the same thing are."""
    checks = run.checks
    return say(
        "training.checks",
        photos=min(CHECKED_PHOTOS, run.evaluation.n),
        cached=f"{checks.cached_features:.1e}",
        reloaded=f"{checks.reloaded_logits:.1e}",
        maps=f"{checks.reloaded_maps:.1e}",
        identity=f"{checks.map_identity:.1e}",
    )


def read_confusion(run: Run, say: Say) -> str:
    """Name the two classes that are mixed up most often."""
    names = [figures.name for figures in run.evaluation.per_class]
    pairs = [
        (count, names[i], names[j])
        for i, row in enumerate(run.evaluation.confusion)
        for j, count in enumerate(row)
        if i != j
    ]
    count, truth, predicted = max(pairs)
    if not count:
        return say("evaluation.no_mistakes")
    return say("evaluation.confused", count=count, truth=truth, predicted=predicted)


def read_seconds(run: Run, say: Say) -> str:
    """Say how long each stage took."""
    return say(
        "training.seconds", parts=", ".join(f"{stage} {value:.1f} s" for stage, value in run.seconds.items())
    )
