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
from stockpot.learning.classifier import Classifier
from stockpot.learning.features import missing_features
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import AT_ONCE, Inputs, fixed, from_photos
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import find_run
from stockpot.learning.starting import start_classifier
from stockpot.model.engine import BATCH_SIZE, load_engine
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, in_words, silent

EXPORT_SECONDS = (
    10.0  # writing and checking a graph and a model; measured for Xception and EfficientNet-Lite0
)
REPEATS = 3  # of which the fastest counts; the first one also prepares the kernels


@dataclass(frozen=True)
class Forecast:
    """Seconds that a training will take here."""

    preparing: float  # what is computed once
    learning: float  # all epochs

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.preparing + self.learning

    def __str__(self) -> str:
        """Return it in words."""
        return f"about {in_words(self.seconds)}"


def forecast(project: Path | str, recipe: Recipe, progress: Progress = silent) -> Forecast:
    """Return how long `train` would take; graphs that it exports on the way stay for the training.

    Raises:
        What `train` raises before it learns.
    """
    opened = disk.open_project(project)
    with opened.writing():
        sides = split(opened.folder, progress=progress)
        done = find_run(opened, recipe.to_json(), sides.fingerprint)
        if done and not done.interrupted:
            return Forecast(0.0, 0.0)
        classifier = start_classifier(recipe, sides.class_names, progress)
        if recipe.trainable == "head":
            return _of_head(opened, recipe, sides, classifier, progress)
        if recipe.trainable == "all":
            return _of_all(recipe, sides, classifier)
        return _of_tail(opened, recipe, sides, classifier, progress)


def _of_head(
    opened: disk.Project, recipe: Recipe, sides: Split, classifier: Classifier, progress: Progress
) -> Forecast:
    backbone = classifier.backbone
    photos = sides.training + sides.validation
    missing = missing_features(opened, photos, backbone.key)
    preparing = 0.0
    if missing:
        graph = ensure_graph(opened.graphs, backbone.key, lambda: backbone, progress)
        preparing = missing * _seconds_a_photo(graph, recipe.image_size)
    some = torch.randn(len(sides.training), backbone.num_features)
    inputs = fixed(some, torch.zeros(len(some), dtype=torch.long))
    learning = _epoch_seconds(classifier.head, inputs, fixed(some[:1], inputs.labels[:1]), recipe)
    return Forecast(preparing, recipe.epochs * learning)


def _of_all(recipe: Recipe, sides: Split, classifier: Classifier) -> Forecast:
    classifier.unfreeze().to(memory_format=torch.channels_last)
    size = recipe.image_size
    count = max(recipe.batch_size, AT_ONCE) if size <= 64 else AT_ONCE
    pixels = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)
    inputs = from_photos(pixels, torch.zeros(count, dtype=torch.long), recipe)
    return Forecast(EXPORT_SECONDS, _learning(classifier, inputs, recipe, sides))


def _of_tail(
    opened: disk.Project, recipe: Recipe, sides: Split, classifier: Classifier, progress: Progress
) -> Forecast:
    before, tail = classifier.freeze_before(recipe.trainable)
    backbone = classifier.backbone
    key = f"{backbone.key}-before-{recipe.trainable}"
    graph = ensure_graph(opened.graphs, key, lambda: backbone, progress, before)
    views = recipe.views * len(sides.training) + len(sides.validation)
    preparing = views * _seconds_a_photo(graph, recipe.image_size) + EXPORT_SECONDS
    size = recipe.image_size
    pixels = torch.randint(0, 256, (AT_ONCE, size, size, 3), dtype=torch.uint8)
    with torch.no_grad():
        maps = before(pixels)
    inputs = fixed(maps, torch.zeros(AT_ONCE, dtype=torch.long))
    return Forecast(preparing, _learning(tail, inputs, recipe, sides))


def _learning(module: nn.Module, inputs: Inputs, recipe: Recipe, sides: Split) -> float:
    """Return the seconds of all epochs, from steps on a few photos in both modes."""
    n = len(inputs.labels)

    def forward() -> Tensor:
        with torch.no_grad():
            return module(inputs.take(torch.arange(n), 0))  # type: ignore[no-any-return]

    def step() -> None:
        module(inputs.take(torch.arange(n), 0)).sum().backward()
        module.zero_grad()

    looking = _fastest(forward) / n * len(sides.validation)
    return recipe.epochs * (_fastest(step) / n * len(sides.training) + looking)


def _epoch_seconds(module: nn.Module, training: Inputs, validation: Inputs, recipe: Recipe) -> float:
    return fit(module, training, validation, replace(recipe, epochs=2))[-1].seconds


def _seconds_a_photo(graph: Path, size: int) -> float:
    engine = load_engine(graph)
    pixels = np.zeros((BATCH_SIZE, size, size, 3), np.uint8)
    return _fastest(lambda: engine.run(pixels)) / BATCH_SIZE


def _fastest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
