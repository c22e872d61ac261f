"""Our own way, as a process that takes turns with the others."""

import shutil
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from worker import serve

from stockpot.backbones.backbone import Backbone, load_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.learning.classifier import new_head
from stockpot.learning.features import Features, cached_features
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import AT_ONCE, SMALL, Inputs, fixed
from stockpot.learning.live_head import LiveHead
from stockpot.learning.models import load_model
from stockpot.learning.precision import precision_of
from stockpot.learning.recipes import Recipe
from stockpot.learning.starting import start_classifier
from stockpot.learning.training import train
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import BATCH_SIZE, Engine, load_engine
from stockpot.photos.intake import bring_in
from stockpot.photos.splits import Split, split
from stockpot.project import open_project
from stockpot.studies import study

state: dict[str, Any] = {}


def load(project: str) -> None:
    """Export the backbone into a project's cache, if it is not there."""
    state["project"] = open_project(project)
    ensure_graph(state["project"].graphs, _backbone().key, _backbone)


def _backbone() -> Backbone:
    if "backbone" not in state:
        state["backbone"] = load_backbone("xception")
    backbone: Backbone = state["backbone"]
    return backbone


def _engine() -> Engine:
    if "engine" not in state:
        state["engine"] = load_engine(ensure_graph(state["project"].graphs, _backbone().key, _backbone))
    engine: Engine = state["engine"]
    return engine


