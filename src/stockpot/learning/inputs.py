"""What the learning part of a classifier receives: pooled features, cached maps, or the photos themselves.

`n` photos of a batch, `N` of a side, `S` input size, `C` channels, `h`, `w` cells of a feature map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stockpot.errors import UnreadablePhoto
from stockpot.learning.augmentation import seed_of, varied
from stockpot.learning.prefixes import Views
from stockpot.learning.recipes import Recipe
from stockpot.photos.photo import Photo
from stockpot.photos.preprocessing import Preprocessing, stream_prepared
from stockpot.progress import Progress, silent

SMALL = 64  # pixels on each side of a photo, of which a whole batch fits into memory anyway
AT_ONCE = 8  # photos of 256 pixels or their maps, so that a whole network learns within 4 GB


@dataclass(frozen=True, eq=False)
class Inputs:
    """The photos of one side, as they are fed in."""

    labels: Tensor  # (N,), indices of classes
    take: Callable[[Tensor, int], Tensor]  # rows (n,) and an epoch: what is fed in, (n, ...)
    at_once: int = 0  # rows whose gradients fit into memory together; 0: any number


def fixed(inputs: Tensor, labels: Tensor) -> Inputs:
    """Return inputs `(N, ...)` that are the same in every epoch."""
    return Inputs(labels, lambda rows, _: inputs[rows])


def from_photos(pixels: Tensor, labels: Tensor, recipe: Recipe) -> Inputs:
    """Return photos `(N, S, S, 3)`, uint8, varied anew in every epoch as the recipe says."""

    def take(rows: Tensor, epoch: int) -> Tensor:
        return torch.stack(
            [varied(pixels[row], recipe.augment, seed_of(recipe.seed, epoch, row)) for row in rows.tolist()]
        )

    whole = recipe.batch_norm == "training" or recipe.image_size <= SMALL  # its statistics are of the batch
    return Inputs(labels, take, 0 if whole else AT_ONCE)


def from_views(views: Views, labels: Tensor, seed: int) -> Inputs:
    """Return cached maps `(N, C, h, w)`: in every epoch another view of every photo."""

    def take(rows: Tensor, epoch: int) -> Tensor:
        count = views.maps.shape[1]
        chosen = [(seed_of(seed, row) + epoch) % count for row in rows.tolist()]
        return torch.from_numpy(views.maps[rows.numpy(), np.array(chosen)].astype(np.float32))

    return Inputs(labels, take, AT_ONCE)


def read_pixels(photos: Sequence[Photo], preprocessing: Preprocessing, progress: Progress = silent) -> Tensor:
    """Return photos as a network receives them: `(N, S, S, 3)`, uint8; 200 MB a thousand at 256 pixels.

    Raises:
        UnreadablePhoto: a photo that could be read before cannot be read now.
    """
    size = preprocessing.image_size
    pixels: NDArray[np.uint8] = np.empty((len(photos), size, size, 3), np.uint8)
    stream = stream_prepared((photo.path for photo in photos), preprocessing)
    for row, (path, prepared) in enumerate(stream):
        if isinstance(prepared, UnreadablePhoto):
            raise UnreadablePhoto(f"{path} {prepared}: it changed while it was read; run the command again.")
        pixels[row] = prepared
        progress("reading photos", row + 1, len(photos))
    return torch.from_numpy(pixels)
