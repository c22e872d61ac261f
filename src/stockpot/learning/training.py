"""Training: a recipe and a project in, a run out.

`N` photos, `C` channels, `K` classes.
"""

import csv
import io
import json
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones.backbone import Backbone, load_backbone, read_model_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.errors import ModelError
from stockpot.learning.classifier import Classifier
from stockpot.learning.evaluation import Evaluation, evaluate_logits
from stockpot.learning.features import Features, cached_features
from stockpot.learning.freezing import audit_freeze, snapshot
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Checks, Epoch, Run, find_run, read_run, run_folder
from stockpot.model.activation_maps import activation_maps, residual
from stockpot.model.engine import BATCH_SIZE, available_threads, load_engine
from stockpot.model.model_file import ModelFile, read_model, write_model
from stockpot.model.prediction import softmax
from stockpot.photos.photo import Photo
from stockpot.photos.preprocessing import read_prepared
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, silent

TOLERANCE = 1e-3  # of logits: cached features against the whole torch network
CHECKED_PHOTOS = 4  # go through the whole torch network when a run is saved


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
    backbone = load_backbone(recipe.backbone, recipe.start, recipe.image_size, recipe.resize, progress)
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
    evaluation = evaluate_logits(logits, truth[n:], sides.class_names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").unlink(missing_ok=True)  # incomplete from here to the end
    _write_model(folder, classifier.eval(), sides, recipe, evaluation)
    checks = _check(classifier, read_model(folder / "model.safetensors"), features, sides, logits)
    seconds = {
        "weights and graph": ready - started,
        "features": extracted - ready,
        "head": learned - extracted,
        "saving and checking": time.perf_counter() - learned,
    }
    disk.write_json(folder / "recipe.json", recipe.to_json())
    lines = (json.dumps(asdict(epoch)) for epoch in history)
    disk.write_bytes(folder / "history.jsonl", "".join(f"{line}\n" for line in lines).encode())
    _write_predictions(folder / "predictions.csv", opened, sides, logits)
    disk.write_json(folder / "environment.json", environment())
    result = {
        "split_fingerprint": sides.fingerprint,
        "photos": {"training": n, "validation": len(sides.validation)},
        "validation": evaluation.to_json(),
        "freeze_audit": asdict(audit_freeze(before, classifier)),
        "checks": asdict(checks),
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
    }
    disk.write_json(folder / "evaluation.json", result)
    run = read_run(folder)
    assert run is not None, "evaluation.json was just written"
    return run


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
        for batch in torch.randperm(len(inputs), generator=order).split(recipe.batch_size):
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


def _write_model(
    folder: Path, classifier: Classifier, sides: Split, recipe: Recipe, evaluation: Evaluation
) -> None:
    backbone = classifier.backbone
    model = ModelFile(
        path=folder / "model.safetensors",
        class_names=sides.class_names,
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        preprocessing=backbone.preprocessing,
        recipe=recipe.to_json(),
        metrics={"validation": evaluation.to_json()},
        attribution=backbone.attribution,
        weight=classifier.head.weight.detach().numpy(),
        bias=classifier.head.bias.detach().numpy(),
    )
    write_model(model, {name: tensor.numpy() for name, tensor in backbone.weights().items()})


@torch.no_grad()
def _check(
    classifier: Classifier, model: ModelFile, features: Features, sides: Split, logits: NDArray[np.float32]
) -> Checks:
    """Send validation photos through the trained network and through the file read again.

    Raises:
        ModelError: something differs.
    """
    photos = sides.validation[:CHECKED_PHOTOS]
    pixels = np.stack([read_prepared(photo.path, model.preprocessing) for photo in photos])
    maps, computed = _forward(classifier.backbone, classifier.head, torch.from_numpy(pixels))
    head = nn.Linear(*reversed(model.weight.shape))
    head.load_state_dict({"weight": torch.from_numpy(model.weight), "bias": torch.from_numpy(model.bias)})
    maps_again, computed_again = _forward(read_model_backbone(model), head, torch.from_numpy(pixels))
    first = len(sides.training)
    identity = max(
        residual(activation_maps(features.maps(first + i), model.weight), model.bias, logits[i])
        for i in range(len(logits))
    )
    checks = Checks(
        cached_features=float(np.abs(computed - logits[: len(photos)]).max()),
        reloaded_logits=float(np.abs(computed_again - computed).max()),
        reloaded_maps=float(np.abs(maps_again - maps).max()),
        map_identity=identity,
    )
    if max(checks.cached_features, checks.map_identity) > TOLERANCE or checks.reloaded_logits > 1e-6:
        raise ModelError(f"What was saved is not what was trained ({checks}): free memory, delete cache/, retry.")
    return checks


def _forward(backbone: Backbone, head: nn.Linear, pixels: Tensor) -> tuple[NDArray[np.float32], ...]:
    """Return feature maps `(N, C, h, w)` and logits `(N, K)`."""
    maps = backbone(pixels)
    return maps.numpy(), head(maps.mean(dim=(2, 3))).numpy()


def _write_predictions(path: Path, opened: disk.Project, sides: Split, logits: NDArray[np.float32]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "sha256", "truth", "label", "probability", *sides.class_names])
    for photo, row in zip(sides.validation, softmax(logits), strict=True):
        place = photo.path.relative_to(opened.folder).as_posix()
        label = sides.class_names[int(row.argmax())]
        figures = [f"{value:.6f}" for value in (row.max(), *row)]
        writer.writerow([place, photo.sha256, photo.label, label, *figures])
    disk.write_bytes(path, text.getvalue().encode())


def environment() -> dict[str, object]:
    """Return what a run's bits depend on besides its recipe and photos."""
    packages = ("stockpot", "torch", "onnxruntime", "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "device": "cpu",
        "engine": "onnxruntime CPU",
        "threads": available_threads(),
        "torch_threads": torch.get_num_threads(),
        "batch_size": BATCH_SIZE,
        "versions": {name: version(name) for name in packages},
    }
