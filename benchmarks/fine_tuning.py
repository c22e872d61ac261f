"""What fine-tuning the last blocks gains over its probe, and by which choices.

    python benchmarks/fine_tuning.py choices PHOTOS FOLDER     variants on validation photos, two splits
    python benchmarks/fine_tuning.py seeds PHOTOS FOLDER TEST  five seeds on photos that nothing was chosen by

PHOTOS and TEST hold one folder of photos a class; FOLDER keeps the projects, so that a stopped benchmark goes on.
Lines of JSON are printed. Views before the frozen blocks are kept between variants that share them.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockpot.learning.models import load_model
from stockpot.learning.prefixes import Views
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Run
from stockpot.learning.training import train
from stockpot.photos.index import index_folder
from stockpot.photos.intake import bring_in
from stockpot.photos.splits import split

SPLITS = (0, 1)
SEEDS = 5
VARIANTS: dict[str, dict[str, object]] = {
    "usual": {},
    "not augmented": {"augment": "none", "views": 1},
    "strongly augmented": {"augment": "strong"},
    "two views": {"views": 2},
    "block 13": {"trainable": "block13"},
    "block 14": {"trainable": "block14"},
    "rate / 3": {"learning_rate": 3e-5},
    "rate x 3": {"learning_rate": 3e-4},
    "20 epochs": {"epochs": 20},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "weight decay 0.1": {"weight_decay": 0.1},
}


def choices(photos: Path, folder: Path) -> Iterator[dict[str, object]]:
    """Yield the figures of every variant on every split, beside its probe's."""
    Views.delete = lambda views: None  # type: ignore[method-assign]  # the next variant needs them
    for seed in SPLITS:
        project = folder / f"split-{seed}"
        bring_in(project, photos)
        split(project, seed=seed)
        probe = train(project, Recipe.linear_probe())
        yield {"split": seed, "variant": "probe", **figures(probe)}
        for name, changes in VARIANTS.items():
            recipe = Recipe.fine_tune(probe, **{"trainable": "block12", **changes})
            tail = train(project, recipe, name=name.replace(" ", "-").replace("/", "by"))
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
        "last_loss": last.validation_loss,
        "seconds": round(sum(run.seconds.values())),
    }


def seeds(photos: Path, folder: Path, test: Path) -> Iterator[dict[str, object]]:
    """Yield the test accuracy of probe and tail with every seed, then their paired difference."""
    project = folder / "seeds"
    bring_in(project, photos)
    differences = []
    for seed in range(SEEDS):
        probe = train(project, Recipe.linear_probe(seed=seed), name=f"probe-{seed}")
        tail = train(project, Recipe.fine_tune(probe, "block12", seed=seed), name=f"tail-{seed}")
        right = [right_on(run, test) for run in (probe, tail)]
        differences.append(right[1].astype(float) - right[0])
        accuracies = {"probe": right[0].mean(), "tail": right[1].mean()}
        yield {"seed": seed, "n": len(right[0]), **accuracies, "seconds": sum(tail.seconds.values())}
    by_photo = np.mean(differences, axis=0)
    chance = np.random.default_rng(0)
    means = [chance.choice(by_photo, len(by_photo)).mean() for _ in range(10_000)]
    yield {
        "gain": by_photo.mean(),
        "interval": list(np.percentile(means, [2.5, 97.5])),  # bootstrap over photos
        "by_seed": [difference.mean() for difference in differences],
    }


def right_on(run: Run, folder: Path) -> NDArray[np.bool_]:
    """Return for every photo of a tree of class folders whether a run classifies it correctly."""
    predictor = load_model(run)
    photos = index_folder(folder).photos
    names = np.array(predictor.model.class_names)
    answers = predictor.stream(photo.path for photo in photos)
    logits = np.stack([np.asarray(answer) for _, answer in answers])
    return names[logits.argmax(axis=1)] == np.array([photo.label for photo in photos])


def main() -> None:
    """Run one of the two benchmarks and print a line as soon as it is known."""
    task, *folders = sys.argv[1:]
    started = time.perf_counter()
    for row in {"choices": choices, "seeds": seeds}[task](*map(Path, folders)):
        print(json.dumps(row, default=float), flush=True)
    print(json.dumps({"hours": round((time.perf_counter() - started) / 3600, 2)}))


if __name__ == "__main__":
    main()
