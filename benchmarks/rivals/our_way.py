"""Our own way, as a process that takes turns with the others."""

import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from worker import serve

from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.learning.features import cached_features
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import AT_ONCE, Inputs, fixed
from stockpot.learning.live_head import LiveHead
from stockpot.learning.models import load_model
from stockpot.learning.recipes import Recipe
from stockpot.learning.starting import start_classifier
from stockpot.learning.training import train
from stockpot.model.activation_maps import activation_maps
from stockpot.model.engine import BATCH_SIZE, load_engine
from stockpot.photos.splits import split
from stockpot.project import open_project

state: dict[str, Any] = {}


def load(project: str) -> None:
    """Export the backbone into a project's cache, and load it."""
    backbone = load_backbone("xception")
    graph = ensure_graph(open_project(project).graphs, backbone.key, lambda: backbone)
    state["engine"] = load_engine(graph)


def forward(count: int) -> dict[str, float]:
    """Send noise photos through the engine, after one batch that warms up."""
    photos = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, 256, 256, 3), dtype=np.uint8)
    state["engine"].run(photos)
    started = time.perf_counter()
    for _ in range(count // BATCH_SIZE):
        state["engine"].run(photos)
    return {"rate": count / (time.perf_counter() - started)}


def step(count: int, trainable: str = "all", precision: str = "fastest") -> dict[str, Any]:
    """Fine-tune on noise photos, or on what frozen blocks made of them before; the first epoch warms up."""
    recipe = Recipe.linear_probe(trainable=trainable, epochs=2, learning_rate=1e-5, precision=precision)
    classifier = start_classifier(recipe, ("a", "b", "c"))
    given = torch.randint(0, 256, (count, 256, 256, 3), dtype=torch.uint8)
    module = classifier.unfreeze()
    if trainable != "all":
        before, module = classifier.freeze_before(trainable)
        with torch.no_grad():
            given = torch.cat([before(some) for some in given.split(AT_ONCE)])
    module.to(memory_format=torch.channels_last)
    inputs = Inputs(torch.arange(count) % 3, lambda rows, _: given[rows], AT_ONCE)
    return {"rate": count / fit(module, inputs, fixed(given[:1], inputs.labels[:1]), recipe)[-1].seconds}


def frozen(project: str, epochs: int) -> dict[str, Any]:
    """Train a probe in a project whose photos are indexed and split; missing features are computed."""
    run = train(project, Recipe.linear_probe(epochs=epochs))
    return {"stages": run.seconds, "accuracy": run.evaluation.accuracy, "loss": run.evaluation.loss}


def tail(project: str) -> dict[str, Any]:
    """Train a probe and fine-tune its last blocks by the usual recipe."""
    run = train(project, Recipe.fine_tune(train(project, Recipe.linear_probe()), "block12"))
    history = [vars(epoch) for epoch in run.history]
    return {
        "stages": run.seconds,
        "accuracy": run.evaluation.accuracy,
        "loss": run.evaluation.loss,
        "history": history,
    }


def predict(project: str) -> dict[str, Any]:
    """Classify all photos as they lie on disk."""
    sides = split(project)
    predictor = load_model(project)
    answers = predictor.predict(photo.path for photo in sides.training + sides.validation)
    return {"photos": sum(not answer.error for answer in answers)}


def head(project: str, changes: int) -> dict[str, Any]:
    """Take one photo after another out of the live head, and look at its accuracy after each."""
    features, labels, groups = _features(project)
    names = [str(row) for row in range(len(labels))]
    classes = sorted(set(labels))
    started = time.perf_counter()
    live = LiveHead(names, features.pooled, labels, groups, classes)
    fitted = time.perf_counter() - started
    seconds = []
    for name in names[:: len(names) // changes][:changes]:
        started = time.perf_counter()
        live.remove([name])
        right = live.right()
        seconds.append(time.perf_counter() - started)
    accuracy = sum(right.values()) / len(right)
    return {"fit": fitted, "update": float(np.median(seconds)), "slowest": max(seconds), "accuracy": accuracy}


def maps(project: str, count: int) -> dict[str, float]:
    """Compute maps of all classes from the cache and enlarge them to 256 x 256, photo after photo."""
    features, labels, _ = _features(project)
    weight = np.random.default_rng(0).standard_normal((len(set(labels)), 2048)).astype(np.float32)
    seconds = []
    for row in range(count):
        started = time.perf_counter()
        for cam in activation_maps(features.maps(row), weight):
            Image.fromarray(cam).resize((256, 256), Image.Resampling.BILINEAR)
        seconds.append(time.perf_counter() - started)
    return {"cached": float(np.median(seconds)), "uncached": _uncached(weight, count)}


def _uncached(weight: np.ndarray, count: int) -> float:
    photos = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    seconds = []
    for _ in range(min(count, 16)):
        started = time.perf_counter()
        for cam in activation_maps(state["engine"].run(photos)[1][0], weight):
            Image.fromarray(cam).resize((256, 256), Image.Resampling.BILINEAR)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _features(project: str) -> tuple[Any, list[str], list[str]]:
    sides = split(project)
    photos = sides.training + sides.validation
    backbone = load_backbone("xception")
    features = cached_features(
        open_project(project), photos, backbone.key, backbone.preprocessing, lambda: state["engine"]
    )
    return features, [photo.label for photo in photos], [photo.group for photo in photos]


if __name__ == "__main__":
    serve(
        {
            "load": load,
            "forward": forward,
            "step": step,
            "frozen": frozen,
            "tail": tail,
            "predict": predict,
            "head": head,
            "maps": maps,
        }
    )
