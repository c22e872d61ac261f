"""A trained classifier becomes a run on disk, and is checked by reading it again.

`N` photos, `C` channels, `h`, `w` cells of a feature map, `K` classes.
"""

import csv
import io
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones.backbone import Backbone, read_model_backbone
from stockpot.errors import ModelError
from stockpot.learning.classifier import Classifier
from stockpot.learning.compute import Fitted
from stockpot.learning.evaluation import Evaluation
from stockpot.learning.features import Features
from stockpot.learning.freezing import FreezeAudit
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import CHECKED_PHOTOS, Checks, Epoch, Run, read_run
from stockpot.learning.starting import learned_before, photo_id
from stockpot.learning.surroundings import versions
from stockpot.model.activation_maps import activation_maps, residual
from stockpot.model.engine import BATCH_SIZE, available_threads
from stockpot.model.model_file import UNCALIBRATED, Calibration, ModelFile, read_model, write_model
from stockpot.model.prediction import softmax
from stockpot.model.rejection import Rejection
from stockpot.photos.preprocessing import stream_photos
from stockpot.photos.splits import Split

TOLERANCE = 1e-3  # of logits, where they reach 1: cached features against the whole torch network
MAP_TOLERANCE = 1e-4  # of logits: mean of the map + bias against the logit


@dataclass(frozen=True, eq=False)
class Trained:
    """All that a training ends with."""

    classifier: Classifier
    recipe: Recipe
    split: Split
    fitted: Fitted
    chosen_epoch: int  # whose weights the classifier has
    interrupted: bool  # before its last epoch
    stopped: bool  # by Ctrl-C, at whatever epoch
    logits: NDArray[np.float32]  # (N, K), of the validation photos
    evaluation: Evaluation
    audit: FreezeAudit
    seconds: dict[str, float]  # by stage
    calibration: Calibration = UNCALIBRATED
    rejection: Rejection | None = None

    @property
    def history(self) -> tuple[Epoch, ...]:
        """Return the figures of its epochs."""
        return self.fitted.history


def save_run(folder: Path, project: disk.Project, trained: Trained, features: Features) -> Run:
    """Write a run into its folder; `evaluation.json`, written last, makes it complete.

    Args:
        folder: of the run.
        project: its project.
        trained: what is written.
        features: of the validation photos.

    Raises:
        ModelError: the file that was written does not compute what was trained.
        FolderError: the folder cannot be written.
    """
    started = time.perf_counter()
    sides = trained.split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").unlink(missing_ok=True)  # incomplete from here to the end
    for name in ("cross_validation.json", "learning_curve.json"):  # of the run that was here
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "seeds", ignore_errors=True)
    _write_model(folder / "model.safetensors", trained, project.graphs)
    checks = _check(trained, read_model(folder / "model.safetensors"), features)
    disk.write_json(folder / "recipe.json", trained.recipe.to_json())
    lines = [json.dumps(asdict(epoch)) + "\n" for epoch in trained.history]
    disk.write_bytes(folder / "history.jsonl", "".join(lines).encode())
    cooled = trained.logits / np.float32(trained.calibration.temperature)
    write_predictions(folder / "predictions.csv", project, sides, cooled)
    disk.write_json(folder / "environment.json", environment(trained.fitted))
    seconds = trained.seconds | {"saving and checking": time.perf_counter() - started}
    result = {
        "split_fingerprint": sides.fingerprint,
        "photos": {"training": len(sides.training), "validation": len(sides.validation)},
        "validation": trained.evaluation.to_json(),
        "freeze_audit": asdict(trained.audit),
        "checks": asdict(checks),
        "maps": features.all_maps.shape[1:],
        "chosen_epoch": trained.chosen_epoch,
        "interrupted": trained.interrupted,
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
    }
    disk.write_json(folder / "evaluation.json", result)
    run = read_run(folder)
    assert run is not None, "evaluation.json was just written"
    return run


