"""A model behind HTTP: photos in, labels, probabilities and maps out; for programs, on this computer or others.

Nothing that changes is shared between requests but the counters: model and engine are read only, every photo has
its own arrays, nothing is written to disk and nothing is kept.
"""

import asyncio
import io
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from stockpot import __version__
from stockpot.errors import UnreadablePhoto, WrongUse
from stockpot.learning.models import Place, load_model
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import available_threads
from stockpot.model.model_file import ModelFile
from stockpot.model.overlay import common_scale, paint
from stockpot.model.prediction import Predictor
from stockpot.photos.pixels import decode
from stockpot.photos.preprocessing import Pixels, prepare
from stockpot.progress import Progress, silent
from stockpot.publishing.batching import Answer, Batcher
from stockpot.publishing.bodies import MANY_PHOTOS, Room, Sent, photos_in
from stockpot.publishing.listening import LOCAL, listen
from stockpot.publishing.meters import CONTENT_TYPE, Meters

PORT = 8000
MOST_PIXELS = 50_000_000  # of a photo: what phones make, not what bombs hold
SHOWN_PIXELS = 640  # long side of a map
CONNECTIONS = 256  # at once
MOST_IN_HAND = 512  # photos, of all requests together
_ROOM = 16  # largest requests whose bodies may be in memory at once
_PATHS = ("/predict", "/explain", "/model", "/healthz", "/metrics", "/openapi.json")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Said(BaseModel):
    """What the model says of one photo; where it cannot be read, `error` alone."""

    name: str = Field(default="", description="The file's name, as it was sent.")
    label: str | None = Field(default=None, description="The likeliest class, also of what is none of them.")
    probability: float | None = Field(default=None, description="Of the label, calibrated.")
    none_of_these: bool | None = Field(
        default=None, description="It resembles no class; null: the model cannot say."
    )
    probabilities: dict[str, float] | None = Field(default=None, description="Of every class, calibrated.")
    error: str | None = Field(default=None, description="Why the file cannot be read, and what to do.")


class Answers(BaseModel):
    """What the model says of the photos of a request, in their order."""

    predictions: list[Said]


class Problem(BaseModel):
    """Why a request was not answered, and what to do."""

    error: str


@dataclass(frozen=True)
class Limits:
    """What a request may cost."""

    megabytes: float = 20.0  # of its body
    seconds: float = 30.0  # from its first byte to its answer


