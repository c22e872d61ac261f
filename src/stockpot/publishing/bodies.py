"""What a client sends, read within limits: one photo as the body, or several as a form."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

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
    """How many bytes of bodies may be read at once, for all requests together."""

    largest: int  # of one request
    all_together: int
    held: int = 0

    async def read(self, request: Request) -> bytes:
        """Return a request's body; the caller gives its length back by `leave`.

        Raises:
            HTTPException: 413 where it is too large, 415 where it is compressed, 503 where others fill the room.
        """
        self._look_at_headers(request)
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
            raise self._too_large()
        return b"".join(parts)

    def leave(self, count: int) -> None:
        """Give bytes back."""
        self.held -= count

    def _look_at_headers(self, request: Request) -> None:
        """Refuse at once what is announced so, where nobody has to be listened to first."""
        length = request.headers.get("content-length", "0")
        announced = int(length) if length.isdecimal() else 0
        asks = "100-continue" in request.headers.get("expect", "").lower()
        if announced > (self.largest if asks else _PATIENCE * self.largest):
            raise self._too_large()
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(
                415, "The body is compressed: send it without Content-Encoding, photos are small."
            )

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413, f"More than {self.largest / 2**20:g} MB: send smaller photos, or fewer at once."
        )


class _Parser(MultiPartParser):
    """Keeps everything in memory, and knows whether the form came to its end."""

    spool_max_size = _IN_MEMORY
    ended = False

    def on_end(self) -> None:
        self.ended = True


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
        except (MultiPartException, UnicodeError, LookupError) as error:
            reason = error.message if isinstance(error, MultiPartException) else str(error)
            raise HTTPException(
                400, f"The form cannot be read ({reason}): curl -F photo=@photo.jpg"
            ) from None
        files = [
            Sent(value.filename or "", await value.read())
            for _, value in form.multi_items()
            if isinstance(value, UploadFile)
        ]
        await form.close()
        if body and not parser.ended:
            raise HTTPException(400, "The form ends in the middle: send it again.")
    if not files:
        raise HTTPException(
            400, "No photo was sent: curl --data-binary @photo.jpg, or as a file: curl -F photo=@photo.jpg"
        )
    return files


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
