"""What ImageNet's own classifier sees in a class: it confirms or dismisses what a name suggests.

EfficientNet-Lite0 keeps its 1000-way layer for this; it is applied to the cached features. `N` photos, `C`
channels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.collection.known_names import find_known, imagenet_names
from stockpot.errors import ProjectError
from stockpot.progress import Progress, silent
from stockpot.shapes import Misshapen, made

BACKBONE = "efficientnet_lite0"
SEEN = 0.25  # share of a class's photos that must be seen as one ImageNet class
FIRST = 5  # classes among which a photo must not have it, for a match by name to be dismissed
FEWEST = 10  # photos below which nothing is said to be seen
_LAYERS = ("_fc", "classifier")  # its publisher's name, and timm's


@dataclass(frozen=True)
class Sight:
    """An ImageNet class that photos of a class may be of."""

    label: str
    index: int  # of ImageNet's class
    name: str
    share: float  # of the photos that are seen as it
    close: float  # of the photos that have it among their first five
    n: int  # photos
    by_name: bool  # the class's own name suggests it

    @property
    def verdict(self) -> str:
        """Say what looking has found: confirmed, dismissed, unclear, or added, where no name suggested it.

        Dismissed: even of those with it among their first five there are, with 97.5 % confidence, fewer than
        would be needed to call it seen.
        """
        if not self.by_name:
            return "added"
        from scipy.stats import binomtest

        if self.share >= SEEN and self.n >= FEWEST:
            return "confirmed"
        at_most = binomtest(round(self.close * self.n), self.n).proportion_ci(method="wilson").high
        return "dismissed" if at_most < SEEN else "unclear"


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
    first = np.argsort(-(features @ weight.T + bias), axis=1)[:, :FIRST]
    names = imagenet_names()
    found = []
    for label in sorted(set(labels)):
        members = first[[other == label for other in labels]]
        n = len(members)
        seen, close = Counter(members[:, 0].tolist()), Counter(members.ravel().tolist())
        by_name = {one.index for one in find_known(label) if one.data == "ImageNet"}
        large = {index for index, count in seen.items() if count >= SEEN * n and n >= FEWEST}
        for index in sorted(by_name | large):
            shares = seen[index] / n, close[index] / n
            found.append(Sight(label, index, names[index], *shares, n, index in by_name))
    return tuple(found)


def keep_sights(project: disk.Project, sights: Sequence[Sight]) -> None:
    """Write down what was seen, for the report.

    Raises:
        FolderError: the project cannot be written.
    """
    disk.write_json(project.sights, [asdict(sight) for sight in sights])


def read_sights(project: disk.Project) -> tuple[Sight, ...]:
    """Return what was seen when the photos were last looked at; nothing where that is not known."""
    try:
        return tuple(made(Sight, row) for row in disk.read_shaped(project.sights, list[Any]) or [])
    except (ProjectError, Misshapen):  # damaged, or of another version: looking again is cheap
        return ()


def _layer(progress: Progress) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight `(1000, C)` and bias `(1000,)` of the layer that is cut off a backbone."""
    from stockpot.backbones.weights import find_weights

    tensors = find_weights(BACKBONE, "imagenet", progress).tensors
    (name,) = (name for name in _LAYERS if f"{name}.weight" in tensors)
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]
