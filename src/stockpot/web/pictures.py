"""Pictures as a browser gets them: reduced, without metadata."""

import io
from pathlib import Path

from fastapi import Response
from PIL import Image

from stockpot.errors import UnreadablePhoto, WrongUse
from stockpot.photos.pixels import thumbnail

LARGEST = 1024  # pixels of a long side


def jpeg(path: Path, side: int) -> Response:
    """Return a photo of at most `side` pixels.

    Raises:
        WrongUse: it is gone or no photo, or `side` is out of range.
    """
    if not 16 <= side <= LARGEST:
        raise WrongUse(f"side is {side}; expected 16 to {LARGEST}.")
    try:
        small = thumbnail(path, side)
    except UnreadablePhoto as error:
        raise WrongUse(f"{path.name} {error}: load the page again.") from None
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return _answer(stream, "jpeg")


def png(picture: Image.Image) -> Response:
    """Return a picture that was computed."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return _answer(stream, "png")


def _answer(stream: io.BytesIO, kind: str) -> Response:
    keep = {"Cache-Control": "private, max-age=3600"}
    return Response(stream.getvalue(), media_type=f"image/{kind}", headers=keep)
