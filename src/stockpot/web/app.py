"""The web app: a project's pages on this computer. It holds nothing that the project folder does not."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from stockpot.errors import StockpotError
from stockpot.publishing.listening import LOCAL, listen
from stockpot.web import collect_page, finish_page, results_page, review_page, train_page, try_page
from stockpot.web.desk import Desk, shown
from stockpot.web.guard import guard

PORT = 8765
LOOKS_SECONDS = 0.2  # between looks at the work, for every page that listens
_STATIC = Path(str(files("stockpot.web") / "static"))
_CHARTS = Path(str(files("stockpot.reporting") / "vendor"))


def serve(project: Path | str, port: int = PORT, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve a project's pages on this computer until Ctrl-C; work that is under way keeps what it has by then.

    Args:
        project: a project folder, or a place where collecting photos will make one.
        port: 0 takes a free one.
        ready: called with the address when it answers.

    Raises:
        ProjectError: the folder holds something else.
        WrongUse: the port is taken or no port.
    """
    listen(create_app(project), LOCAL, port, ready, last_seconds=1)


def create_app(project: Path | str) -> FastAPI:
    """Return the app of a project, to be served on this computer alone.

    Raises:
        ProjectError: the folder holds something else.
    """
    desk = Desk(project)

    @asynccontextmanager
    async def open_until_closed(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    app = FastAPI(
        title="stockpot", docs_url=None, redoc_url=None, openapi_url=None, lifespan=open_until_closed
    )
    app.middleware("http")(guard)
    app.exception_handler(StockpotError)(_say)
    app.exception_handler(OSError)(_say_what_the_system_says)
    app.exception_handler(RequestValidationError)(_say_what_was_sent)
    app.exception_handler(ClientDisconnect)(_say_nothing)
    app.mount("/static/charts", StaticFiles(directory=_CHARTS))
    app.mount("/static", StaticFiles(directory=_STATIC))
    for part in (collect_page, review_page, train_page, results_page, try_page, finish_page):
        app.include_router(part.routes(desk))

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @app.get("/api/work", response_class=EventSourceResponse)
    async def work() -> AsyncIterator[dict[str, Any]]:
        last: dict[str, Any] = {}
        while True:
            now = desk.worker.work.to_json()
            if now != last:
                last = now
                yield now
            await asyncio.sleep(LOOKS_SECONDS)

    @app.post("/api/stop")
    def stop() -> dict[str, Any]:
        desk.worker.stop()
        return desk.worker.work.to_json()

    return app


async def _say(_: Request, error: Exception) -> JSONResponse:
    """Answer an error as its one line."""
    return JSONResponse({"error": shown(str(error))}, 400 if getattr(error, "exit_code", 1) == 2 else 409)


async def _say_what_was_sent(_: Request, error: Exception) -> JSONResponse:
    """Answer that a request has not the shape that it must have, without saying it back: it may be no JSON."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = " ".join(map(str, first["loc"]))
    return JSONResponse({"error": shown(f"{place[:100]}: {first['msg'][:200]}; load the page again.")}, 422)


async def _say_nothing(_: Request, __: Exception) -> Response:
    """Answer nobody: the client has gone while it sent something."""
    return Response(status_code=499)


async def _say_what_the_system_says(_: Request, error: Exception) -> JSONResponse:
    """Answer that a file or folder is gone or cannot be read."""
    assert isinstance(error, OSError)
    name = Path(os.fsdecode(error.filename or "")).name
    return JSONResponse({"error": shown(f"{name}: {error.strerror}; look at the project's folder.")}, 409)
