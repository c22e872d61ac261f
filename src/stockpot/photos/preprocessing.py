"""From an RGB photo to the square of pixels that a network receives, and the geometry back.

`H`, `W` image height and width, `S` the network's input size.
"""

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from stockpot.errors import UnreadablePhoto
from stockpot.photos.photo import Photo
from stockpot.photos.pixels import bytes_of, decode, read_photo
from stockpot.shapes import Misshapen, made

Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
Resize = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Place = TypeVar("Place")  # where a photo lies: a path, or an address
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photo

MOST_SIDE = 4096  # pixels of a network's input: more would be a bomb
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a photo before a network sees it; travels with the weights."""

    image_size: int  # S, pixels
    mean: tuple[float, float, float]  # in units of 0..255, subtracted
    std: tuple[float, float, float]  # in units of 0..255, divided by
    resize: Resize = "squash"  # squash: the network sees the whole photo
    interpolation: Interpolation = "bicubic"

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that differ as soon as any pixel could."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]

    def box(self, width: int, height: int) -> Box:
        """Return the part of a `width x height` photo that the network's square covers.

        With `pad` it reaches beyond the photo.
        """
        if self.resize == "squash":
            return (0, 0, width, height)
        side = min(width, height) if self.resize == "crop" else max(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side)


def from_json(value: dict[str, object]) -> Preprocessing:
    """Return the preprocessing that `dataclasses.asdict` wrote.

    Raises:
        Misshapen: it is none, or asks for a square that no network takes.
    """
    found = made(Preprocessing, value)
    if not 1 <= found.image_size <= MOST_SIDE:
        raise Misshapen(f"image_size is {found.image_size}, expected 1 to {MOST_SIDE}")
    if not all(map(math.isfinite, found.mean)) or not all(0 < value < math.inf for value in found.std):
        raise Misshapen(f"mean and std are {found.mean} and {found.std}, expected numbers, std above 0")
    r, g, b = found.mean
    return replace(found, mean=(r, g, b), std=(found.std[0], found.std[1], found.std[2]))


def prepare(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Return the square that a network receives, before mean and std: `(S, S, 3)`, uint8."""
    size = preprocessing.image_size
    filter_ = _FILTERS[preprocessing.interpolation]
    left, top, right, bottom = preprocessing.box(image.width, image.height)
    if preprocessing.resize == "pad":
        scale = size / (right - left)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        square = Image.new("RGB", (size, size), tuple(round(value) for value in preprocessing.mean))
        square.paste(image.resize(inner, filter_), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    else:
        square = image.resize((size, size), filter_, box=(left, top, right, bottom))
    return np.asarray(square)


def read_prepared(path: Path, preprocessing: Preprocessing) -> Pixels:
    """Return the file `path` as a network receives it: `(S, S, 3)`, uint8.

    Raises:
        UnreadablePhoto: the file is not a picture that can be decoded.
    """
    return prepare(read_photo(path, at_least=2 * preprocessing.image_size), preprocessing)


def stream_prepared(
    paths: Iterable[Path], preprocessing: Preprocessing, threads: int = 2, ahead: int = 32
) -> Iterator[tuple[Path, Pixels | UnreadablePhoto]]:
    """Yield `read_prepared` of every path, in order, as `stream_read` does."""
    return stream_read(paths, lambda path: read_prepared(path, preprocessing), threads, ahead)


def stream_photos(photos: Iterable[Photo], preprocessing: Preprocessing) -> Iterator[Pixels]:
    """Yield photos as a network receives them, in order: `(S, S, 3)`, uint8.

    Raises:
        UnreadablePhoto: a file is gone, or has other bytes than when it was listed.
    """

    def read(photo: Photo) -> Pixels:
        return prepare(decode(bytes_of(photo), at_least=2 * preprocessing.image_size), preprocessing)

    for photo, pixels in stream_read(photos, read):
        if isinstance(pixels, UnreadablePhoto):
            raise UnreadablePhoto(
                f"{photo.path} {pixels}: it changed during the work; run the command again, and if that does not "
                f"help, after stockpot clean."
            )
        yield pixels


def stream_read(
    places: Iterable[Place], read: Callable[[Place], Pixels], threads: int = 2, ahead: int = 32
) -> Iterator[tuple[Place, Pixels | UnreadablePhoto]]:
    """Yield what `read` makes of every place, in order, read ahead in other threads.

    A photo that cannot be read is yielded as its error, so that one bad file never ends a batch. At most `ahead`
    photos wait in memory.
    """

    def answer(place: Place) -> Pixels | UnreadablePhoto:
        try:
            return read(place)
        except UnreadablePhoto as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Place, Future[Pixels | UnreadablePhoto]]] = deque()
        for place in places:
            waiting.append((place, pool.submit(answer, place)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
