"""What fine-tuning the last blocks gains over its probe, by which choices, and how far it is from all layers.

    python benchmarks/fine_tuning.py choices PHOTOS FOLDER 0            variants on the validation photos of split 0
    python benchmarks/fine_tuning.py seeds PHOTOS FOLDER TEST 0 1 2     probe and tail of some seeds, on test photos
    python benchmarks/fine_tuning.py rates PHOTOS FOLDER cifar          heads at some rates, over ten splits
    python benchmarks/fine_tuning.py whole PHOTOS FOLDER TEST           all layers; needs `seeds ... 0`
    python benchmarks/fine_tuning.py tails PHOTOS FOLDER TEST 0 1       longer and longer tails

PHOTOS and TEST hold one folder of photos a class; FOLDER keeps the projects, so that a stopped benchmark goes on,
and two of them can run side by side. Lines of JSON are printed.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stockpot.backbones.backbone import load_backbone
from stockpot.learning import training
from stockpot.learning.classifier import new_head
from stockpot.learning.features import cached_features
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import fixed
from stockpot.learning.models import load_model
from stockpot.learning.prefixes import Views
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Run
from stockpot.learning.training import train
from stockpot.photos.index import index_folder
from stockpot.photos.intake import bring_in
from stockpot.photos.splits import assign_sides, split
from stockpot.project import open_project

PLAIN = {"learning_rate": 1e-4, "label_smoothing": 0.0}
SMOOTH = {"learning_rate": 1e-4, "label_smoothing": 0.1}
FASTER = {"learning_rate": 3e-4, "label_smoothing": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {  # as they were tried, one after the other
    "usual": PLAIN,
    "float32": {**PLAIN, "precision": "float32"},
    "rate / 3": {**PLAIN, "learning_rate": 3e-5},
    "label smoothing 0.1": SMOOTH,
    "rate / 3, label smoothing 0.1": {**SMOOTH, "learning_rate": 3e-5},
    "strongly augmented": {**SMOOTH, "augment": "strong"},
    "rate x 3": FASTER,
    "rate x 10": {**FASTER, "learning_rate": 1e-3},
    "rate x 3, of the probe too": {**FASTER, "probe_rate": 3e-3},
    "rate x 3, strongly augmented": {**FASTER, "augment": "strong"},
    "rate x 3, block 13": {**FASTER, "trainable": "block13"},
    "rate x 3, not augmented": {**FASTER, "augment": "none", "views": 1},
    "rate x 3, two views": {**FASTER, "views": 2},
    "rate x 3, weight decay 0.1": {**FASTER, "weight_decay": 0.1},
    "rate x 3, 20 epochs": {**FASTER, "epochs": 20},
}

TAILS = ("block12", "block9", "all")


def choices(photos: Path, folder: Path, seed: str, *names: str) -> Iterator[dict[str, object]]:
    """Yield the figures of variants, all of them by default, on one split, beside its probe's."""
    training.forget_views = lambda *but: None  # type: ignore[assignment]
    Views.delete = lambda views: None  # type: ignore[method-assign]  # the next variant needs them
    project = folder / f"split-{seed}"
    bring_in(project, photos)
    split(project, seed=int(seed))
    for name in names or VARIANTS:
        changes = {"trainable": "block12", **VARIANTS[name]}
        probe = train(project, Recipe.linear_probe(learning_rate=changes.pop("probe_rate", 1e-3)))
        yield {"split": seed, "variant": f"probe of {name}", **figures(probe)}
        recipe = Recipe.fine_tune(probe, **changes)
        tail = train(project, recipe, name=name.replace(" ", "-").replace("/", "by").replace(",", ""))
        gain = tail.evaluation.accuracy - probe.evaluation.accuracy
        yield {"split": seed, "variant": name, "gain": gain, **figures(tail)}


def figures(run: Run) -> dict[str, object]:
    """Return what counts of a run; the last epoch's figures were not chosen by."""
    last = run.history[-1]
    return {
        "accuracy": run.evaluation.accuracy,
        "loss": run.evaluation.loss,
        "epoch": run.chosen_epoch,
        "last_accuracy": last.validation_accuracy,
        "last_training_accuracy": last.training_accuracy,
        "last_loss": last.validation_loss,
        "seconds": round(sum(run.seconds.values())),
    }


def seeds(photos: Path, folder: Path, test: Path, *numbers: str) -> Iterator[dict[str, object]]:
    """Yield the test accuracy of probe and tail by seed, then their difference over all seeds that are there."""
    for number in numbers:
        project = folder / f"seed-{number}"
        bring_in(project, photos)
        probe = train(project, Recipe.linear_probe(seed=int(number)))
        tail = train(project, Recipe.fine_tune(probe, "block12", seed=int(number)))
        right = [right_on(run, test) for run in (probe, tail)]
        np.save(folder / f"seed-{number}.npy", right)
        accuracies = {"probe": right[0].mean(), "tail": right[1].mean()}
        yield {"seed": number, "n": len(right[0]), **accuracies, **figures(tail)}
    by_seed = np.stack([np.load(file) for file in sorted(folder.glob("seed-*.npy"))]).astype(float)
    gains = by_seed[:, 1] - by_seed[:, 0]  # (seeds, photos)
    means = by_seed.mean(axis=(0, 2))
    yield {"probe": means[0], "tail": means[1], **paired(gains), "by_seed": list(gains.mean(axis=1))}


