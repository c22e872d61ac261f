"""Whether maps show what a model uses: parts of photos are taken away, and put back, in the order of the map.

Deletion is the area under the predicted class's probability, before calibration, while parts go, those first that
speak most for the class; insertion while they come back in that order. Of a map that is worth something the first
is smaller and the second larger than in a random order. Petsiuk, Das, Saenko, "RISE", BMVC 2018.

A head whose weights, less their mean, are permuted among the channels gives maps that look as plausible and are as
smooth, and should gain nothing: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018. It is the fairer
control by pixels, where scattered random parts leave more blurred edges than the regions of a map do.

By cells, parts are cells of the feature maps, and one that is gone is zero: the logit then changes by exactly what
the map says. By pixels, parts are the squares of the photo below the cells, and one that is gone is blurred: cells
also see what is around their square, so that less can be gained.

`C` channels, `h`, `w` cells of a feature map, `K` classes, `M` masks, `S` input size.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stockpot.errors import PhotoError, UnreadablePhoto, WrongUse
from stockpot.learning.features import cached_features
from stockpot.learning.models import Place, list_files, load_model, model_engine
from stockpot.learning.runs import Run
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import BATCH_SIZE
from stockpot.model.model_file import ModelFile, read_model
from stockpot.model.prediction import Predictor, softmax
from stockpot.photos.preprocessing import Pixels, read_prepared
from stockpot.photos.splits import Split
from stockpot.progress import Progress, silent
from stockpot.project import Project

STEPS = 8  # lots that parts go in, where there are as many
BLURRED = 1 / 10  # radius of the blur, as a share of the input size
FEWEST = 10  # photos; an interval from so few is too narrow, a hundred are better
RESAMPLED = 100  # at once, which bounds the memory that the bootstrap needs

_Masks = NDArray[np.bool_]  # (M, h, w), True: still there
_Curve = Callable[[_Masks], NDArray[np.floating]]  # (M,): the predicted class's probability


@dataclass(frozen=True)
class Gain:
    """How much better an order of parts is than a random one, on average over photos; above 0 is better."""

    mean: float  # of areas, which are probabilities
    interval: tuple[float, float]  # 95 %, bootstrap over photos

    @property
    def beyond_chance(self) -> bool:
        """Tell whether the interval leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def __str__(self) -> str:
        """Return it in words."""
        low, high = self.interval
        return f"{self.mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"


@dataclass(frozen=True)
class Faithfulness:
    """What the order of the maps gains over random orders, paired by photo."""

    by: Literal["cells", "pixels"]
    n: int  # photos
    refused: tuple[Path, ...]  # files that are no photos
    deletion: Gain  # how much smaller the area is
    insertion: Gain  # how much larger the area is
    permuted_deletion: Gain  # the same of maps of a head with permuted weights
    permuted_insertion: Gain
    over_permuted_deletion: Gain  # what maps gain over those
    over_permuted_insertion: Gain

    def __str__(self) -> str:
        """Return it in words."""
        return (
            f"by {self.by}, n = {self.n}, area gained over a random order: deletion {self.deletion}, insertion "
            f"{self.insertion}; with a permuted head {self.permuted_deletion} and {self.permuted_insertion}"
        )


def measure_faithfulness(
    place: Place,
    photos: Iterable[Path | str],
    by: Literal["cells", "pixels"] = "cells",
    seed: int = 0,
    progress: Progress = silent,
) -> Faithfulness:
    """Return what the maps of photos gain over random orders, in deletion and insertion.

    Args:
        place: what `load_model` takes.
        photos: image files, or folders of them; a hundred or more tell something.
        by: `"cells"`, one pass a photo, or `"pixels"`, 44.
        seed: of random orders and permuted heads.
        progress: told after every photo.

    Raises:
        ModelError: there is no model, or it is damaged.
        PhotoError: a path does not exist, or there are fewer than 10 readable photos.
        WrongUse: there is no such way, or a map of the model is a single cell.
    """
    if by not in ("cells", "pixels"):
        raise WrongUse(f"by is {by!r}; expected 'cells' or 'pixels'.")
    files = list_files(photos)
    if len(files) < FEWEST:
        raise PhotoError(f"{len(files)} files are too few to tell: give at least {FEWEST} photos.")
    predictor, chance = load_model(place, progress), np.random.default_rng(seed)
    gains, refused = [], []
    for done, file in enumerate(files, 1):
        try:
            pixels = read_prepared(file, predictor.model.preprocessing)
        except UnreadablePhoto:
            refused.append(file)
        else:
            maps = predictor.engine.run(pixels[None])[1][0].astype(np.float32)
            curve = _by_pixels(pixels, predictor, maps.shape[1:]) if by == "pixels" else None
            gains.append(_gains(predictor.model, maps, chance, curve))
        progress("taking photos apart", done, len(files))
    return _faithfulness(by, gains, tuple(refused), seed)