def serve(
    place: Place,
    host: str = LOCAL,
    port: int = PORT,
    limits: Limits = Limits(),
    device: str = "auto",
    threads: int | None = None,
    ready: Callable[[str], None] = lambda address: None,
    progress: Progress = silent,
) -> None:
    """Answer HTTP requests with a model until Ctrl-C or SIGTERM; what is under way then is answered.

    Args:
        place: a run, its folder, a model file, a project, or what `load_model` returned.
        host: address to listen on; `0.0.0.0` for other computers too.
        port: 0 takes a free one.
        limits: of a request.
        device: what `load_model` takes.
        threads: what `load_model` takes.
        ready: called with the address when it answers.
        progress: told if the backbone has to be exported first.

    Raises:
        ModelError: there is no model, or it is damaged.
        WrongUse: the address or port is taken or none, or a limit is none.
    """
    if not (limits.megabytes > 0 and limits.seconds > 0):
        raise WrongUse(f"{limits} are no limits: give more than 0 megabytes and seconds.")
    predictor = load_model(place, progress, device, threads)
    size = predictor.model.preprocessing.image_size
    predictor.engine.run(np.zeros((1, size, size, 3), np.uint8))  # the first takes longest
    app = create_app(predictor, limits, _is_local(host))
    listen(app, host, port, ready, limits.seconds, CONNECTIONS)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def create_app(predictor: Predictor, limits: Limits = Limits(), local: bool = True) -> "Watched":
    """Return the service of a model as an ASGI application.

    Args:
        predictor: the model, ready to run.
        limits: of a request.
        local: that it answers to names of this computer alone.
    """
    desk = _Desk(predictor, limits)

    @asynccontextmanager
    async def working(_: FastAPI) -> AsyncIterator[None]:
        batches = asyncio.create_task(desk.batcher.work())
        yield
        batches.cancel()

    app = FastAPI(
        title="stockpot",
        version=__version__,
        description=f"Tells photos of {len(predictor.model.class_names)} classes apart: "
        f"{', '.join(predictor.model.class_names)}.",
        docs_url=None,  # they would fetch scripts from elsewhere
        redoc_url=None,
        lifespan=working,
    )
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOCAL, "localhost"])
    app.exception_handler(HTTPException)(_say)
    app.exception_handler(Exception)(_say_failed)
    problems: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem, "description": text}
        for code, text in (
            (400, "No photo in it, or a broken form."),
            (408, "It came too slowly."),
            (413, "It is too large."),
            (422, "Nothing in it is a photo that can be read."),
            (503, "Too much to do: try again."),
        )
    }
    sent = {
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "photo": {
                                "type": "array",
                                "maxItems": MANY_PHOTOS,
                                "items": {"type": "string", "format": "binary"},
                            }
                        },
                    }
                },
            },
        }
    }

    @app.post("/predict", response_model_exclude_none=True, responses=problems, openapi_extra=sent)
    async def predict(request: Request) -> Answers:
        """Say what is in one photo (the body) or in several (a form)."""
        async with desk.photos(request) as files:
            said = await asyncio.gather(*(desk.predict(file) for file in files))
        if all(one.error for one in said):
            raise HTTPException(422, said[0].error or "")
        return Answers(predictions=said)

    @app.post(
        "/explain",
        response_class=Response,
        responses=problems | {200: {"content": {"image/png": {}}, "description": "The map on the photo."}},
        openapi_extra=sent,
    )
    async def explain(
        request: Request,
        label: Annotated[
            str | None, Query(description="Class whose map is painted; the predicted one by default.")
        ] = None,
    ) -> Response:
        """Paint the class activation map of one photo: orange speaks for the class, purple against it."""
        if label is not None and label not in predictor.model.class_names:
            raise HTTPException(
                400, f"There is no class {label!r}: {', '.join(predictor.model.class_names)}."
            )
        async with desk.photos(request) as files:
            if len(files) > 1:
                raise HTTPException(400, f"One photo at a time is explained; {len(files)} were sent.")
            return await desk.explain(files[0], label)

    @app.get("/model")
    def model() -> dict[str, Any]:
        """Say what is served: classes, figures, preprocessing, calibration, provenance, versions."""
        return describe(predictor.model)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Say that it answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(desk.meters.page(), media_type=CONTENT_TYPE)

    return Watched(app, limits.seconds, desk.meters)


def describe(model: ModelFile) -> dict[str, Any]:
    """Return what a model file says, as JSON holds it."""
    rejection = model.rejection
    return {
        "class_names": model.class_names,
        "backbone": model.backbone,
        "weights": model.fingerprint,
        "attribution": model.attribution,
        "preprocessing": asdict(model.preprocessing),
        "metrics": model.metrics,
        "calibration": asdict(model.calibration),
        "rejection": rejection
        and {name: getattr(rejection, name) for name in ("threshold", "rate", "n", "held_out")},
        "recipe": model.recipe,
        "versions": model.versions,
    }


async def _say(_: Request, error: Exception) -> JSONResponse:
    """Answer an error as its one line."""
    assert isinstance(error, HTTPException)
    known = {404: f"There is no such page; there are {', '.join(_PATHS)}.", 405: "Photos are sent by POST."}
    headers = {
        **(error.headers or {}),
        **({"Connection": "close"} if error.status_code in (408, 413) else {}),
    }
    return JSONResponse({"error": known.get(error.status_code, error.detail)}, error.status_code, headers)


async def _say_failed(_: Request, __: Exception) -> JSONResponse:
    """Answer that it is not the client's fault."""
    return JSONResponse({"error": "Something failed here: the service's log says what."}, 500)


