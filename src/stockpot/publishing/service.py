"""A model behind HTTP: photos in, labels, probabilities and maps out; for programs, on this computer or others.

Nothing that changes is shared between requests but the counters: model and engine are read only, every photo has
its own arrays, nothing is written to disk and nothing is kept.
"""

import asyncio
import io
import ipaddress
import json
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from PIL import Image
from starlette.exceptions import HTTPException

from stockpot import __version__
from stockpot.errors import UnreadablePhoto, WrongUse
from stockpot.learning.models import Place, load_model
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import available_threads
from stockpot.model.model_file import ModelFile
from stockpot.model.overlay import common_scale, paint
from stockpot.model.prediction import Predictor
from stockpot.photos.pixels import decode, pixels_in
from stockpot.photos.preprocessing import Pixels, prepare
from stockpot.progress import Progress, silent
from stockpot.publishing.answers import PICTURE, PROBLEMS, SENT, Answers, Said
from stockpot.publishing.batching import Answer, Batcher
from stockpot.publishing.bodies import Room, Sent, photos_in
from stockpot.publishing.listening import LOCAL, listen
from stockpot.publishing.meters import CONTENT_TYPE, Meters
from stockpot.publishing.watching import PATHS, Watched

PORT = 8000
MOST_PIXELS = 50_000_000  # of a photo: what phones make, not what bombs hold
SHOWN_PIXELS = 640  # long side of a map
LARGE_PIXELS = 16_000_000
MOST_IN_HAND = 512  # photos, of all requests together
_ROOM = 16  # largest requests whose bodies may be read at once

Label = Annotated[str | None, Query(description="Class whose map is painted; the predicted one by default.")]


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
        ready: called with the address; whoever connects from then on is answered.
        progress: told if the backbone has to be exported first.

    Raises:
        ModelError: there is no model, or it is damaged.
        WrongUse: the address or port is taken or none, or a limit is none.
    """
    if not (0.01 <= limits.megabytes < math.inf and 0.1 <= limits.seconds < math.inf):
        raise WrongUse(
            f"A request may have {limits.megabytes:g} MB and {limits.seconds:g} s; expected at least 0.01 and 0.1."
        )
    predictor = load_model(place, progress, device, threads)
    size = predictor.model.preprocessing.image_size
    predictor.engine.run(np.zeros((1, size, size, 3), np.uint8))  # the first takes longest
    listen(create_app(predictor, limits, host), host, port, ready, limits.seconds)


def create_app(predictor: Predictor, limits: Limits = Limits(), host: str = LOCAL) -> Watched:
    """Return the service of a model as an ASGI application.

    Args:
        predictor: the model, ready to run.
        limits: of a request.
        host: that it listens on; on one of this computer alone it answers to names of this computer alone.
    """
    desk = _Desk(predictor, limits)

    @asynccontextmanager
    async def open_until_closed(_: FastAPI) -> AsyncIterator[None]:
        yield
        await desk.close()

    names = predictor.model.class_names
    app = FastAPI(
        title="stockpot",
        version=__version__,
        description=f"Tells photos of {len(names)} classes apart: {', '.join(names)}.",
        docs_url=None,  # they would fetch scripts from elsewhere
        redoc_url=None,
        lifespan=open_until_closed,
    )
    app.exception_handler(HTTPException)(_say)
    app.exception_handler(Exception)(_say_failed)

    @app.post("/predict", response_model_exclude_none=True, responses=PROBLEMS, openapi_extra=SENT)
    async def predict(request: Request) -> Answers:
        """Say what is in one photo (the body) or in several (a form)."""
        async with desk.photos(request) as files:
            said = await asyncio.gather(*(desk.predict(file) for file in files))
        if all(one.error for one in said):
            raise HTTPException(422, said[0].error or "")
        return Answers(predictions=said)

    @app.post("/explain", response_class=Response, responses=PROBLEMS | PICTURE, openapi_extra=SENT)
    async def explain(request: Request, label: Label = None) -> Response:
        """Paint the class activation map of one photo: orange speaks for the class, purple against it."""
        if label is not None and label not in names:
            raise HTTPException(400, f"There is no class {label!r}: {', '.join(names)}.")
        async with desk.photos(request) as files:
            if len(files) > 1:
                raise HTTPException(400, f"One photo at a time is explained; {len(files)} were sent.")
            return await desk.explain(files[0], label)

    @app.get("/model")
    def model() -> dict[str, Any]:
        """Say what is served: classes, figures, preprocessing, calibration, provenance, versions."""
        return describe(predictor.model)

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        """Say that it answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(desk.meters.page(), media_type=CONTENT_TYPE)

    return Watched(app, limits.seconds, desk.meters, _names_of(host))


def _names_of(host: str) -> frozenset[str]:
    """Return the names that a server on an address answers to: of this computer alone, or any."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return frozenset({host, LOCAL, "::1", "localhost"}) if local else frozenset()


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


async def _say(request: Request, error: Exception) -> JSONResponse:
    """Answer an error as its one line."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    known = {
        404: f"There is no such page; there are {', '.join(PATHS)}.",
        405: f"{request.url.path} takes {headers.get('Allow') or headers.get('allow')}, not {request.method}.",
    }
    if error.status_code in (408, 413):
        headers["Connection"] = "close"
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
        self.large = ThreadPoolExecutor(1)  # decodes large photos, one after the other, so that memory stays

    async def close(self) -> None:
        """End; nobody waits any more."""
        await self.batcher.close()
        self.threads.shutdown()
        self.large.shutdown()

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
        picture = await self._aside(self._painted, file.data, maps, number)
        told = said.model_dump(include={"label", "probability", "none_of_these"}, exclude_none=True)
        return Response(picture, media_type="image/png", headers={"X-Prediction": json.dumps(told)})

    async def _look(self, file: Sent) -> Answer:
        """Return features and maps of a file."""
        return await self.batcher.run(await self._aside(self._prepared, file.data))

    async def _aside(self, do: Callable[..., Any], data: bytes, *values: Any) -> Any:
        """Return what a function makes of a photo's bytes, on a thread for such photos."""
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self.threads, _unless_large, do, data, *values)
        if made is None:
            made = await loop.run_in_executor(self.large, do, data, *values)
        return made

    def _prepared(self, data: bytes) -> Pixels:
        """Return a photo as the network receives it, as `predict` does."""
        preprocessing = self.model.preprocessing
        return prepare(decode(data, 2 * preprocessing.image_size, MOST_PIXELS), preprocessing)

    def _painted(self, data: bytes, maps: NDArray[np.float32], number: int) -> bytes:
        """Return a class's map on its photo, as PNG."""
        photo = decode(data, SHOWN_PIXELS, MOST_PIXELS)
        photo.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), Image.Resampling.LANCZOS)
        cams = activation_maps(maps, self.model.weight)
        box = self.model.preprocessing.box(photo.width, photo.height)
        out = io.BytesIO()
        paint(photo, cams[number], common_scale(list(cams)), box).save(out, "PNG")
        return out.getvalue()

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


def _unless_large(do: Callable[..., Any], data: bytes, *values: Any) -> Any:
    return None if pixels_in(data) > LARGE_PIXELS else do(data, *values)


def _remedied(error: UnreadablePhoto) -> str:
    return f"The file {error}: send a photo's bytes as the body, or files as multipart/form-data."