def measure_cached_faithfulness(
    project: Project, run: Run, split: Split, progress: Progress = silent, seed: int = 0
) -> Faithfulness:
    """Return what the maps of a run's validation photos gain by cells, from feature maps that are cached.

    Raises:
        PhotoError: there are fewer than 10 photos.
        WrongUse: a map of the model is a single cell.
    """
    model, chance = read_model(run.model_path), np.random.default_rng(seed)
    features = cached_features(
        project,
        split.validation,
        model.key,
        model.preprocessing,
        lambda: model_engine(model, progress),
        progress,
    )
    rows = range(len(split.validation))
    gains = [_gains(model, features.maps(row).astype(np.float32), chance) for row in rows]
    return _faithfulness("cells", gains, (), seed)


def _faithfulness(
    by: Literal["cells", "pixels"], gains: list[list[float]], refused: tuple[Path, ...], seed: int
) -> Faithfulness:
    if len(gains) < FEWEST:
        files = len(gains) + len(refused)
        raise PhotoError(f"{len(gains)} of {files} files are photos: give at least {FEWEST}.")
    rows = np.array(gains)  # (n, 4)
    columns = [*rows.T, *(rows[:, :2] - rows[:, 2:]).T]
    return Faithfulness(by, len(rows), refused, *(_average(column, seed) for column in columns))


def _gains(
    model: ModelFile,
    maps: NDArray[np.float32],
    chance: np.random.Generator,
    by_pixels: Callable[[int], _Curve] | None = None,
) -> list[float]:
    """Return what map and permuted map gain in deletion and insertion over a random order.

    Args:
        model: whose head makes maps of class evidence of feature maps.
        maps: `(C, h, w)` of a photo.
        chance: draws the random order and the permutation.
        by_pixels: gives a class's curve by pixels; by cells without it.
    """
    weight = model.weight
    cam = activation_maps(maps, weight)
    if cam[0].size == 1:
        raise WrongUse(
            "A map of this model is a single cell, which has no order: train with a larger image_size."
        )
    k = int((cam.mean(axis=(1, 2)) + model.bias).argmax())
    centered = (
        weight[k] - weight[k].mean()
    )  # else it would be a map of how active the channels are, or are not
    permuted = activation_maps(maps, chance.permutation(centered)[None])[0]
    curve = by_pixels(k) if by_pixels else _by_cells(cam, model.bias, k)
    ends = curve(np.stack([np.ones(cam.shape[1:], bool), np.zeros(cam.shape[1:], bool)]))
    found = [_areas(curve, order, *ends) for order in (cam[k], permuted, chance.random(cam[k].shape))]
    (deletion, insertion), (p_deletion, p_insertion), (r_deletion, r_insertion) = found
    return [
        r_deletion - deletion,
        insertion - r_insertion,
        r_deletion - p_deletion,
        p_insertion - r_insertion,
    ]


def _by_cells(cam: NDArray[np.float32], bias: NDArray[np.float32], k: int) -> _Curve:
    """Return the curve of cells that are zero: all maps `(K, h, w)` lose what they had there."""

    def curve(masks: _Masks) -> NDArray[np.floating]:
        logits = np.einsum("khw,mhw->mk", cam, masks, dtype=np.float32) / cam[0].size + bias
        return softmax(logits)[:, k]

    return curve


def _by_pixels(pixels: Pixels, predictor: Predictor, cells: tuple[int, ...]) -> Callable[[int], _Curve]:
    size = len(pixels)
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(size * BLURRED)))
    row, column = (np.arange(size) * count // size for count in cells)  # cell of every pixel

    def probabilities(masks: _Masks, k: int) -> NDArray[np.floating]:
        there = masks[:, row][:, :, column][..., None]  # (M, S, S, 1)
        photos = np.where(there, pixels, blurred)
        lots = [photos[i : i + BATCH_SIZE] for i in range(0, len(photos), BATCH_SIZE)]
        return np.concatenate([softmax(predictor.logits(predictor.engine.run(lot)[0]))[:, k] for lot in lots])

    return lambda k: lambda masks: probabilities(masks, k)


def _areas(curve: _Curve, order: NDArray[np.floating], whole: float, nothing: float) -> tuple[float, float]:
    """Return deletion and insertion area of parts in falling order of a value.

    Args:
        curve: probabilities `(M,)` of masks.
        order: `(h, w)`.
        whole: probability of the whole photo.
        nothing: probability where all parts are gone.
    """
    ranks = np.argsort(np.argsort(-order.ravel(), kind="stable"), kind="stable").reshape(order.shape)
    gone = np.linspace(0, order.size, min(STEPS, order.size) + 1).round().astype(int)  # parts
    deleted = np.stack([ranks >= count for count in gone[1:-1]])
    between = curve(np.concatenate([deleted, ~deleted])).reshape(2, -1)
    x = gone / order.size
    deletion = np.trapezoid([whole, *between[0], nothing], x)
    insertion = np.trapezoid([nothing, *between[1], whole], x)
    return float(deletion), float(insertion)


def _average(gains: NDArray[np.float64], seed: int) -> Gain:
    from scipy.stats import bootstrap

    found = bootstrap(
        (gains,), np.mean, method="percentile", batch=RESAMPLED, rng=np.random.default_rng(seed)
    )
    interval = found.confidence_interval
    return Gain(float(gains.mean()), (float(interval.low), float(interval.high)))
