"""Results: runs side by side, the photos behind every cell, mistakes, maps, and a person's blind look."""

from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from stockpot import project as disk
from stockpot.errors import ProjectError, WrongUse
from stockpot.explanation.blind import answer, count_answers, read_answers
from stockpot.explanation.explanation import Explanation, shared_scale
from stockpot.explanation.selection import Selection, explain_run
from stockpot.learning.comparison import Comparison, Predicted, compare, describe, read_predictions
from stockpot.learning.runs import Run, best_run, read_runs
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split, look_at_split
from stockpot.reporting.charts import accuracy_chart, photos_curve, run_curves
from stockpot.reporting.readings import read_learning_curve
from stockpot.reporting.texts import texts
from stockpot.web.desk import Desk
from stockpot.web.maps import told
from stockpot.web.worker import Work


@dataclass(frozen=True)
class Results:
    """What the page shows of one run, and of all."""

    run: Run
    runs: tuple[Run, ...]  # on the present photos, in the order of the comparison
    split: Split
    comparison: Comparison
    selection: Selection
    predicted: dict[str, Predicted]  # by sha256


class Answer(BaseModel):
    """What a person saw in a photo."""

    run: str
    sha256: str
    label: str  # a class; nothing: cannot tell


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter(prefix="/api/results")

    @router.get("")
    def results(run: str = "") -> dict[str, Any]:
        found = _results(desk, run)
        return _told(desk.project, found) if found else {"waiting": True}

    @router.post("/blind")
    def blind(seen: Answer) -> dict[str, Any]:
        found = _results(desk, seen.run)
        if found is None or seen.sha256 not in {one.photo.sha256 for one in found.selection.mistakes}:
            raise WrongUse("The photos or the run have changed: load the page again.")
        answer(desk.project, seen.sha256, seen.label, found.split.class_names)
        return _blind(desk.project, found)

    return router


def _results(desk: Desk, name: str) -> Results | None:
    """Return what is known of a run, or None while it is being gathered."""
    split = look_at_split(desk.project.folder)
    current = [run for run in read_runs(desk.project) if run.split_fingerprint == split.fingerprint]
    chosen = [run for run in current if run.name == name] if name else current
    if not chosen:
        which = f"no run {name!r} on the present photos" if name else "no run on the present photos yet"
        raise ProjectError(f"There is {which}: train one.")
    run = best_run(chosen)
    state = (run.name, split.fingerprint, *((one.name, one.evaluation.loss) for one in current))

    def gather(work: Work) -> Results:
        compared = compare(desk.project.folder, work.tell)
        by_name = {one.name: one for one in current}
        ordered = tuple(by_name[row.name] for row in compared.rows)
        selection = explain_run(desk.project, run, split, work.tell)
        return Results(run, ordered, split, compared, selection, read_predictions(run))

    return desk.made("results", f"Looking at {run.name}", state, gather)


def _told(project: disk.Project, found: Results) -> dict[str, Any]:
    comparison, say = found.comparison, texts("en")
    run, evaluation = found.run, found.run.evaluation
    mistakes = found.selection.mistakes
    shown = [*found.selection.correct, *(one.explanation for one in mistakes)]
    highest = max(epoch.validation_loss for one in found.runs for epoch in one.history)
    return {
        "run": run.name,
        "cells": run.maps[1],
        "classes": found.split.class_names,
        "rows": [asdict(row) | {"against": describe(row.mcnemar)} for row in comparison.rows],
        "majority": comparison.majority,
        "remarks": comparison.remarks,
        "charts": {
            "accuracy": accuracy_chart(comparison.rows, say),
            "curves": run_curves(found.runs, "loss", say, highest),
            "more": photos_curve(comparison.curve, say) if comparison.curve else None,
        },
        "more": read_learning_curve(comparison.curve, say) if comparison.curve else "",
        "accuracy": evaluation.accuracy,
        "interval": evaluation.interval,
        "n": evaluation.n,
        "chosen": run.chosen,
        "confusion": evaluation.confusion,
        "photos": [_seen(photo, found) for photo in found.split.validation],
        "scale": shared_scale(shown) if shown else 1.0,
        "correct": [_explained(one) for one in found.selection.correct],
        "mistakes": [
            _explained(one.explanation)
            | {"sha256": one.photo.sha256, "nearest": [_file(one.like_predicted), _file(one.like_truth)]}
            for one in mistakes
        ],
        "blind": _blind(project, found),
    }


def _blind(project: disk.Project, found: Results) -> dict[str, Any]:
    answers = read_answers(project)
    counted = count_answers(answers, found.selection.mistakes)
    return asdict(counted) | {
        "answers": {one.photo.sha256: answers.get(one.photo.sha256) for one in found.selection.mistakes}
    }


def _seen(photo: Photo, found: Results) -> dict[str, Any]:
    said = found.predicted[photo.sha256]
    return {**_file(photo), "predicted": said.label, "probability": said.probability}


def _explained(one: Explanation) -> dict[str, Any]:
    return {"label": one.truth, "name": one.photo.name, "predicted": one.predicted} | told(one)


def _file(photo: Photo) -> dict[str, str]:
    return {"label": photo.label, "name": photo.path.name}
