"""Pictures as a browser gets them: reduced, without metadata."""

import io
from pathlib import Path

from fastapi import Response
from PIL import Image

from stockpot.errors import UnreadablePhoto, WrongUse
from stockpot.photos.pixels import thumbnail

SIDE = 640  # pixels of a long side, photo and map alike
LARGEST = 1024


def jpeg(path: Path, side: int, lasting: bool = False) -> Response:
    """Return a photo of at most `side` pixels.

    Args:
        path: the photo.
        side: pixels of its long side.
        lasting: its address stands for its very bytes, so that a browser need not ask again.

    Raises:
        WrongUse: it is gone or no photo, or `side` is out of range.
    """
    if not 16 <= side <= LARGEST:
        raise WrongUse(f"side is {side}; expected 16 to {LARGEST}.")
    try:
        small = thumbnail(path, side)
    except UnreadablePhoto as error:
        raise WrongUse(f"{path.name} {error}: load the page again.") from None
    return _answer(small, "JPEG", "private, max-age=3600" if lasting else "no-store")


def png(picture: Image.Image) -> Response:
    """Return a picture that was computed."""
    return _answer(picture, "PNG", "no-store")


def _answer(picture: Image.Image, kind: str, cache: str) -> Response:
    stream = io.BytesIO()
    picture.save(stream, kind, quality=82)
    return Response(stream.getvalue(), media_type=f"image/{kind.lower()}", headers={"Cache-Control": cache})