def whole(photos: Path, folder: Path, test: Path) -> Iterator[dict[str, object]]:
    """Yield what fine-tuning all layers from the probe of seed 0 reaches, and its difference to the tail."""
    project = folder / "whole"
    bring_in(project, photos)
    probe = train(project, Recipe.linear_probe())
    tuned = train(project, Recipe.fine_tune(probe))
    right = right_on(tuned, test)
    _, tail = np.load(folder / "seed-0.npy")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield {
        "n": len(right),
        "tuned": right.mean(),
        "tail": tail.mean(),
        "memory_gib": memory,
        **figures(tuned),
    }
    yield paired((right.astype(float) - tail)[None])


def tails(photos: Path, folder: Path, test: Path, *numbers: str) -> Iterator[dict[str, object]]:
    """Yield the test accuracy of tails of some lengths by seed, then what they gain over the shortest."""
    right = []  # (seeds, tails, photos)
    for number in numbers:
        project = folder / f"tails-{number}"
        bring_in(project, photos)
        probe = train(project, Recipe.linear_probe(seed=int(number)))
        right.append([])
        for block in TAILS:
            started = time.perf_counter()
            run = train(project, Recipe.fine_tune(probe, block, seed=int(number)), name=f"from-{block}")
            seconds = time.perf_counter() - started
            right[-1].append(right_on(run, test))
            accuracy = right[-1][-1].mean()
            yield {
                "seed": number,
                "from": block,
                "n": right[-1][-1].size,
                "test": accuracy,
                "s": seconds,
                **figures(run),
            }
    every = np.array(right).astype(float)
    for block, by_seed in zip(TAILS, every.swapaxes(0, 1), strict=True):
        yield {"from": block, "test": by_seed.mean(), **paired(by_seed - every[:, 0])}


def rates(photos: Path, folder: Path, name: str = "xception") -> Iterator[dict[str, object]]:
    """Yield what a head on a backbone reaches at some learning rates, over ten splits of all photos."""
    project = folder / "rates"
    bring_in(project, photos)
    train(project, Recipe.linear_probe(name))  # computes the features
    sides = split(project)
    every = sorted(sides.training + sides.validation, key=lambda photo: photo.sha256)
    backbone = load_backbone(name)
    features = cached_features(open_project(project), every, backbone.key, backbone.preprocessing, no_engine)
    x = torch.from_numpy(features.pooled)
    y = torch.tensor([sides.class_names.index(photo.label) for photo in every])
    for rate in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1):
        last = []
        for seed in range(10):
            assigned = assign_sides(every, 0.2, seed, {})
            learned = torch.tensor([assigned[photo.sha256] == "training" for photo in every])
            head = new_head(x.shape[1], len(sides.class_names), seed)
            recipe = Recipe.linear_probe(name, learning_rate=rate, seed=seed)
            last.append(fit(head, fixed(x[learned], y[learned]), fixed(x[~learned], y[~learned]), recipe)[-1])
        accuracies = [epoch.validation_accuracy for epoch in last]
        loss = np.mean([epoch.validation_loss for epoch in last])
        spread = np.std(accuracies, ddof=1)
        figures = {"accuracy": np.mean(accuracies), "deviation": spread, "loss": loss}
        yield {"backbone": name, "rate": rate, **figures}


def no_engine() -> Any:
    """Stand for an engine that is not needed: all features are there."""
    raise AssertionError


def paired(gains: NDArray[np.float64]) -> dict[str, object]:
    """Return the mean of what was gained, by seed and photo, and its 95 % interval (bootstrap over both)."""
    chance = np.random.default_rng(0)
    seeds, photos = gains.shape
    means = [
        gains[np.ix_(chance.integers(seeds, size=seeds), chance.integers(photos, size=photos))].mean()
        for _ in range(10_000)
    ]
    return {"gain": gains.mean(), "interval": list(np.percentile(means, [2.5, 97.5]))}


def right_on(run: Run, folder: Path) -> NDArray[np.bool_]:
    """Return for every photo of a tree of class folders whether a run classifies it correctly."""
    predictor = load_model(run)
    photos = index_folder(folder).photos
    names = np.array(predictor.model.class_names)
    answers = predictor.stream(photo.path for photo in photos)
    logits = predictor.logits(np.stack([np.asarray(answer) for _, answer in answers]))
    return names[logits.argmax(axis=1)] == np.array([photo.label for photo in photos])


def main() -> None:
    """Run one of the benchmarks and print a line as soon as it is known."""
    task, photos, folder, *rest = sys.argv[1:]
    started = time.perf_counter()
    if task == "choices":
        rows = choices(Path(photos), Path(folder), *rest)
    elif task == "rates":
        rows = rates(Path(photos), Path(folder), *rest)
    elif task == "seeds":
        rows = seeds(Path(photos), Path(folder), Path(rest[0]), *rest[1:])
    elif task == "tails":
        rows = tails(Path(photos), Path(folder), Path(rest[0]), *rest[1:])
    elif task == "whole":
        rows = whole(Path(photos), Path(folder), Path(rest[0]))
    else:
        sys.exit(__doc__)
    for row in rows:
        print(json.dumps(row, default=float), flush=True)
    print(json.dumps({"hours": round((time.perf_counter() - started) / 3600, 2)}))


if __name__ == "__main__":
    main()
