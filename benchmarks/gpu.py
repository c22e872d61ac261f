"""Whether a GPU computes what the processor computes, and how fast: the same trainings on both, side by side.

    python benchmarks/gpu.py PHOTOS [BACKBONE] [--start FILE] [--device cuda] [--epochs 3]

PHOTOS holds one folder of photos a class, FILE the backbone's weights where they cannot be fetched. Projects are
made in a temporary folder. Prints a Markdown table, a row as soon as it is known; a part that fails is a row, too.
Differences are relative: of the largest value, or of each epoch's loss. Training makes rounding grow: "rounding
alone" is how far the processor is from itself with half its threads. `--device cpu` tries the benchmark.
"""

import argparse
import csv
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import stockpot as sp
from stockpot.backbones.catalog import CATALOG
from stockpot.backbones.graph import ensure_graph
from stockpot.learning.devices import find_device, frozen_engine
from stockpot.learning.features import cached_features
from stockpot.learning.inputs import read_pixels
from stockpot.model.engine import BATCH_SIZE, Engine
from stockpot.model.model_file import read_model
from stockpot.photos.intake import bring_in
from stockpot.project import open_project

FORWARD = 64  # photos that go through the frozen network
SECONDS = 2.0  # for which a forward pass is repeated at least


@dataclass(frozen=True)
class Pair:
    """A project computed on the processor and one of the same photos computed on a GPU."""

    folder: Path
    backbone: str
    start: str | None
    devices: tuple[str, str]
    epochs: int

    def project(self, side: int) -> Path:
        """Return the project of a side: 0 is the processor."""
        return self.folder / f"{side}-{self.devices[side]}"

    def train(self, side: int, recipe: sp.Recipe, name: str) -> tuple[sp.Run, str]:
        """Return a run, and what its device needed at most."""
        if self.devices[side] == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run = sp.train(self.project(side), recipe, name, device=self.devices[side])
        used = torch.cuda.max_memory_allocated() / 2**30 if self.devices[side] == "cuda" else 0
        return run, f", {used:.2f} GiB" if used else ""

    def probe(self, side: int) -> sp.Run:
        """Return the trained head of a side."""
        recipe = sp.Recipe.linear_probe(self.backbone, start=self.start)
        return self.train(side, recipe, "probe")[0]

    def tune(self, side: int, trainable: str, precision: str, again: str = "") -> tuple[sp.Run, str]:
        """Return what goes on from the processor's head, on both sides alike."""
        recipe = sp.Recipe.fine_tune(
            self.probe(0), trainable, epochs=self.epochs, precision=precision, keep="last"
        )
        return self.train(side, recipe, f"{trainable}-{precision}{again}")


