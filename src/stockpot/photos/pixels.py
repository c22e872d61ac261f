"""From bytes to upright RGB pixels: the one decoder of training, prediction and report."""

import importlib.util
import io
import warnings
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from stockpot.errors import UnreadablePhoto
from stockpot.photos.photo import Photo, fingerprint
from stockpot.project import MOST_BYTES, read_bytes

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")  # MPO comes with JPEG
NEEDS_MEMORY = "needs more memory than there is"
NEEDS_HEIC = "is a HEIC photo: pip install 'stockpot[heic]'"
MAX_PIXELS = 120_000_000  # more than the largest phone cameras; a decompression bomb has more

MOST_SCANS = 100  # of a progressive JPEG, which has about ten: each costs time, and hardly a byte

NO_PICTURE = ("is empty", "is not an image", "is damaged")  # how reasons begin that no remedy follows

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def read_photo(path: Path, at_least: int = 0) -> Image.Image:
    """Return the photo in the file `path` as `decode` does.

    Raises:
        UnreadablePhoto: the file is gone, may not be read, or is not a picture.
    """
    return decode(photo_bytes(path), at_least)


def photo_bytes(path: Path) -> bytes:
    """Return what is in the file `path`.

    Raises:
        UnreadablePhoto: it is gone, may not be read, or has more than `MOST_BYTES`.
    """
    try:
        return read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise UnreadablePhoto(f"cannot be opened ({error.strerror})") from None


def bytes_of(photo: Photo) -> bytes:
    """Return what is in a photo's file: what is computed from it may be remembered under the photo's sha256.

    Raises:
        UnreadablePhoto: the file is gone, or has other bytes than when the photo was listed.
    """
    data = photo_bytes(photo.path)
    if fingerprint(data) != photo.sha256:
        raise UnreadablePhoto("has other bytes now")
    return data


def decode(data: bytes, at_least: int = 0, most: int = MAX_PIXELS) -> Image.Image:
    """Return the photo in `data`, upright and in RGB.

    Args:
        data: the bytes of an image file of one of `FORMATS`.
        at_least: pixels that the short side must keep. A larger JPEG may be decoded at 1/2, 1/4 or 1/8
            of its size, which is much faster. 0 decodes every pixel.
        most: pixels that it may have.

    Returns:
        An RGB image: EXIF orientation applied, transparency on white, 16 bits scaled to 8, the first frame
        of an animation.

    Raises:
        UnreadablePhoto: with the reason, not the file's name.
    """
    if not data:
        raise UnreadablePhoto("is empty")
    try:
        if data[:2] == b"\xff\xd8" and (scans := data.count(b"\xff\xda")) > MOST_SCANS:
            raise UnreadablePhoto(f"has {scans} scans, as no camera makes them: save it anew")
        image = _open(data)
        if image.width * image.height > most:
            raise UnreadablePhoto(
                f"has more than {most:,} pixels ({image.width} x {image.height}): shrink it"
            )
        if at_least:
            image.draft("RGB", (at_least, at_least))
        image.load()
        return _to_rgb(_upright(image))
    except UnidentifiedImageError:
        raise UnreadablePhoto("is not an image of a known format: " + ", ".join(FORMATS)) from None
    except Image.DecompressionBombError:
        raise UnreadablePhoto(f"has more than {most:,} pixels: shrink it") from None
    except UnreadablePhoto:
        raise
    except MemoryError:
        raise UnreadablePhoto(NEEDS_MEMORY) from None
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like on damaged files
        raise UnreadablePhoto(f"is damaged ({error})") from None


def pixels_in(data: bytes) -> int:
    """Return how many pixels an image file says that it has; 0 where it does not say so."""
    try:
        with _open(data) as image:
            return image.width * image.height
    except Exception:  # noqa: BLE001 - whatever is wrong with it, `decode` will say
        return 0


def thumbnail(path: Path, longest: int) -> Image.Image:
    """Return the photo in a file, upright, with a long side of at most `longest` pixels."""
    photo = read_photo(path, at_least=longest)
    photo.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return photo


def can_read_heic() -> bool:
    """Tell whether the extra `heic` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def _open(data: bytes) -> Image.Image:
    # Odd metadata is no reason to refuse a photo. Not catch_warnings: it is not safe on several threads.
    warnings.filterwarnings("ignore", module=r"PIL|stockpot\.photos\.pixels")
    Image.init()  # Pillow knows some formats only after this; does nothing the second time
    return Image.open(io.BytesIO(data), formats=_formats(data))


def _formats(data: bytes) -> tuple[str, ...]:
    """Return the formats to try; HEIC is known by the brands in its first box."""
    brands = data[8 : int.from_bytes(data[:4])] if data[4:8] == b"ftyp" else b""
    if not {brands[i : i + 4] for i in range(0, min(len(brands), 64), 4)} & _HEIC_BRANDS:
        return FORMATS
    if not can_read_heic():
        raise UnreadablePhoto(NEEDS_HEIC)
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return (*FORMATS, "HEIF")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a value outside 1 to 8 is ignored."""
    with suppress(ValueError, KeyError, TypeError, SyntaxError, OSError):
        ImageOps.exif_transpose(image, in_place=True)  # no copy: photos may be large
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"}:
        raise UnreadablePhoto("has 32 bits a pixel, of unknown range: convert it to 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = image.convert("F").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
