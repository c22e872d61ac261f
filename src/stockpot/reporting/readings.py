"""Sentences of the report: the texts of a language, and what the figures of a run say in words."""

import tomllib
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files

from stockpot.learning.runs import CHECKED_PHOTOS, Run

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
        "transfer.gap",
        epochs=len(run.history),
        training=f"{last.training_loss:.3f}",
        validation=f"{last.validation_loss:.3f}",
    )
    if last.validation_loss > 1.01 * best.validation_loss:
        key = "transfer.turn_middle"
    elif len(run.history) > 1 and run.history[-2].validation_loss > 1.005 * last.validation_loss:
        key = "transfer.turn_falling"
    else:
        key = "transfer.turn_end"
    lowest, final = f"{best.validation_loss:.3f}", f"{last.validation_loss:.3f}"
    return f"{gap} {say(key, best=best.number, lowest=lowest, last=final)}"


def read_audit(run: Run, say: Say) -> str:
    """Say whether exactly what was to learn has changed."""
    audit = run.audit
    if not audit.passed:
        return say("transfer.audit_failed", **asdict(audit))
    return say(
        "transfer.audit_passed",
        frozen=f"{audit.frozen_parameters:,}",
        trained=f"{audit.trained_parameters:,}",
        batch_norms=audit.batch_norms,
    )


def read_checks(run: Run, say: Say) -> str:
    """Say how far apart the ways to compute the same thing are."""
    checks = run.checks
    return say(
        "transfer.checks",
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
        "transfer.seconds", parts=", ".join(f"{stage} {value:.1f} s" for stage, value in run.seconds.items())
    )
