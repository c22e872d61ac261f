"""Which photos are the same one, so that no photo is learned from and judged by.

Today a duplicate group holds photos with the same bytes.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from stockpot.photos.photo import Photo


@dataclass(frozen=True)
class Distinct:
    """Photos after the same bytes were counted once."""

    photos: tuple[Photo, ...]  # each with its group, in the order of their sha256
    repeated: tuple[tuple[Photo, Photo], ...]  # (left out, the one that counts instead)
    conflicts: tuple[tuple[Photo, ...], ...]  # the same bytes in two classes: none of them counts


def distinct_photos(photos: Iterable[Photo]) -> Distinct:
    """Count the same bytes once, and not at all where two classes claim them."""
    same: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        same[photo.sha256].append(photo)
    counted, repeated, conflicts = [], [], []
    for sha256 in sorted(same):
        first, *others = sorted(same[sha256], key=lambda photo: photo.path.as_posix())
        if any(other.label != first.label for other in others):
            conflicts.append((first, *others))
            continue
        counted.append(replace(first, group=sha256))
        repeated += [(other, first) for other in others]
    return Distinct(tuple(counted), tuple(repeated), tuple(conflicts))