class _Desk:
    """Where a request's photos become answers."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.model = predictor, predictor.model
        self.meters = Meters(predictor.model)
        self.batcher = Batcher(predictor.engine, self.meters.batches.observe)
        largest = round(limits.megabytes * 2**20)
        self.room = Room(largest, _ROOM * largest)
        self.threads = ThreadPoolExecutor(max(2, available_threads()))
        self.in_hand = 0  # photos that are decoded or wait

    @asynccontextmanager
    async def photos(self, request: Request) -> AsyncIterator[list[Sent]]:
        """Yield the files in a request, and give their room back."""
        body = await self.room.read(request)
        files: list[Sent] = []
        try:
            files = await photos_in(request, body)
            self.in_hand += len(files)
            if self.in_hand > MOST_IN_HAND:
                raise HTTPException(503, "Too many photos are waiting: try again.", {"Retry-After": "1"})
            yield files
        finally:
            self.in_hand -= len(files)
            self.room.leave(len(body))

    async def predict(self, file: Sent) -> Said:
        """Return what the model says of a file."""
        try:
            features, _ = await self._look(file)
        except UnreadablePhoto as error:
            self.meters.photos.labels("unreadable").inc()
            return Said(name=file.name, error=_remedied(error))
        return self._say(file.name, features)

    async def explain(self, file: Sent, label: str | None) -> Response:
        """Return the map of a class on the photo, as PNG."""
        try:
            features, maps = await self._look(file)
        except UnreadablePhoto as error:
            self.meters.photos.labels("unreadable").inc()
            raise HTTPException(422, _remedied(error)) from None
        said = self._say(file.name, features)
        number = self.model.class_names.index(label or said.label or "")
        picture = await self._aside(_painted, self.model, file.data, maps, number)
        told = json.dumps(said.model_dump(include={"label", "probability", "none_of_these"}))  # ASCII
        return Response(picture, media_type="image/png", headers={"X-Prediction": told})

    async def _look(self, file: Sent) -> Answer:
        """Return features and maps of a file."""
        return await self.batcher.run(await self._aside(_prepared, self.model, file.data))

    async def _aside(self, do: Callable[..., Any], *values: Any) -> Any:
        """Return what a function returns, computed on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, do, *values)

    def _say(self, name: str, features: NDArray[np.float32]) -> Said:
        said = self.predictor.judge(Path(name), features)
        self.meters.photos.labels("none of these" if said.none_of_these else said.label).inc()
        return Said(
            name=name,
            label=said.label,
            probability=said.probability,
            none_of_these=said.none_of_these,
            probabilities=dict(zip(self.model.class_names, said.probabilities, strict=True)),
        )


def _prepared(model: ModelFile, data: bytes) -> Pixels:
    """Return a photo as the network receives it, as `predict` does."""
    return prepare(decode(data, 2 * model.preprocessing.image_size, MOST_PIXELS), model.preprocessing)


def _painted(model: ModelFile, data: bytes, maps: NDArray[np.float32], number: int) -> bytes:
    """Return a class's map on its photo, as PNG."""
    photo = decode(data, SHOWN_PIXELS, MOST_PIXELS)
    photo.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), Image.Resampling.LANCZOS)
    cams = activation_maps(maps, model.weight)
    box = model.preprocessing.box(photo.width, photo.height)
    out = io.BytesIO()
    paint(photo, cams[number], common_scale(list(cams)), box).save(out, "PNG")
    return out.getvalue()


def _remedied(error: UnreadablePhoto) -> str:
    return f"The file {error}: send a photo's bytes as the body, or files as multipart/form-data."


class Watched:
    """An application whose requests are counted, timed, and ended when they take too long."""

    def __init__(self, app: FastAPI, seconds: float, meters: Meters) -> None:
        self.app, self.seconds, self.meters = app, seconds, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in _PATHS else "other"
        started, status, arrived = perf_counter(), 0, False

        async def hear() -> Message:
            nonlocal arrived
            message = await receive()
            arrived = arrived or not message.get("more_body", False)
            return message

        async def tell(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with self.meters.in_work.track_inprogress():
                async with asyncio.timeout(self.seconds):
                    await self.app(scope, hear, tell)
        except TimeoutError:
            if not status:  # else whoever asked does not read the answer: the connection is closed
                code, what = (503, "The answer took") if arrived else (408, "The request took")
                text = f"{what} more than {self.seconds:g} seconds: try again, or send less at once."
                await _say_late(code, text, scope, receive, tell)
        except ClientDisconnect:
            status = 499  # as others count those who have gone
        finally:
            self.meters.requests.labels(path, str(status or 500)).inc()
            self.meters.seconds.labels(path).observe(perf_counter() - started)


async def _say_late(code: int, text: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"error": text}, code, {"Connection": "close"})(scope, receive, send)