def main() -> None:
    """Measure every part, whatever becomes of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("backbone", nargs="?", default="efficientnet_lite0", choices=list(CATALOG))
    parser.add_argument("--start")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if given.device == "cuda" else given.device
    row(given.backbone, f"processor, {torch.get_num_threads()} threads", name, "difference")
    row(*["---"] * 4)
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder), given.backbone, given.start, ("cpu", given.device), given.epochs)
        for side in (0, 1):
            bring_in(pair.project(side), given.photos)
        tail = CATALOG[given.backbone].tail
        part("forward", forward, pair)
        part("probe", probe, pair)
        for trainable in (tail, "all"):
            part(f"{trainable}, rounding alone", rounding, pair, trainable)
            for precision in ("float32", "bfloat16"):
                part(f"{trainable} in {precision}", tune, pair, trainable, precision)
                part("its file on the processor", reread, pair, trainable, precision)


def part(what: str, measure: Callable[..., tuple[str, str, str]], *of: Any) -> None:
    """Print what was measured, or why it was not."""
    started = time.perf_counter()
    try:
        cells = measure(*of)
    except Exception as error:  # noqa: BLE001 - the other parts are worth as much
        traceback.print_exc()
        cells = ("", "", f"**failed**: {type(error).__name__}: {str(error).splitlines()[:1]}")
    row(f"{what} ({time.perf_counter() - started:.0f} s)", *cells)


def row(*cells: str) -> None:
    """Print a line of the table."""
    print("|", " | ".join(cells), "|", flush=True)


def forward(pair: Pair) -> tuple[str, str, str]:
    """Compare engines on the same pixels; pooled features before anything is rounded."""
    from stockpot.backbones.backbone import load_backbone

    backbone = load_backbone(pair.backbone, pair.start)
    photos = sp.split(pair.project(0)).training[:FORWARD]
    pixels = read_pixels(photos, backbone.preprocessing).numpy()
    cells, found = [], []
    for side, device in enumerate(pair.devices):
        graph = ensure_graph(open_project(pair.project(side)).graphs, backbone.key, lambda: backbone)
        engine = frozen_engine(graph, backbone, find_device(device))
        rates = [f"{rate(engine, pixels, n):.0f} ({n} at once)" for n in (BATCH_SIZE, 16, FORWARD)]
        cells.append(f"photos a second: {', '.join(rates)}")
        found.append([engine.run(pixels[i : i + BATCH_SIZE]) for i in range(0, len(pixels), BATCH_SIZE)])
    pooled, maps = (
        apart(*(np.concatenate([piece[which] for piece in pieces]) for pieces in found)) for which in (0, 1)
    )
    return cells[0], cells[1], f"features {pooled:.1e}, maps {maps:.1e}"


def rate(engine: Engine, pixels: NDArray[np.uint8], at_once: int) -> float:
    """Return photos a second, from arrays to arrays."""
    pieces = [pixels[i : i + at_once] for i in range(0, len(pixels), at_once)]
    engine.run(pieces[0])
    done, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS:
        for piece in pieces:
            engine.run(piece)
        done += len(pixels)
    return done / seconds


def probe(pair: Pair) -> tuple[str, str, str]:
    """Compare heads, each on features of its own device, which the cache rounds to float16."""
    runs = [pair.probe(side) for side in (0, 1)]
    x, y = (features(pair, side, run) for side, run in enumerate(runs))
    logits = [sp.load_model(run, device="cpu").logits(f) for run, f in zip(runs, (x, y), strict=True)]
    cells = [f"{run.evaluation.accuracy:.1%}, {stages(run)}" for run in runs]
    return cells[0], cells[1], f"features {apart(x, y):.1e}, logits {apart(*logits):.1e}, {proofs(runs[1])}"


def tune(pair: Pair, trainable: str, precision: str) -> tuple[str, str, str]:
    """Compare every epoch's losses with the processor's in float32."""
    (reference, _), (run, memory) = pair.tune(0, trainable, "float32"), pair.tune(1, trainable, precision)
    photos = len(sp.split(pair.project(0)).training)
    cells = []
    for each, more in ((reference, ""), (run, memory)):
        seconds = min(epoch.seconds for epoch in each.history)
        fast = f"{seconds:.2f} s an epoch: {photos / seconds:.0f} photos a second{more}"
        good = f"{each.evaluation.accuracy:.1%}, loss {each.evaluation.loss:.4f}"
        cells.append(f"{good}, {fast}; {stages(each)}")
    if precision != "float32":
        cells[0] = f"as in float32: {cells[0].partition(';')[0]}"
    return cells[0], cells[1], f"losses by epoch {losses_apart(reference, run)}; {proofs(run)}"


def rounding(pair: Pair, trainable: str) -> tuple[str, str, str]:
    """Compare the processor's losses with those of the same training with half its threads."""
    threads = torch.get_num_threads()
    reference, _ = pair.tune(0, trainable, "float32")
    try:
        torch.set_num_threads(max(1, threads // 2))
        again, _ = pair.tune(0, trainable, "float32", "-again")
    finally:
        torch.set_num_threads(threads)
    return f"{again.evaluation.accuracy:.1%}", "", f"losses by epoch {losses_apart(reference, again)}"


def losses_apart(reference: sp.Run, run: sp.Run) -> str:
    """Return the larger difference of training and validation loss, epoch by epoch."""
    losses = [
        np.array([(e.training_loss, e.validation_loss) for e in each.history]) for each in (reference, run)
    ]
    return ", ".join(f"{each:.1e}" for each in np.abs(losses[1] / losses[0] - 1).max(axis=1))


def reread(pair: Pair, trainable: str, precision: str) -> tuple[str, str, str]:
    """Compare what a run said when it was saved with what its file says on the processor."""
    run, _ = pair.tune(1, trainable, precision)
    rows = list(csv.DictReader((run.folder / "predictions.csv").read_text().splitlines()))
    predictor = sp.load_model(run, device="cpu")
    names = predictor.model.class_names
    said = np.array([[float(each[name]) for name in names] for each in rows])
    again = list(predictor.predict(pair.project(1) / each["path"] for each in rows))
    labels = sum(each["label"] != other.label for each, other in zip(rows, again, strict=True))
    far = np.abs(said - np.array([each.probabilities for each in again])).max()
    return "", "", f"{labels} of {len(rows)} labels; probabilities {far:.1e} at most"


def features(pair: Pair, side: int, run: sp.Run) -> NDArray[np.float32]:
    """Return the pooled features that a side has kept of all photos."""
    sides, model = sp.split(pair.project(side)), read_model(run.model_path)

    def no_engine() -> Engine:
        raise AssertionError("all of them are there")

    photos = list(chain(sides.training, sides.validation))
    opened = open_project(pair.project(side))
    return cached_features(opened, photos, model.key, model.preprocessing, no_engine).pooled


def apart(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Return the largest difference as a share of the largest value."""
    return float(np.abs(x - y).max() / np.abs(x).max())


def stages(run: sp.Run) -> str:
    """Return where the seconds of a run went."""
    return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in run.seconds.items())


def proofs(run: sp.Run) -> str:
    """Return what a run has checked of itself; its file gave the same logits, or it would not be there."""
    audit = "passed" if run.audit.passed else f"**failed** {run.audit}"
    return f"freeze audit {audit}; cached logits {run.checks.cached_features:.1e}"


if __name__ == "__main__":
    main()
