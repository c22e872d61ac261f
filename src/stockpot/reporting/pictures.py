"""Pictures inside a page: photos once each, drawings where they stand."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from stockpot.photos.pixels import thumbnail

THUMBNAIL = 192  # pixels, long side


class Picture(NamedTuple):
    """A picture of a page."""

    url: str  # `data:`, or `#` and the name of a photo that the page holds once
    width: int  # pixels
    height: int
    pixelated: bool = False  # drawn without smoothing


class Album:
    """The photos of a page: each is held once, however often it is shown."""

    def __init__(self) -> None:
        self.photos: dict[str, Picture] = {}  # by name
        self._names: dict[Path, str] = {}

    def add(self, photo: Path) -> Picture:
        """Return a photo to be shown.

        Raises:
            UnreadablePhoto: it has changed since it was indexed.
        """
        name = self._names.setdefault(photo, f"photo-{len(self._names)}")
        if name not in self.photos:
            small = thumbnail(photo, THUMBNAIL)
            self.photos[name] = jpeg(small)
        return self.photos[name]._replace(url=f"#{name}")


def jpeg(image: Image.Image, quality: int = 82, subsampling: int = 2) -> Picture:
    """Return a photo for a page; subsampling 0 keeps the colour of every pixel."""
    return Picture(jpeg_url(image, quality, subsampling), *image.size)


def png(image: Image.Image, pixelated: bool = False) -> Picture:
    """Return a drawing for a page."""
    return Picture(_data_url(image, "PNG"), *image.size, pixelated)


def jpeg_url(image: Image.Image, quality: int = 82, subsampling: int = 2) -> str:
    """Return a photo as text for a page; subsampling 0 keeps the colour of every pixel."""
    return _data_url(image, "JPEG", quality=quality, subsampling=subsampling)


def _data_url(image: Image.Image, format_: str, **options: int) -> str:
    """Return a picture as text; a new image carries no EXIF."""
    stream = io.BytesIO()
    clean = Image.frombytes(image.mode, image.size, image.tobytes())
    clean.save(stream, format_, **options)
    return f"data:image/{format_.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
