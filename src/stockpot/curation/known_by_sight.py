"""What ImageNet's own classifier sees in a class: it confirms or dismisses what a name suggests.

EfficientNet-Lite0 keeps its 1000-way layer for this; it is applied to the cached features. `N` photos, `C`
channels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockpot.backbones.weights import find_weights
from stockpot.collection.known_names import find_known, imagenet_names
from stockpot.progress import Progress, silent

BACKBONE = "efficientnet_lite0"
SEEN = 0.25  # share of a class's photos that must be seen as one ImageNet class
UNSEEN = 0.05  # share at which a match by name is dismissed
_LAYERS = ("_fc", "classifier")  # its publisher's name, and timm's


@dataclass(frozen=True)
class Sight:
    """An ImageNet class that photos of a class may be of."""

    label: str
    index: int  # of ImageNet's class
    name: str
    share: float  # of the photos that are seen as it
    by_name: bool  # the class's own name suggests it

    @property
    def verdict(self) -> str:
        """Say what looking has found: confirmed, dismissed, unclear, or added, where no name suggested it."""
        if not self.by_name:
            return "added"
        return "confirmed" if self.share >= SEEN else "dismissed" if self.share <= UNSEEN else "unclear"


def known_by_sight(
    features: NDArray[np.float32], labels: Sequence[str], progress: Progress = silent
) -> tuple[Sight, ...]:
    """Return for every class the ImageNet classes that its name suggests or that many of its photos are seen as.

    Args:
        features: `(N, C)` of EfficientNet-Lite0.
        labels: N of them.
        progress: told how far a download is.

    Raises:
        WeightsError: its weights cannot be had.
    """
    weight, bias = _layer(progress)
    seen = (features @ weight.T + bias).argmax(axis=1)
    names = imagenet_names()
    found = []
    for label in sorted(set(labels)):
        members = [int(seen[i]) for i, other in enumerate(labels) if other == label]
        counts = Counter(members)
        by_name = {one.index for one in find_known(label) if one.data == "ImageNet"}
        large = {index for index, count in counts.items() if count >= SEEN * len(members)}
        for index in sorted(by_name | large):
            share = counts[index] / len(members)
            found.append(Sight(label, index, names[index], share, index in by_name))
    return tuple(found)


def _layer(progress: Progress) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight `(1000, C)` and bias `(1000,)` of the layer that is cut off a backbone."""
    tensors = find_weights(BACKBONE, "imagenet", progress).tensors
    (name,) = (name for name in _LAYERS if f"{name}.weight" in tensors)
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]
