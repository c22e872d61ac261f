"""Maps of a photo of the project, or of one that is being tried: of any class, against any other."""

from typing import Any

from fastapi import APIRouter, Response

from stockpot.errors import WrongUse
from stockpot.explanation.explanation import Explanation, explain
from stockpot.web.desk import Desk
from stockpot.web.pictures import jpeg, png

EXPLAINED_KEPT = 16  # each has the maps of all channels
SIDE = 640  # pixels of a long side, photo and map alike
CHANNELS = 16


def routes(desk: Desk) -> APIRouter:
    """Return what pages ask for that show maps."""
    router = APIRouter()

    @router.get("/photos/{label}/{name}")
    def photo(label: str, name: str, side: int = SIDE) -> Response:
        return jpeg(desk.photo(label, name), side)

    @router.get("/maps/{run}/{label}/{name}")
    def of_run(
        run: str, label: str, name: str, of: str, rather_than: str | None = None, scale: float | None = None
    ) -> Response:
        return png(_of_run(desk, run, label, name).overlay(of, scale, SIDE, rather_than))

    @router.get("/channels/{run}/{label}/{name}")
    def channels(run: str, label: str, name: str, of: str) -> Response:
        return png(_of_run(desk, run, label, name).channels(of).picture(CHANNELS))

    @router.get("/api/explained/{run}/{label}/{name}")
    def explained(run: str, label: str, name: str) -> dict[str, Any]:
        return told(_of_run(desk, run, label, name))

    return router


def told(one: Explanation) -> dict[str, Any]:
    """Return what a model says of a photo, as pages are told."""
    json = one.to_json()
    return {"predicted": json["label"], "probabilities": json["probabilities"], "logits": json["logits"]}


def keep(desk: Desk, key: str, one: Explanation) -> None:
    """Keep an explanation for what is asked of it next."""
    while len(desk.explained) >= EXPLAINED_KEPT:
        desk.explained.pop(next(iter(desk.explained)))
    desk.explained[key] = one


def _of_run(desk: Desk, run: str, label: str, name: str) -> Explanation:
    """Return the explanation of a photo of the project."""
    path = desk.photo(label, name)
    with desk.lock:
        predictor = desk.predictor(run)
        state = path.stat().st_mtime_ns, predictor.model.path.stat().st_mtime_ns
        key = f"{run}/{label}/{name}/{state}"
        if key not in desk.explained:
            keep(desk, key, explain(predictor, path))
        return desk.explained[key]


def of_tried(desk: Desk, number: str) -> Explanation:
    """Return the explanation of a photo that is being tried.

    Raises:
        WrongUse: it was tried too long ago.
    """
    if f"tried/{number}" not in desk.explained:
        raise WrongUse("That photo was tried too long ago: try it again.")
    return desk.explained[f"tried/{number}"]
