"""Review: photos with what speaks against them, and a live head that follows every decision."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from stockpot.curation.review import Effect, Review, Reviewed
from stockpot.errors import WrongUse
from stockpot.web.desk import Desk, shown
from stockpot.web.pictures import jpeg
from stockpot.web.worker import Work

SIDE = 160  # pixels of a thumbnail's long side


class Decision(BaseModel):
    """Where a photo goes."""

    key: str
    label: str = ""  # a class; nothing: set aside


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter(prefix="/api/review")

    @router.get("")
    def review() -> dict[str, Any]:
        with desk.lock:
            if desk.review and not desk.review.changed:
                return _state(desk.review)
        _open(desk)
        return {"waiting": "review"}

    @router.post("/decisions")
    def decide(decision: Decision) -> dict[str, Any]:
        desk.worker.check_free()
        with desk.lock:
            review = desk.opened()
            return _changes(review, review.decide(decision.key, decision.label))

    @router.post("/undo")
    def undo() -> dict[str, Any]:
        desk.worker.check_free()
        with desk.lock:
            review = desk.opened()
            effect = review.undo()
            return _state(review) | _changes(review, effect)

    @router.get("/photos/{key}")
    def photo(key: str, side: int = SIDE) -> Response:
        with desk.lock:
            one = desk.opened().photos.get(key)
        if one is None:
            raise WrongUse(f"There is no photo {key!r}: open the page again.")
        return jpeg(one.photo.path, side, lasting=True)

    return router


def _open(desk: Desk) -> None:
    """Look through the photos in the background; features of new ones are computed."""

    def do(work: Work) -> dict[str, Any]:
        opened = Review(desk.project.folder, work.tell, desk.review)
        with desk.lock:
            desk.review = opened
        return {}

    if not desk.worker.doing("review"):
        desk.worker.start("review", "Looking through the photos", do)


def _state(review: Review) -> dict[str, Any]:
    """Return all photos that do not lie aside, and what the live head says."""
    photos = [_row(one) for one in review.photos.values() if not one.aside]
    return {"photos": photos} | _changes(review, review.effect)


def _row(one: Reviewed) -> dict[str, Any]:
    reasons = [{"rule": finding.rule, "reason": finding.reason} for finding in one.findings]
    suggested = next((finding.suggested for finding in one.findings if finding.suggested), "")
    strength = max((finding.strength for finding in one.findings), default=0.0)
    return {
        "key": one.key,
        "name": shown(one.photo.path.name),
        "label": one.photo.label,
        "reasons": reasons,
        "suggested": suggested,
        "strength": strength,
    }


def _head(review: Review) -> dict[str, Any]:
    """Return what the live head says now: accuracy, confusion, and how suspicious each photo is."""
    right = review.last
    return {
        "classes": review.class_names,
        "accuracy": sum(right.values()) / max(1, len(right)),
        "n": len(right),
        "confusion": review.confusion().tolist(),
        "suspicion": review.suspicion(),
    }


def _changes(review: Review, effect: Effect | None) -> dict[str, Any]:
    """Return what the head says, and what decisions did to it, where there were some."""
    return _head(review) | {"effect": asdict(effect) if effect else None}
