"""Which photos are the same one, or nearly, so that no photo is learned from and judged by.

Two photos are near duplicates if their perceptual hashes differ in few bits. A hash is the signs of the 16 x 16
lowest frequencies of the gray photo (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
2010), after a uniform border was trimmed; a photo is also compared with the other's mirror image and nine crops.
In a set whose photos all look alike (solar cells), a near duplicate must also stand out from the usual neighbours.
`docs/duplicates.md` has what this finds and misses. `N` photos, `H` hashes of 256 bits.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stockpot.photos.photo import Photo

Pair = tuple[str, str]  # two photos, by sha256

NEAR = 76  # bits of 256 that near duplicates differ in at most; 128 are chance
CERTAIN = 24  # bits; so near, they need not stand out
STANDS_OUT = 16  # bits nearer than the usual neighbours
FLATTEST = 6.0  # standard deviation of gray values; a flatter photo is like every other flat one
BITS = 256
SIGNATURE_BYTES = 11 * BITS // 8  # of a photo, its mirror image and nine crops
_SIDE = 256  # pixels that are hashed on each side
_CROP = 230  # pixels of a crop: 90 %
_BLOCK = 128  # photos that are compared with all others at a time: about 150 MB for 5,000 photos


@dataclass(frozen=True)
class Distinct:
    """Photos after the same bytes were counted once."""

    photos: tuple[Photo, ...]  # each with its group, in the order of their sha256
    repeated: tuple[tuple[Photo, Photo], ...]  # (left out, the one that counts instead)
    conflicts: tuple[tuple[Photo, ...], ...]  # the same bytes in two classes: none of them counts


def distinct_photos(photos: Iterable[Photo], near: Iterable[Pair] = ()) -> Distinct:
    """Count the same bytes once, not at all where two classes claim them, and group near duplicates.

    Args:
        photos: in any order.
        near: pairs of near duplicates, by sha256.
    """
    same: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        same[photo.sha256].append(photo)
    counted, repeated, conflicts = [], [], []
    for sha256 in sorted(same):
        first, *others = sorted(same[sha256], key=lambda photo: photo.path.as_posix())
        if any(other.label != first.label for other in others):
            conflicts.append((first, *others))
            continue
        counted.append(first)
        repeated += [(other, first) for other in others]
    groups = _groups(counted, near)
    grouped = (replace(photo, group=group) for photo, group in zip(counted, groups, strict=True))
    return Distinct(tuple(grouped), tuple(repeated), tuple(conflicts))


def _groups(photos: Sequence[Photo], near: Iterable[Pair]) -> list[str]:
    """Return each photo's group: the smallest sha256 of all that near duplicates lead to."""
    group = {photo.sha256: photo.sha256 for photo in photos}

    def smallest(sha256: str) -> str:
        while group[sha256] != sha256:
            sha256 = group[sha256]
        return sha256

    for pair in near:
        if all(sha256 in group for sha256 in pair):
            first, second = sorted(map(smallest, pair))
            group[second] = first
    return [smallest(photo.sha256) for photo in photos]


def signature(photo: Image.Image) -> bytes:
    """Return the hashes of a photo, its mirror image and nine crops; nothing for a flat one."""
    from imagehash import phash

    gray = photo.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=3)
    whole = _trimmed(gray).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    if np.asarray(whole).std() < FLATTEST:
        return b""
    places = range(0, _SIDE - _CROP + 1, (_SIDE - _CROP) // 2)
    crops = [whole.crop((x, y, x + _CROP, y + _CROP)) for y in places for x in places]
    hashes = [phash(view, hash_size=16).hash for view in (ImageOps.mirror(whole), whole, *crops)]
    return np.packbits(np.stack(hashes)).tobytes()


def _trimmed(gray: Image.Image) -> Image.Image:
    """Cut off a border of one brightness, up to 30 % of each side."""
    pixels = np.asarray(gray, np.int16)
    top, bottom = (_uniform(lines) for lines in (pixels, pixels[::-1]))
    left, right = (_uniform(lines) for lines in (pixels.T, pixels.T[::-1]))
    return gray.crop((left, top, gray.width - right, gray.height - bottom))


def _uniform(lines: NDArray[np.int16], tolerance: int = 24) -> int:
    """Return how many lines from the first on are as bright as the first, each uniformly."""
    means = lines.mean(axis=1)
    uneven = (np.ptp(lines, axis=1) >= tolerance) | (np.abs(means - means[0]) >= tolerance)
    limit = int(0.3 * len(lines))
    return int(np.argmax(uneven[:limit])) if uneven[:limit].any() else limit


def near_duplicates(signatures: Sequence[bytes]) -> NDArray[np.int64]:
    """Return pairs of near duplicates as rows `(i, j)`, i < j.

    Args:
        signatures: N, none of them empty.
    """
    n = len(signatures)
    if n < 2:
        return np.empty((0, 2), np.int64)
    packed = np.frombuffer(b"".join(signatures), np.uint8).reshape(n, -1, BITS // 8)
    signs = np.unpackbits(packed, axis=-1).astype(np.float32) * 2 - 1  # (N, H, 256)
    usual = min(n - 1, max(8, n // 100))  # a photo's usual neighbour is its so-many-th nearest
    neighbour = np.empty(n)
    found, nearness = [], []
    for start in range(0, n, _BLOCK):
        distances = _distances(signs, start)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = BITS
        neighbour[start : start + _BLOCK] = np.partition(distances, usual - 1, axis=1)[:, usual - 1]
        least = np.maximum(neighbour[start : start + _BLOCK] - STANDS_OUT, CERTAIN)
        later = np.arange(n) > (start + rows)[:, None]
        near = np.argwhere((distances <= np.minimum(NEAR, least)[:, None]) & later)
        nearness.append(distances[near[:, 0], near[:, 1]])
        found.append(near + np.array([start, 0]))
    pairs, bits = np.concatenate(found), np.concatenate(nearness)
    stands_out = bits <= np.maximum(neighbour[pairs[:, 1]] - STANDS_OUT, CERTAIN)
    return pairs[stands_out]  # type: ignore[no-any-return]


def _distances(signs: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """Return differing bits `(B, N)` between a block of photos and all, at the best of the views.

    Of one photo the whole and its mirror image are taken, of the other the whole and its crops, and the other
    way round.
    """
    block = signs[start : start + _BLOCK]
    agreement = np.maximum(
        _agreement(block[:, :2], signs[:, 1:]),
        _agreement(block[:, 1:], signs[:, :2]),
    )
    return (BITS - agreement) * np.float32(0.5)


def _agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest scalar product of any view in `a` `(A, X, 256)` and `b` `(B, Y, 256)`: `(A, B)`."""
    products = a.reshape(-1, BITS) @ b.reshape(-1, BITS).T
    return products.reshape(*a.shape[:2], *b.shape[:2]).max(axis=(1, 3))  # type: ignore[no-any-return]
