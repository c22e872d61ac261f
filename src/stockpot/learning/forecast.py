"""How long a recipe will take here: a few steps are measured, the rest is arithmetic.

`n` photos of a measured batch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones.graph import ensure_graph
from stockpot.learning.checkpoint import checkpoint_of
from stockpot.learning.classifier import Classifier
from stockpot.learning.devices import find_device, frozen_engine
from stockpot.learning.features import missing_features
from stockpot.learning.fitting import fit, measure
from stockpot.learning.inputs import AT_ONCE, SMALL, Inputs, fixed, from_photos, read_pixels
from stockpot.learning.knowing import FOLDS
from stockpot.learning.prefixes import Variation, graph_before, missing_views
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import find_run, run_folder
from stockpot.learning.starting import check_unseen, learns_alone, start_classifier
from stockpot.model.engine import BATCH_SIZE, Engine
from stockpot.photos.preprocessing import Preprocessing
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, in_words, silent

FINISHING_SECONDS = 1.0, 0.12  # exporting the tuned network and checking it: at least, and a convolution
REPEATS = 3  # of which the fastest counts; the first one also prepares the kernels


@dataclass(frozen=True)
class Forecast:
    """Seconds that a training will take here."""

    preparing: float  # what is computed once, before the epochs or after them
    learning: float  # all epochs

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.preparing + self.learning

    def __str__(self) -> str:
        """Return it in words."""
        return f"about {in_words(self.seconds)}"


def forecast(
    project: Path | str,
    recipe: Recipe,
    name: str | None = None,
    progress: Progress = silent,
    device: str = "auto",
    resume: bool = False,
) -> Forecast:
    """Return how long `train` would take; what is cached or in a checkpoint does not count.

    Graphs that are exported on the way stay for the training.

    Raises:
        What `train` raises before it learns.
    """
    opened, where = disk.open_project(project), find_device(device)
    with opened.writing():
        sides = split(opened.folder, progress=progress)
        done = find_run(opened, recipe.to_json(), sides.fingerprint, name)
        if done and not (resume and done.interrupted):
            return Forecast(0.0, 0.0)
        folder = (
            done.folder
            if done
            else run_folder(opened, recipe.to_json(), sides.fingerprint, recipe.usual_name, name)
        )
        check_unseen(recipe, sides)
        classifier = start_classifier(recipe, sides.class_names, progress)
        if recipe.trainable == "head":
            whole = _of_head(opened, recipe, sides, classifier, where, progress)
        elif recipe.trainable == "all":
            whole = _of_all(recipe, sides, classifier, where)
        else:
            whole = _of_tail(opened, recipe, sides, classifier, where, progress)
        left = recipe.epochs - checkpoint_of(folder, recipe, sides).epochs()
        return replace(whole, learning=whole.learning * left / recipe.epochs)


def _of_head(
    opened: disk.Project,
    recipe: Recipe,
    sides: Split,
    classifier: Classifier,
    device: torch.device,
    progress: Progress,
) -> Forecast:
    backbone = classifier.backbone
    missing = missing_features(opened, sides.training + sides.validation, backbone.key)
    preparing = 0.0
    if missing:
        graph = ensure_graph(opened.graphs, backbone.key, lambda: backbone, progress)
        preparing = missing * _seconds_a_photo(frozen_engine(graph, backbone, device), recipe.image_size)
    some = torch.randn(len(sides.training), backbone.num_features)
    learning, _ = _learning(classifier.head, _one_class(some), recipe, sides)
    calibrating = (FOLDS - 1) * learning if learns_alone(recipe) else 0.0  # once more without each fold
    return Forecast(preparing + calibrating, learning)


def _of_all(recipe: Recipe, sides: Split, classifier: Classifier, device: torch.device) -> Forecast:
    classifier.unfreeze().to(device).to(memory_format=torch.channels_last)
    size = recipe.image_size
    count = recipe.batch_size if size <= SMALL else AT_ONCE
    pixels = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)
    inputs = from_photos(pixels, torch.zeros(count, dtype=torch.long), recipe)
    reading = _reading_seconds(sides, classifier.backbone.preprocessing)
    learning, once_more = _learning(classifier, inputs, recipe, sides)
    return Forecast(reading + _finishing_seconds(classifier) + once_more, learning)


def _of_tail(
    opened: disk.Project,
    recipe: Recipe,
    sides: Split,
    classifier: Classifier,
    device: torch.device,
    progress: Progress,
) -> Forecast:
    backbone = classifier.backbone
    before, tail = classifier.freeze_before(recipe.trainable)
    key, graph = graph_before(opened, backbone, recipe.trainable, before, progress)
    views = missing_views(
        opened, sides.training, Variation(recipe.augment, recipe.views, recipe.seed), key
    ) + missing_views(opened, sides.validation, Variation(recipe.augment, 1, recipe.seed), key)
    size = recipe.image_size
    photos = len(sides.training) + len(sides.validation)  # each goes through it once more at the end
    preparing = (views + photos) * _seconds_a_photo(frozen_engine(graph, before, device), size)
    preparing += _reading_seconds(sides, backbone.preprocessing) + _finishing_seconds(classifier)
    with torch.no_grad():
        maps = before(torch.randint(0, 256, (AT_ONCE, size, size, 3), dtype=torch.uint8))
    tail.to(device).to(memory_format=torch.channels_last)
    learning, once_more = _learning(tail, _one_class(maps), recipe, sides)
    return Forecast(preparing + once_more, learning)


def _one_class(inputs: Tensor) -> Inputs:
    return fixed(inputs, torch.zeros(len(inputs), dtype=torch.long))


def _learning(module: nn.Module, inputs: Inputs, recipe: Recipe, sides: Split) -> tuple[float, float]:
    """Return the seconds of all epochs, and of a look at all photos after them.

    From one epoch on a few photos after another that warms up.
    """
    n = len(inputs.labels)
    learning = fit(module, inputs, inputs, replace(recipe, epochs=2))[-1].seconds / n
    looking = _fastest(lambda: measure(module, inputs)) / n
    an_epoch = (learning - looking) * len(sides.training) + looking * len(sides.validation)
    return recipe.epochs * an_epoch, looking * (len(sides.training) + len(sides.validation))


def _finishing_seconds(classifier: Classifier) -> float:
    """Return the seconds for exporting and checking: it is the number of layers that costs, not their size."""
    at_least, a_layer = FINISHING_SECONDS
    return at_least + a_layer * sum(isinstance(layer, nn.Conv2d) for layer in classifier.modules())


def _reading_seconds(sides: Split, preprocessing: Preprocessing) -> float:
    """Return the seconds for decoding all photos, from a few of them."""
    photos = sides.training + sides.validation
    some = photos[:: max(1, len(photos) // 16)]
    started = time.perf_counter()
    read_pixels(some, preprocessing)
    return (time.perf_counter() - started) / len(some) * len(photos)


def _seconds_a_photo(engine: Engine, size: int) -> float:
    pixels = np.zeros((BATCH_SIZE, size, size, 3), np.uint8)
    return _fastest(lambda: engine.run(pixels)) / BATCH_SIZE


def _fastest(work: Callable[[], object]) -> float:
    """Return the shortest of a few times; the first one warms up."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
