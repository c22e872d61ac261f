"""Results: runs side by side, the photos behind every cell, mistakes, maps, and a person's blind look."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from stockpot import project as disk
from stockpot.errors import WrongUse
from stockpot.explanation.blind import answer, count_answers, read_answers
from stockpot.explanation.explanation import Explanation, shared_scale
from stockpot.learning.comparison import describe
from stockpot.photos.photo import Photo
from stockpot.reporting.charts import accuracy_chart, photos_curve, run_curves
from stockpot.reporting.readings import read_learning_curve
from stockpot.reporting.texts import texts
from stockpot.web.desk import Desk, address_of, remember, shown
from stockpot.web.pictures import SIDE, jpeg, png
from stockpot.web.results import Results, choose, gather
from stockpot.web.worker import Work

CHANNELS = 16  # of a photo, the strongest


class Answer(BaseModel):
    """What a person saw in a photo."""

    run: str
    sha256: str
    label: str  # a class; nothing: cannot tell


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter()

    @router.get("/api/results")
    def results(run: str = "") -> dict[str, Any]:
        found = _results(desk, run)
        return _told(desk.project, found) if found else {"waiting": "results"}

    @router.post("/api/results/blind")
    def blind(seen: Answer) -> dict[str, Any]:
        found = _results(desk, seen.run)
        if found is None or seen.sha256 not in {one.photo.sha256 for one in found.selection.mistakes}:
            raise WrongUse("The photos or the run have changed: load the page again.")
        answer(desk.project, seen.sha256, seen.label, found.split.class_names)
        return _blind(desk.project, found)

    @router.get("/api/explained/{run}/{photo}")
    def explained(run: str, photo: str) -> dict[str, Any]:
        return told(_explain(desk, run, photo))

    @router.get("/photos/{photo}")
    def picture(photo: str, side: int = SIDE) -> Response:
        return jpeg(desk.photo(photo), side)

    @router.get("/maps/{run}/{photo}")
    def map_of(
        run: str, photo: str, of: str, rather_than: str | None = None, scale: float | None = None
    ) -> Response:
        return png(_explain(desk, run, photo).overlay(of, scale, SIDE, rather_than))

    @router.get("/channels/{run}/{photo}")
    def channels(run: str, photo: str, of: str) -> Response:
        return png(_explain(desk, run, photo).channels(of).picture(CHANNELS))

    return router


def told(one: Explanation) -> dict[str, Any]:
    """Return what a model says of a photo, as pages are told."""
    json = one.to_json()
    names = ("none_of_these", "probabilities", "logits")
    return {"predicted": json["label"], **{name: json[name] for name in names}}


def _results(desk: Desk, name: str) -> Results | None:
    """Return what is known of a run, or None while it is being gathered."""
    choice = choose(desk.project, name)
    if found := desk.results.get(choice.state):
        return found

    def do(work: Work) -> dict[str, Any]:
        remember(desk.results, choice.state, gather(desk.project, choice, work.tell))
        return {}

    if not desk.worker.doing("results"):
        desk.worker.start("results", f"Looking at {choice.run.name}", do)
    return None


def _explain(desk: Desk, run: str, photo: str) -> Explanation:
    """Return what a run makes of a photo; of those that results show that is known already."""
    path = desk.photo(photo)
    now = desk.run(run)
    for found in list(desk.results.values()):
        if found.run == now and path in found.explained:
            return found.explained[path]
    return desk.explain(path, run)


def _told(project: disk.Project, found: Results) -> dict[str, Any]:
    comparison, say = found.comparison, texts("en")
    run, evaluation = found.run, found.run.evaluation
    mistakes = found.selection.mistakes
    highest = max(epoch.validation_loss for one in found.runs for epoch in one.history)
    return {
        "run": run.name,
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
        "scale": shared_scale(list(found.explained.values())),
        "correct": [_explained(one) for one in found.selection.correct],
        "mistakes": [
            _explained(one.explanation)
            | {
                "sha256": one.photo.sha256,
                "nearest": [_named(one.like_predicted.path), _named(one.like_truth.path)],
            }
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
    return {**_named(photo.path), "predicted": said.label, "probability": said.probability}


def _explained(one: Explanation) -> dict[str, Any]:
    return _named(one.photo) | told(one)


def _named(path: Path) -> dict[str, str]:
    """Return a photo as pages name it."""
    return {"photo": address_of(path), "label": path.parent.name, "name": shown(path.name)}
