"""The web app: a project's pages on this computer. It holds nothing that the project folder does not."""

import asyncio
import base64
import io
import json
import os
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from stockpot import project as disk
from stockpot.curation.review import Effect, Review, Reviewed
from stockpot.errors import StockpotError, UnreadablePhoto, WrongUse
from stockpot.explanation.explanation import explain
from stockpot.learning.models import load_model
from stockpot.learning.runs import find_model
from stockpot.model.prediction import Predictor
from stockpot.photos.pixels import thumbnail
from stockpot.web.guard import guard

PORT = 8765
SIDE = 160  # pixels of a thumbnail's long side
_STATIC = Path(str(files("stockpot.web") / "static"))


class Decision(BaseModel):
    """Where a photo goes."""

    key: str
    label: str = ""  # a class; nothing: set aside


class Desk:
    """The one review of a project, opened when the page first asks, and the model that photos are tried on."""

    def __init__(self, project: disk.Project) -> None:
        self.project = project
        self.lock = threading.Lock()  # of the review and the model
        self.told: dict[str, Any] = {"stage": "", "done": 0, "total": 0}
        self._review: Review | None = None
        self._predictor: Predictor | None = None
        self._model: tuple[Path, int] | None = None  # file, and when it was written

    def tell(self, stage: str, done: int, total: int) -> None:
        """Note how far work is, for whoever listens."""
        self.told = {"stage": stage, "done": done, "total": total}

    @property
    def review(self) -> Review:
        """The review; photos are looked through when it is first asked for, and when others changed them."""
        if self._review is None or self._review.changed:
            self._review = Review(self.project.folder, self.tell)
        return self._review

    def opened(self) -> Review:
        """Return the review that a page has open; decisions are made in no other.

        Raises:
            WrongUse: the server was started anew since.
        """
        if self._review is None:
            raise WrongUse("The review is not open any more: open the page again.")
        return self._review

    @property
    def predictor(self) -> Predictor:
        """The project's best model as it is now."""
        path = find_model(self.project.folder)
        now = (path, path.stat().st_mtime_ns)
        if self._predictor is None or self._model != now:
            self._predictor, self._model = load_model(path, self.tell), now
        return self._predictor


def serve(project: Path | str, port: int = PORT, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve a project's pages on this computer until Ctrl-C.

    Args:
        project: a project folder.
        port: 0 takes a free one.
        ready: called with the address when it answers.

    Raises:
        ProjectError: no project.
        WrongUse: the port is taken or no port.
    """
    app = create_app(project)
    if not 0 <= port < 2**16:
        raise WrongUse(f"port is {port}; expected 1 to 65535, or 0 for a free one.")
    with socket.socket() as door:
        if os.name != "nt":  # else the port of a server that was just stopped is taken for a minute
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError as error:
            raise WrongUse(f"Port {port} cannot be used ({error.strerror}): give another --port.") from None
        door.listen()
        ready(f"http://127.0.0.1:{door.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        server.run(sockets=[door])


def create_app(project: Path | str) -> FastAPI:
    """Return the app of a project, to be served on this computer alone.

    Raises:
        ProjectError: no project.
    """
    desk = Desk(disk.open_project(project))
    app = FastAPI(title="stockpot", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(guard)
    app.exception_handler(StockpotError)(_say)
    app.mount("/static", StaticFiles(directory=_STATIC))

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @app.get("/api/review")
    def review() -> dict[str, Any]:
        with desk.lock:
            return _state(desk.review) | {"project": desk.project.folder.resolve().name}

    @app.post("/api/decisions")
    def decide(decision: Decision) -> dict[str, Any]:
        with desk.lock:
            review = desk.opened()
            return _changes(review, review.decide(decision.key, decision.label))

    @app.post("/api/undo")
    def undo() -> dict[str, Any]:
        with desk.lock:
            review = desk.opened()
            effect = review.undo()
            return _state(review) | _changes(review, effect)

    @app.get("/photos/{key}")
    def photo(key: str) -> Response:
        with desk.lock:
            one = desk.review.photos.get(key)
        if one is None:
            raise WrongUse(f"There is no photo {key!r}: open the page again.")
        return Response(
            _jpeg(one), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
        )

    @app.post("/api/try")
    async def try_it(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(_try, desk, await request.body())

    @app.get("/api/progress")
    async def progress() -> StreamingResponse:
        return StreamingResponse(_listen(desk), media_type="text/event-stream")

    return app


async def _say(_: Request, error: Exception) -> JSONResponse:
    """Answer an error as its one line."""
    return JSONResponse({"error": str(error)}, 400 if getattr(error, "exit_code", 1) == 2 else 409)


async def _listen(desk: Desk) -> AsyncIterator[str]:
    """Yield how far work is, whenever that has changed."""
    last = None
    while True:
        if desk.told != last:
            last = desk.told
            yield f"data: {json.dumps(last)}\n\n"
        await asyncio.sleep(0.2)


def _state(review: Review) -> dict[str, Any]:
    """Return all photos that do not lie aside, and what the live head says."""
    photos = [_row(one) for one in review.photos.values() if not one.aside]
    return {"classes": review.class_names, "photos": photos} | _head(review)


def _row(one: Reviewed) -> dict[str, Any]:
    reasons = [{"rule": finding.rule, "reason": finding.reason} for finding in one.findings]
    suggested = next((finding.suggested for finding in one.findings if finding.suggested), "")
    strength = max((finding.strength for finding in one.findings), default=0.0)
    return {
        "key": one.key,
        "name": one.photo.path.name,
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


def _changes(review: Review, effect: Effect) -> dict[str, Any]:
    """Return what a decision did."""
    return _head(review) | {"effect": asdict(effect)}


def _jpeg(one: Reviewed) -> bytes:
    stream = io.BytesIO()
    thumbnail(one.photo.path, SIDE).save(stream, "JPEG", quality=82)
    return stream.getvalue()


def _try(desk: Desk, data: bytes) -> dict[str, Any]:
    """Return what the project's best model says of a photo, and why."""
    with desk.lock, _written(data) as path:
        try:
            why = explain(desk.predictor, path)
        except UnreadablePhoto as error:
            raise UnreadablePhoto(str(error).replace(f"{path} ", "This file ")) from None
        picture = io.BytesIO()
        why.overlay().save(picture, "PNG")
        return why.to_json() | {"path": "", "overlay": base64.b64encode(picture.getvalue()).decode()}


@contextmanager
def _written(data: bytes) -> Iterator[Path]:
    """Yield a temporary file of some bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"
        path.write_bytes(data)
        yield path
