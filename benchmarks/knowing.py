"""What models know of themselves, on photos that they have never seen.

    python benchmarks/knowing.py PROJECT TEST_PHOTOS FOREIGN [FOREIGN...]

PROJECT has runs, TEST_PHOTOS one folder of photos a class, FOREIGN folders of anything else. Lines of JSON are
printed: of each run the expected calibration error with and without its temperature, how many of the test photos it
rejects (stated: about 5 %), and the area under the ROC curve of test photos against each foreign folder.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from stockpot.learning.calibration import measure_reliability
from stockpot.learning.models import list_files, load_model
from stockpot.learning.resampling import wilson
from stockpot.learning.runs import read_runs
from stockpot.model.prediction import Predictor, calibrated, softmax
from stockpot.project import open_project

MOST = 1000  # foreign photos of a folder


def main() -> None:
    """Run the benchmark."""
    project, test, *foreign = map(Path, sys.argv[1:])
    for run in read_runs(open_project(project)):
        measure(load_model(run), run.name, test, foreign)


def measure(predictor: Predictor, name: str, test: Path, foreign: list[Path]) -> None:
    """Print a line for one run."""
    files = list_files([test])
    names, model = predictor.model.class_names, predictor.model
    assert model.rejection, f"{name} was trained before models could say no: train it again"
    features, truth = see(predictor, files), np.array([names.index(file.parent.name) for file in files])
    logits = predictor.logits(features)
    right = logits.argmax(axis=1) == truth
    errors = {
        which: measure_reliability(given.max(axis=1), right).error
        for which, given in (("before", softmax(logits)), ("after", calibrated(logits, model)))
    }
    own = model.rejection.distances(features)
    rejected = own > model.rejection.threshold
    low, high = wilson(rejected)
    row = {
        "run": name,
        "n": len(files),
        "temperature": round(model.calibration.temperature, 3),
        "held_out": model.calibration.held_out,
        "calibration_error": {which: round(value, 4) for which, value in errors.items()},
        "rejected": int(rejected.sum()),
        "rate": round(float(rejected.mean()), 4),
        "interval": [round(low, 4), round(high, 4)],
        "auroc": {},
    }
    for folder in foreign:
        others = model.rejection.distances(see(predictor, list_files([folder])[:MOST]))
        strange = np.r_[np.zeros(len(own)), np.ones(len(others))]
        area = roc_auc_score(strange, np.r_[own, others])
        row["auroc"][folder.name] = [round(float(area), 4), len(others)]
    print(json.dumps(row), flush=True)


def see(predictor: Predictor, files: list[Path]) -> np.ndarray:
    """Return the features of files that can be read."""
    seen = (answer for _, answer in predictor.stream(files))
    return np.stack([answer for answer in seen if isinstance(answer, np.ndarray)])


if __name__ == "__main__":
    main()
