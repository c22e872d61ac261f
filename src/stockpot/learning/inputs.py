"""What the learning part of a classifier receives: pooled features, cached maps, or the photos themselves.

`n` photos of a batch, `N` of a side, `S` input size, `C` channels, `h`, `w` cells of a feature map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stockpot.learning.augmentation import seed_of, varied
from stockpot.learning.prefixes import Views
from stockpot.learning.recipes import Recipe
from stockpot.photos.photo import Photo
from stockpot.photos.preprocessing import Preprocessing, stream_photos
from stockpot.progress import Progress, silent

SMALL = 64  # pixels on each side of a photo, of which a whole batch fits into memory anyway
AT_ONCE = 8  # photos of 256 pixels or their maps, so that a whole network learns within 4 GB


@dataclass(frozen=True, eq=False)
class Inputs:
    """The photos of one side, as they are fed in."""

    labels: Tensor  # (N,), indices of classes
    take: Callable[[Tensor, int], Tensor]  # rows (n,) and an epoch: what is fed in, (n, ...)
    at_once: int = 0  # rows whose gradients fit into memory together; 0: any number

    def fed(self, rows: Tensor, epoch: int, device: torch.device) -> Tensor:
        """Return what a module on a device is fed with; half precision is for the way there."""
        taken = self.take(rows, epoch).to(device)
        return taken.float() if taken.dtype == torch.float16 else taken


def fixed(inputs: Tensor, labels: Tensor) -> Inputs:
    """Return inputs `(N, ...)` that are the same in every epoch."""
    return Inputs(labels, partial(_as_they_are, inputs.numpy()))


def from_photos(pixels: Tensor, labels: Tensor, recipe: Recipe) -> Inputs:
    """Return photos `(N, S, S, 3)`, uint8, varied anew in every epoch as the recipe says."""
    whole = recipe.batch_norm == "training" or recipe.image_size <= SMALL  # its statistics are of the batch
    take = partial(_varied_anew, pixels.numpy(), recipe.augment, recipe.seed)
    return Inputs(labels, take, 0 if whole else AT_ONCE)


def from_views(views: Views, labels: Tensor, seed: int) -> Inputs:
    """Return cached maps `(N, C, h, w)`: in every epoch another view of every photo."""
    return Inputs(labels, partial(_another_view, np.asarray(views.maps), seed), AT_ONCE)


# Functions and arrays, because other processes are sent them: Ray lets all processes of a node share an array


def _as_they_are(inputs: NDArray[Any], rows: Tensor, epoch: int) -> Tensor:
    return torch.from_numpy(inputs[rows.numpy()])


def _varied_anew(pixels: NDArray[np.uint8], kind: str, seed: int, rows: Tensor, epoch: int) -> Tensor:
    photos = torch.from_numpy(pixels[rows.numpy()])
    seeds = [seed_of(seed, epoch, row) for row in rows.tolist()]
    return torch.stack([varied(photo, kind, own) for photo, own in zip(photos, seeds, strict=True)])


def _another_view(maps: NDArray[np.float16], seed: int, rows: Tensor, epoch: int) -> Tensor:
    chosen = [(seed_of(seed, row) + epoch) % maps.shape[1] for row in rows.tolist()]
    return torch.from_numpy(maps[rows.numpy(), np.array(chosen)])


def read_pixels(photos: Sequence[Photo], preprocessing: Preprocessing, progress: Progress = silent) -> Tensor:
    """Return photos as a network receives them: `(N, S, S, 3)`, uint8; 200 MB a thousand at 256 pixels.

    Raises:
        UnreadablePhoto: a photo is gone, or has other bytes now.
    """
    size = preprocessing.image_size
    pixels: NDArray[np.uint8] = np.empty((len(photos), size, size, 3), np.uint8)
    for row, prepared in enumerate(stream_photos(photos, preprocessing)):
        pixels[row] = prepared
        progress("reading photos", row + 1, len(photos))
    return torch.from_numpy(pixels)