def _noise(count: int, size: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def forward(count: int) -> dict[str, Any]:
    """Send noise photos through the engine, after one batch that warms up."""
    engine, photos = _engine(), _noise(BATCH_SIZE)
    engine.run(photos)
    started = time.perf_counter()
    batches = -(-count // BATCH_SIZE)
    for _ in range(batches):
        engine.run(photos)
    return {"rate": batches * BATCH_SIZE / (time.perf_counter() - started), **_gflop_forward()}


def features(project: str) -> dict[str, Any]:
    """Read all photos of a project, compute their features and maps, and keep them on disk."""
    engine = _engine()
    shutil.rmtree(open_project(project).features, ignore_errors=True)
    started = time.perf_counter()
    _, sides = _cached(project, engine)
    seconds = time.perf_counter() - started
    return {"rate": len(sides.training + sides.validation) / seconds, **_gflop_forward()}


def _gflop_forward() -> dict[str, Any]:
    """Return what one photo costs, and the precision it is computed in."""
    if "gflop" not in state:
        state["gflop"] = _gflop(_backbone(), torch.from_numpy(_noise(1)))
    return {"gflop": state["gflop"], "precision": "float32"}


@torch.no_grad()
def _gflop(module: nn.Module, given: Tensor) -> float:
    """Return the GFLOP of one input forward, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        module.eval()(given[:1])
    return counter.get_total_flops() / 1e9


def step(count: int, precision: str, trainable: str = "all", backbone: str = "xception") -> dict[str, Any]:
    """Fine-tune on noise photos, or on what frozen blocks made of them before; the first epoch warms up.

    The small network starts from scratch: BatchNorm in training mode, all photos of a batch at once.
    """
    changes: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-5, "precision": precision}
    if backbone == "cifar":
        recipe = Recipe.from_scratch(**changes)
    else:
        recipe = Recipe.linear_probe(backbone, trainable=trainable, **changes)
    classifier = start_classifier(recipe, ("a", "b", "c"))
    given = torch.from_numpy(_noise(count, recipe.image_size))
    module: nn.Module = classifier.unfreeze()
    if trainable != "all":
        before, module = classifier.freeze_before(trainable)
        with torch.no_grad():
            given = torch.cat([before(some) for some in given.split(AT_ONCE)])
    module.to(memory_format=torch.channels_last)
    gflop = 3 * _gflop(
        module, given
    )  # gradients of weights and of inputs, the first layer's too, as much again
    at_once = 0 if recipe.image_size <= SMALL else AT_ONCE
    inputs = Inputs(torch.arange(count) % 3, lambda rows, _: given[rows], at_once)
    one = Inputs(inputs.labels[:1], lambda rows, _: given[:1])
    seconds = fit(module, inputs, one, recipe)[-1].seconds
    return {"rate": count / seconds, "gflop": gflop, "precision": precision_of(recipe, module)}


def frozen(project: str, epochs: int) -> dict[str, Any]:
    """Train a probe in a project whose photos are indexed and split; missing features are computed."""
    run = train(project, Recipe.linear_probe(epochs=epochs))
    return {"accuracy": run.evaluation.accuracy, "loss": run.evaluation.loss}


def tune(project: str, trainable: str) -> dict[str, Any]:
    """Train a probe and fine-tune some or all layers by the usual recipe."""
    probe = train(project, Recipe.linear_probe())
    run = train(project, Recipe.fine_tune(probe, trainable))
    history = [vars(epoch) for epoch in run.history]
    figures = {"accuracy": run.evaluation.accuracy, "loss": run.evaluation.loss, "stages": run.seconds}
    return figures | {"head_loss": probe.evaluation.loss, "history": history}


def grown(project: str, epochs: int) -> dict[str, Any]:
    """Split a new project and train a probe in it; seconds by stage."""
    started = time.perf_counter()
    split(project)
    seconds = time.perf_counter() - started
    run = train(project, Recipe.linear_probe(epochs=epochs))
    return {"stages": {"reading, hashing, near duplicates": seconds} | run.seconds}


def once(photos: str, folder: str) -> dict[str, Any]:
    """Make a new project and its first probe; seconds by stage."""
    project = Path(folder) / "new"
    shutil.rmtree(project, ignore_errors=True)
    seconds = {}

    def lap(stage: str, started: float) -> float:
        now = time.perf_counter()
        seconds[stage] = now - started
        return now

    now = time.perf_counter()
    bring_in(project, photos)
    now = lap("copying photos", now)
    split(project)
    now = lap("reading, hashing, near duplicates, split", now)
    ensure_graph(open_project(project).graphs, _backbone().key, _backbone)
    now = lap("exporting the graph", now)
    train(project)
    now = lap("features, head, checks", now)
    study(project, recipes=["probe"])
    lap("cross-validation, learning curve, report", now)
    return {"stages": seconds}


def predict(project: str, count: int) -> dict[str, Any]:
    """Classify photos as they lie on disk, some of them twice to have as many as asked for."""
    sides = split(project)
    predictor = load_model(project)
    paths = islice(cycle(photo.path for photo in sides.training + sides.validation), count)
    assert not any(answer.error for answer in predictor.predict(paths))
    return {}


def refit(project: str, epochs: int) -> dict[str, float]:
    """Train a head again on cached features without the first photo, as `train` does."""
    found, sides = _cached(project, None)
    rows = len(sides.training)
    labels = torch.tensor(
        [sides.class_names.index(photo.label) for photo in sides.training + sides.validation]
    )
    x, recipe = torch.from_numpy(found.pooled), Recipe.linear_probe(epochs=epochs)
    started = time.perf_counter()
    head = new_head(x.shape[1], len(sides.class_names), 0)
    history = fit(head, fixed(x[1:rows], labels[1:rows]), fixed(x[rows:], labels[rows:]), recipe)
    seconds = time.perf_counter() - started
    return {"update_seconds": seconds, "accuracy": history[-1].validation_accuracy}


def head(project: str, changes: int) -> dict[str, Any]:
    """Take one photo after another out of the live head, and look at its left-out accuracy after each."""
    found, sides = _cached(project, None)
    photos = sides.training + sides.validation
    names = [photo.sha256 for photo in photos]
    labels, groups = [photo.label for photo in photos], [photo.group for photo in photos]
    started = time.perf_counter()
    live = LiveHead(names, found.pooled, labels, groups, sides.class_names)
    fitted = time.perf_counter() - started
    seconds = []
    for name in names[:: max(1, len(names) // changes)][:changes]:
        started = time.perf_counter()
        live.remove([name])
        right = live.right()
        seconds.append(time.perf_counter() - started)
    return {
        "first fit, seconds": fitted,
        "update_seconds": float(np.median(seconds)),
        "slowest, seconds": max(seconds),
        "left-out accuracy": sum(right.values()) / len(right),
    }


def cached_maps(project: str, count: int, classes: int) -> dict[str, float]:
    """Compute maps of some classes from the cache and enlarge them to 256 x 256, photo after photo."""
    found, _ = _cached(project, None)
    weight = np.random.default_rng(0).standard_normal((classes, 2048)).astype(np.float32)
    return _seconds_a_map([lambda row=row: found.maps(row) for row in range(count)], weight)


def maps(project: str, count: int, classes: int) -> dict[str, float]:
    """Do the same with the network before it."""
    engine, photos = _engine(), _noise(1)
    weight = np.random.default_rng(0).standard_normal((classes, 2048)).astype(np.float32)
    return _seconds_a_map([lambda: engine.run(photos)[1][0]] * count, weight)


def _seconds_a_map(photos: list[Any], weight: NDArray[np.float32]) -> dict[str, float]:
    seconds = []
    for feature_maps in photos:
        started = time.perf_counter()
        for cam in activation_maps(feature_maps(), weight):
            Image.fromarray(cam).resize((256, 256), Image.Resampling.BILINEAR)
        seconds.append(time.perf_counter() - started)
    return {"seconds_a_map": float(np.median(seconds))}


def _cached(project: str, engine: Engine | None) -> tuple[Features, Split]:
    """Return features of all photos, training photos first; they are computed if they are not there."""
    sides = split(project)
    photos = sides.training + sides.validation
    own = _backbone()
    found = cached_features(
        open_project(project), photos, own.key, own.preprocessing, lambda: engine or _engine()
    )
    return found, sides


if __name__ == "__main__":
    tasks = (
        load,
        forward,
        features,
        step,
        frozen,
        tune,
        grown,
        once,
        predict,
        refit,
        head,
        cached_maps,
        maps,
    )
    serve({task.__name__: task for task in tasks})
