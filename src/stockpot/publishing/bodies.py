"""What a client sends, read within limits: one photo as the body, or several as a form."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

MANY_PHOTOS = 32  # in one request
_PATIENCE = 8  # times the limit are read and thrown away, so that the answer reaches whoever sends too much
_IN_MEMORY = 2**40  # bytes that a form may have before it is written to disk: never


@dataclass(frozen=True)
class Sent:
    """A file that a client sent."""

    name: str  # as the client calls it; empty where it gave none
    data: bytes


@dataclass
class Room:
    """How many bytes of bodies may be in memory at once, for all requests together."""

    largest: int  # of one request
    all_together: int
    held: int = field(default=0)

    async def read(self, request: Request) -> bytes:
        """Return a request's body; the caller gives its length back by `leave`.

        Raises:
            HTTPException: 413 where it is too large, 503 where others fill the room.
        """
        kept = seen = 0
        parts: list[bytes] = []
        try:
            async for part in request.stream():
                seen += len(part)
                if seen > _PATIENCE * self.largest:
                    break
                if seen > self.largest:
                    parts.clear()
                    self.leave(kept)
                    kept = 0
                    continue
                if self.held + len(part) > self.all_together:
                    raise HTTPException(
                        503, "Too much is being sent at once: try again.", {"Retry-After": "1"}
                    )
                self.held, kept = self.held + len(part), kept + len(part)
                parts.append(part)
        except BaseException:
            self.leave(kept)
            raise
        if seen > self.largest:
            most = self.largest / 2**20
            raise HTTPException(413, f"More than {most:g} MB: send smaller photos, or fewer at once.")
        return b"".join(parts)

    def leave(self, count: int) -> None:
        """Give bytes back."""
        self.held -= count


class _Parser(MultiPartParser):
    spool_max_size = _IN_MEMORY


async def photos_in(request: Request, body: bytes) -> list[Sent]:
    """Return the files in a body, which is one photo or a form.

    Raises:
        HTTPException: 400 where there is none, or the form is broken.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        files = [Sent("", body)] if body else []
    else:
        parser = _Parser(request.headers, _once(body), max_files=MANY_PHOTOS, max_fields=MANY_PHOTOS)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400, f"The form cannot be read ({error.message})") from None
        files = [
            Sent(value.filename or "", await value.read())
            for _, value in form.multi_items()
            if isinstance(value, UploadFile)
        ]
        await form.close()
    if not files:
        raise HTTPException(
            400, "No photo was sent: curl --data-binary @photo.jpg, or curl -F photo=@photo.jpg"
        )
    return files


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