def _write_model(path: Path, trained: Trained, graphs: Path) -> None:
    backbone, head = trained.classifier.backbone, trained.classifier.head
    model = ModelFile(
        path=path,
        class_names=trained.split.class_names,
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        preprocessing=backbone.preprocessing,
        recipe=trained.recipe.to_json(),
        metrics={"validation": trained.evaluation.to_json()},
        attribution=backbone.attribution,
        weight=head.weight.detach().numpy(),
        bias=head.bias.detach().numpy(),
        learned_from=tuple(
            sorted({photo_id(photo) for photo in trained.split.training} | learned_before(trained.recipe))
        ),
        calibration=trained.calibration,
        rejection=trained.rejection,
        versions=versions(),
    )
    graph = b"" if backbone.buildable else (graphs / f"{backbone.key}.onnx").read_bytes()
    write_model(model, {name: tensor.numpy() for name, tensor in backbone.weights().items()}, graph)


@torch.no_grad()
def _check(trained: Trained, model: ModelFile, features: Features) -> Checks:
    """Send validation photos through the trained network and through the file read again.

    Raises:
        ModelError: something differs.
    """
    logits, sides = trained.logits, trained.split
    photos = sides.validation[:CHECKED_PHOTOS]
    pixels = torch.from_numpy(np.stack(list(stream_photos(photos, model.preprocessing))))
    backbone = trained.classifier.backbone
    maps, computed = _forward(backbone, trained.classifier.head, pixels)
    head = nn.Linear(*reversed(model.weight.shape))
    head.load_state_dict({"weight": torch.from_numpy(model.weight), "bias": torch.from_numpy(model.bias)})
    again = read_model_backbone(model, None if backbone.buildable else backbone)
    maps_again, computed_again = _forward(again, head, pixels)
    identity = max(
        residual(activation_maps(features.maps(i), model.weight), model.bias, logits[i])
        for i in range(len(logits))
    )
    checks = Checks(
        cached_features=float(np.abs(computed - logits[: len(photos)]).max()),
        reloaded_logits=float(np.abs(computed_again - computed).max()),
        reloaded_maps=float(np.abs(maps_again - maps).max()),
        map_identity=identity,
    )
    same = checks.reloaded_logits == checks.reloaded_maps == 0
    largest = max(1.0, float(np.abs(logits).max()))
    if not same or checks.cached_features > TOLERANCE * largest or checks.map_identity > MAP_TOLERANCE:
        raise ModelError(
            f"What was saved in {model.path} is not what was trained ({checks}): delete the folder cache/ of "
            f"the project, check the disk, and train again."
        )
    return checks


def _forward(backbone: Backbone, head: nn.Linear, pixels: Tensor) -> tuple[NDArray[np.float32], ...]:
    """Return feature maps `(N, C, h, w)` and logits `(N, K)`."""
    maps = backbone(pixels)
    return maps.numpy(), head(maps.mean(dim=(2, 3))).numpy()


def write_predictions(path: Path, project: disk.Project, sides: Split, logits: NDArray[np.float32]) -> None:
    """Write one row a validation photo: the softmax of logits `(N, K)`, calibrated or as trained, and the truth."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "sha256", "truth", "label", "probability", *sides.class_names])
    for photo, row in zip(sides.validation, softmax(logits), strict=True):
        place = photo.path.relative_to(project.folder).as_posix()
        label = sides.class_names[int(row.argmax())]
        figures = [f"{value:.6f}" for value in (row.max(), *row)]
        writer.writerow([place, photo.sha256, photo.label, label, *figures])
    disk.write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def environment(fitted: Fitted) -> dict[str, object]:
    """Return what a run's bits depend on besides its recipe and photos."""
    return {
        "device": fitted.device,
        "processes": fitted.processes,
        "precision": fitted.precision,
        "engine": "onnxruntime CPU" if fitted.device == "cpu" else f"torch {fitted.device}",
        "threads": available_threads(),
        "batch_size": BATCH_SIZE,
        **fitted.surroundings,
    }
