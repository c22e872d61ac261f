"""How long the frozen phase takes beside one bare forward pass over the same photos, and its memory.

    python benchmarks/frozen_phase.py PHOTOS [TEST_PHOTOS]

PHOTOS and TEST_PHOTOS hold one folder of photos a class. A project is made in a temporary folder. Printed as
JSON: a first study with everything it has to do once, then a second one with the ONNX graph kept, and the bare
pass; seconds by stage, photos a second, the largest RssAnon of /proc while features were computed, the accuracy
over ten splits, and the time of `stockpot --help`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stockpot.learning.models import evaluate, load_model
from stockpot.learning.training import train
from stockpot.photos.preprocessing import read_prepared
from stockpot.photos.splits import split
from stockpot.studies import study


def anonymous_megabytes() -> float:
    """Return this process's anonymous memory."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("RssAnon:")[1].split()[0]) / 1024


def measured_study(project: Path, photos: Path) -> dict[str, object]:
    """Run a study in this process and return its figures."""
    peak: dict[str, float] = {}

    def sample(stage: str, done: int, total: int) -> None:
        peak[stage] = max(peak.get(stage, 0.0), anonymous_megabytes())

    started = time.perf_counter()
    result = study(project, photos, ["probe"], progress=sample)
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "stages": result.run.seconds,
        "anonymous_megabytes": {stage: round(value) for stage, value in peak.items()},
        "accuracy": result.run.evaluation.accuracy,
        "interval": result.run.evaluation.interval,
        "n": result.run.evaluation.n,
        "map_identity": result.run.checks.map_identity,
    }


def bare_forward(project: Path) -> dict[str, float]:
    """Send all photos, prepared beforehand, through the engine and do nothing else."""
    predictor = load_model(project)
    sides = split(project)
    photos = (*sides.training, *sides.validation)
    pixels = np.stack([read_prepared(photo.path, predictor.model.preprocessing) for photo in photos])
    predictor.engine.run(pixels[:8])
    started = time.perf_counter()
    for start in range(0, len(pixels), 8):
        predictor.engine.run(pixels[start : start + 8])
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "photos_per_second": round(len(pixels) / seconds, 2)}


def spread(project: Path, seeds: int = 10) -> dict[str, float]:
    """Return mean and standard deviation of the validation accuracy over splits of other seeds."""
    accuracies = []
    for seed in range(seeds):
        split(project, seed=seed)
        accuracies.append(train(project).evaluation.accuracy)
    deviation = float(np.std(accuracies, ddof=1))
    return {"splits": seeds, "mean": float(np.mean(accuracies)), "standard_deviation": deviation}


def help_seconds(runs: int = 5) -> float:
    """Return the median time of `stockpot --help` as a whole process."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "stockpot", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return round(float(np.median(seconds)), 2)


def in_own_process(task: str, *arguments: object) -> object:
    """Run a task in a fresh process, so that its memory is its own."""
    command = [sys.executable, __file__, task, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Run all, or one task of a fresh process."""
    if sys.argv[1] == "study":
        print(json.dumps(measured_study(Path(sys.argv[2]), Path(sys.argv[3]))))
    elif sys.argv[1] == "forward":
        print(json.dumps(bare_forward(Path(sys.argv[2]))))
    elif sys.argv[1] == "spread":
        print(json.dumps(spread(Path(sys.argv[2]))))
    else:
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder) / "project"
            result = {"first": in_own_process("study", project, sys.argv[1])}
            result["unchanged"] = in_own_process("study", project, sys.argv[1])
            shutil.rmtree(project / "runs")
            shutil.rmtree(project / "cache" / "features")
            result["graph kept"] = in_own_process("study", project, sys.argv[1])
            result["bare forward"] = in_own_process("forward", project)
            if len(sys.argv) > 2:
                started = time.perf_counter()
                test, _ = evaluate(project, sys.argv[2])
                seconds = round(time.perf_counter() - started, 1)
                result["test"] = {
                    "accuracy": test.accuracy,
                    "interval": test.interval,
                    "n": test.n,
                    "seconds": seconds,
                }
            result["ten splits"] = in_own_process("spread", project)
        result["help"] = {"seconds": help_seconds()}
        print(json.dumps(result, indent=1))


main()
