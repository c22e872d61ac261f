"""Pictures inside a page."""

import base64
import io

from PIL import Image


def jpeg_url(image: Image.Image, quality: int = 82, subsampling: int = 2) -> str:
    """Return a photo as text for a page; subsampling 0 keeps the colour of every pixel."""
    return _data_url(image, "JPEG", quality=quality, subsampling=subsampling)


def png_url(image: Image.Image) -> str:
    """Return a drawing as text for a page."""
    return _data_url(image, "PNG")


def _data_url(image: Image.Image, format_: str, **options: int) -> str:
    """Return a picture as text; a new image carries no EXIF."""
    stream = io.BytesIO()
    clean = Image.frombytes(image.mode, image.size, image.tobytes())
    clean.save(stream, format_, **options)
    return f"data:image/{format_.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
