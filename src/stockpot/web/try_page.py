"""Try it: a photo from anywhere, what the best model says of it, why, and what it resembles."""

import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from stockpot.errors import UnreadablePhoto, WrongUse
from stockpot.explanation.explanation import Explanation
from stockpot.explanation.neighbors import nearest_training_photos
from stockpot.photos.splits import look_at_split
from stockpot.web.desk import Desk, address_of, remember, shown
from stockpot.web.pictures import SIDE, jpeg, png
from stockpot.web.results_page import told


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter(prefix="/api/try")

    @router.post("")
    async def look(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(_look, desk, await request.body())

    @router.get("/{number}/photo")
    def photo(number: str) -> Response:
        return jpeg(_tried(desk, number).photo, SIDE)

    @router.get("/{number}/map")
    def map_of(number: str, of: str, rather_than: str | None = None) -> Response:
        return png(_tried(desk, number).overlay(of, None, SIDE, rather_than))

    @router.get("/{number}/nearest")
    def nearest(number: str) -> list[dict[str, Any]]:
        split = look_at_split(desk.project.folder)
        found = nearest_training_photos(desk.project, split, _tried(desk, number))
        return [
            {
                "photo": address_of(near.photo.path),
                "label": near.photo.label,
                "name": shown(near.photo.path.name),
                "cosine": near.cosine,
            }
            for near in found
        ]

    return router


def _look(desk: Desk, data: bytes) -> dict[str, Any]:
    """Return what the project's best model says of a photo."""
    number = secrets.token_hex(8)  # no other answer is kept under its address in a browser
    path = desk.uploads / number
    path.write_bytes(data)
    try:
        one = desk.explain(path)
    except UnreadablePhoto as error:
        path.unlink()
        raise UnreadablePhoto(str(error).replace(f"{path} ", "This file ")) from None
    before = set(desk.tried)
    remember(desk.tried, number, one)
    for old in before - set(desk.tried):
        (desk.uploads / old).unlink(missing_ok=True)
    run = desk.run(one.model.path.parent.name)
    stale = run.split_fingerprint != look_at_split(desk.project.folder).fingerprint
    return told(one) | {"number": number, "run": run.name, "stale": stale}


def _tried(desk: Desk, number: str) -> Explanation:
    one = desk.tried.get(number)
    if one is None:
        raise WrongUse("That photo was tried too long ago: try it again.")
    return one
