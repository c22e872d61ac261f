"""Training: a recipe and a project in, a run out.

`N` photos, `C` channels, `K` classes.
"""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones.backbone import Backbone, load_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.learning.classifier import Classifier
from stockpot.learning.evaluation import evaluate_logits
from stockpot.learning.features import cached_features
from stockpot.learning.freezing import audit_freeze, snapshot
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Epoch, Run, find_run, run_folder
from stockpot.learning.saving import Trained, save_run
from stockpot.model.engine import load_engine
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, silent


def train(
    project: Path | str, recipe: Recipe | None = None, name: str | None = None, progress: Progress = silent
) -> Run:
    """Train a new head on the pooled features of a frozen backbone, and keep the run.

    Args:
        project: a project folder; it is split first if it is not.
        recipe: what to do; `Recipe.linear_probe()` by default.
        name: of the run's folder, `probe` by default. A completed run of this recipe on this split is
            returned as it is.
        progress: told what is being done and how far it is.

    Returns:
        The run, complete on disk.

    Raises:
        ProjectError, PhotoError: no project, or photos that no classifier can be made of.
        RecipeError: the name belongs to another recipe, or a field cannot be carried out.
        WeightsError: the backbone's weights cannot be had.
        ModelError: what was saved is not what was trained.
        Busy, FolderError: the project cannot be written.
    """
    recipe = recipe or Recipe.linear_probe()
    opened = disk.open_project(project)
    with opened.writing():
        sides = split(opened.folder, progress=progress)
        if done := find_run(opened, recipe.to_json(), sides.fingerprint, name):
            return done
        folder = run_folder(opened, recipe.to_json(), name)
        return _train(opened, recipe, sides, folder, progress)


def _train(opened: disk.Project, recipe: Recipe, sides: Split, folder: Path, progress: Progress) -> Run:
    started = time.perf_counter()
    backbone = _find_backbone(recipe, progress)
    graph = ensure_graph(opened.graphs, backbone.key, lambda: backbone, progress)
    ready = time.perf_counter()
    photos = (*sides.training, *sides.validation)
    features = cached_features(
        opened, photos, backbone.key, backbone.preprocessing, lambda: load_engine(graph), progress
    )
    extracted = time.perf_counter()

    classifier = Classifier(backbone, len(sides.class_names), recipe.seed).freeze_backbone().train()
    before = snapshot(classifier)
    truth = _truth(photos, sides.class_names)
    n = len(sides.training)
    x, y = torch.from_numpy(features.pooled), torch.from_numpy(truth)
    history = []
    for epoch in fit(classifier.head, (x[:n], y[:n]), (x[n:], y[n:]), recipe):
        history.append(epoch)
        progress("training the head", epoch.number, recipe.epochs)
    learned = time.perf_counter()

    with torch.no_grad():
        logits = classifier.head(x[n:]).numpy()
    trained = Trained(
        classifier=classifier.eval(),
        recipe=recipe,
        split=sides,
        history=tuple(history),
        logits=logits,
        evaluation=evaluate_logits(logits, truth[n:], sides.class_names),
        audit=audit_freeze(before, classifier),
        seconds={
            "weights and graph": ready - started,
            "features": extracted - ready,
            "head": learned - extracted,
        },
    )
    return save_run(folder, opened, trained, features)


def _find_backbone(recipe: Recipe, progress: Progress) -> Backbone:
    if isinstance(recipe.backbone, str):
        return load_backbone(recipe.backbone, recipe.start, recipe.image_size, recipe.resize, progress)
    return copy.deepcopy(recipe.backbone).eval()  # freezing must not reach the user's own module


def fit(
    module: nn.Module, training: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], recipe: Recipe
) -> Iterator[Epoch]:
    """Train a module with AdamW and a learning rate that falls along half a cosine; yield every epoch.

    Args:
        module: gives logits `(N, K)`; those of its parameters that require gradients learn.
        training: inputs `(N, ...)` and labels `(N,)`.
        validation: likewise; looked at after every epoch, never learned from.
        recipe: epochs, batch size, learning rate, weight decay, and the seed of the order.
    """
    inputs, labels = training
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(inputs) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.Generator().manual_seed(recipe.seed)
    for number in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        for batch in torch.split(torch.randperm(len(inputs), generator=order), recipe.batch_size):
            lr = optimizer.param_groups[0]["lr"]
            optimizer.zero_grad()
            F.cross_entropy(module(inputs[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        seconds = time.perf_counter() - started
        yield Epoch(number, *_figures(module, training), *_figures(module, validation), lr, seconds)


@torch.no_grad()
def _figures(module: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy."""
    logits = module(data[0])
    loss = float(F.cross_entropy(logits, data[1]))
    return loss, float((logits.argmax(dim=1) == data[1]).float().mean())


def _truth(photos: Sequence[Photo], class_names: tuple[str, ...]) -> NDArray[np.int64]:
    index = {name: k for k, name in enumerate(class_names)}
    return np.array([index[photo.label] for photo in photos], dtype=np.int64)
