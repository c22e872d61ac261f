"""Try it: a photo from anywhere, what the best model says of it, why, and what it resembles."""

import itertools
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from stockpot.errors import UnreadablePhoto
from stockpot.explanation.explanation import explain
from stockpot.explanation.neighbors import nearest_training_photos
from stockpot.photos.splits import look_at_split
from stockpot.web.desk import Desk
from stockpot.web.maps import EXPLAINED_KEPT, SIDE, keep, of_tried, told
from stockpot.web.pictures import jpeg, png


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter(prefix="/api/try")
    numbers = itertools.count(1)

    @router.post("")
    async def look(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(_look, desk, next(numbers), await request.body())

    @router.get("/{number}/photo")
    def photo(number: str) -> Response:
        return jpeg(of_tried(desk, number).photo, SIDE)

    @router.get("/{number}/map")
    def of_class(number: str, of: str, rather_than: str | None = None) -> Response:
        return png(of_tried(desk, number).overlay(of, None, SIDE, rather_than))

    @router.get("/{number}/nearest")
    def nearest(number: str) -> list[dict[str, Any]]:
        one = of_tried(desk, number)
        split = look_at_split(desk.project.folder)
        found = nearest_training_photos(desk.project, split, one)
        return [
            {"label": near.photo.label, "name": near.photo.path.name, "cosine": near.cosine} for near in found
        ]

    return router


def _look(desk: Desk, number: int, data: bytes) -> dict[str, Any]:
    """Return what the project's best model says of a photo."""
    path = desk.uploads / f"{number}"
    path.write_bytes(data)
    (desk.uploads / f"{number - EXPLAINED_KEPT}").unlink(missing_ok=True)
    with desk.lock:
        try:
            one = explain(desk.predictor(), path)
        except UnreadablePhoto as error:
            raise UnreadablePhoto(str(error).replace(f"{path} ", "This file ")) from None
        keep(desk, f"tried/{number}", one)
    return told(one) | {"number": number, "run": one.model.path.parent.name}
