"""Collect: from names of classes to photos that arrive while one looks, and one's own photos."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from stockpot import project as disk
from stockpot.collection.collection import ENGINES, LICENSES, Gathered, collect
from stockpot.collection.known_names import describe_known
from stockpot.collection.own_photos import bring_one
from stockpot.errors import WrongUse
from stockpot.photos.intake import read_origins
from stockpot.web.desk import Desk, address_of
from stockpot.web.worker import Work

SHOWN = 48  # photos that came last


class Search(BaseModel):
    """What is searched for."""

    classes: dict[str, list[str]]  # further queries of each class
    per_class: int = 100
    engine: str = "duckduckgo"
    license: str = "any"
    originals: bool = False


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter(prefix="/api/collect")

    @router.get("")
    def state() -> dict[str, Any]:
        rows = read_origins(desk.project)
        queries: dict[str, list[str]] = {}
        for row in rows:
            label = row["file"].rpartition("/")[0]
            asked = queries.setdefault(label, [])
            if "query" in row and row["query"] not in (label, *asked):
                asked.append(row["query"])
        last = [desk.project.photos / row["file"] for row in reversed(rows[-SHOWN:])]
        return {
            "project": desk.name,
            "classes": [
                {"label": label, "photos": count, "queries": queries.get(label, [])}
                for label, count in _counts(desk.project).items()
            ],
            "last": [
                {"photo": address_of(path), "label": path.parent.name} for path in last if path.exists()
            ],
            "engines": ENGINES,
            "licenses": LICENSES,
        }

    @router.get("/known")
    def known(name: str) -> dict[str, str]:
        return {"known": describe_known(name)}

    @router.post("")
    def search(wanted: Search) -> dict[str, Any]:
        if not wanted.classes:
            raise WrongUse("No class was given: type at least one name.")

        def do(work: Work) -> dict[str, Any]:
            found = collect(
                desk.project.folder,
                wanted.classes,
                wanted.per_class,
                wanted.engine,  # type: ignore[arg-type]
                wanted.originals,
                wanted.license,  # type: ignore[arg-type]
                progress=work.tell,
                stop=lambda: work.asked_to_stop,
            )
            return {"classes": [_told(one) for one in found]}

        return desk.worker.start("collect", "Collecting", do).to_json()

    @router.post("/photos")
    async def own(request: Request, label: str, name: str) -> dict[str, bool]:
        return {"new": await run_in_threadpool(_bring, desk, label, name, await request.body())}

    return router


def _bring(desk: Desk, label: str, name: str, data: bytes) -> bool:
    desk.worker.check_free()
    with desk.lock:  # a page sends several at once
        return bring_one(desk.project.folder, label, name, data)


def _counts(project: disk.Project) -> dict[str, int]:
    """Return how many files every class has."""
    if not project.photos.is_dir():
        return {}
    folders = [folder for folder in disk.visible(project.photos) if folder.is_dir()]
    return {folder.name: sum(file.is_file() for file in disk.visible(folder)) for folder in folders}


def _told(one: Gathered) -> dict[str, Any]:
    """Return what came of a class as the page tells it."""
    return {"label": one.label, "new": one.new, "dropped": dict(one.dropped), "stopped": one.stopped}
