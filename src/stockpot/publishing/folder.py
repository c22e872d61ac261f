"""A folder that timm, transformers and ONNX Runtime read, with a model card."""

import csv
import io
from pathlib import Path
from typing import Any

from stockpot import project as disk
from stockpot.errors import ProjectError, WrongUse
from stockpot.explanation.explanation import explain
from stockpot.learning.models import project_of
from stockpot.model.model_file import ModelFile
from stockpot.model.prediction import Predictor
from stockpot.photos.intake import read_origins
from stockpot.photos.photo import fingerprint
from stockpot.photos.samples import ATTRIBUTION, is_sample
from stockpot.progress import Progress
from stockpot.publishing.card import EXAMPLE, NAME, Example, model_card
from stockpot.publishing.export import export

FILES = (NAME, EXAMPLE, "model.onnx", "config.json", "model.safetensors")


def write_folder(
    folder: Path, predictor: Predictor, name: str, example: Path | None, progress: Progress
) -> None:
    """Fill a folder; it gets all files or none.

    Args:
        folder: empty, or not there.
        predictor: the model.
        name: it is called so on the card.
        example: a photo that the card shows.
        progress: told what is left out.

    Raises:
        WrongUse: the folder holds something.
        ModelError: what was written computes something else.
        UnreadablePhoto: the example is not a picture that can be decoded.
        FolderError: the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or not all(map(disk.is_rest, folder.iterdir()))):
        raise WrongUse(f"{folder} holds something already: give a new folder, so that nothing is lost.")
    with disk.filling(folder) as inner:
        fill(inner, predictor, name, example, progress)


def fill(folder: Path, predictor: Predictor, name: str, example: Path | None, progress: Progress) -> None:
    """Write all files into an existing folder; arguments and errors as `write_folder`."""
    from stockpot.publishing.timm_folder import timm_remedy, write_timm_folder

    model = predictor.model
    project = project_of(model)
    shown = _show(predictor, example, folder / EXAMPLE, project) if example else None
    export(predictor, folder / "model.onnx", progress)
    remedy = timm_remedy(model)
    if remedy:
        progress(f"no files for timm, only ONNX: {remedy}", 0, 0)
    else:
        write_timm_folder(predictor, folder)
    learned = set(model.learned_from)
    origins = [row for sha256, row in _origins(project).items() if sha256[:12] in learned]
    disk.write_bytes(
        folder / NAME, model_card(name, model, origins, shown, remedy).encode("utf-8", "replace")
    )


def surest_photo(model: ModelFile) -> Path | None:
    """Return the validation photo that a model is right about and surest of; None where it is in no project."""
    project, table = project_of(model), model.path.parent / "predictions.csv"
    if project is None or not table.exists():
        return None
    try:
        text = io.StringIO(disk.read_bytes(table).decode("utf-8", "surrogateescape"), newline="")
        rows = [row for row in csv.DictReader(text) if row["truth"] == row["label"]]
        rows.sort(key=lambda row: -float(row["probability"]))
        return next(filter(None, (_within(project, row["path"]) for row in rows)), None)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ProjectError(f"{table} cannot be read ({error}): train the run again.") from None


def _within(project: disk.Project, name: str) -> Path | None:
    """Return a photo of a project; None where it is gone, or where the name leads out of the project."""
    try:
        place = project.inside(name)
    except ProjectError:
        return None
    return place if place.exists() else None


def _show(predictor: Predictor, photo: Path, picture: Path, project: disk.Project | None) -> Example:
    """Write photo and map, and return what the card says of them."""
    why = explain(predictor, photo)
    why.picture().save(picture)
    known = _origins(project).get(fingerprint(photo.read_bytes()), {})
    credit = known.get("attribution") or known.get("licence") or ""
    return Example(why.predicted, why.probability, credit)


def _origins(project: disk.Project | None) -> dict[str, dict[str, Any]]:
    """Return what is known of where a project's photos came from, by sha256."""
    if project is None:
        return {}
    known = {"attribution": ATTRIBUTION} if is_sample(project) else {}
    return {row["sha256"]: {**row, **known} for row in read_origins(project)}
