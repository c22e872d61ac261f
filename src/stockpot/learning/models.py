"""Opening what a MODEL argument means, and using it: predict, evaluate."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from stockpot import project as disk
from stockpot.errors import ModelError, PhotoError
from stockpot.learning.evaluation import Evaluation, evaluate_logits
from stockpot.learning.runs import Run, find_model
from stockpot.model.engine import OnnxEngine, load_engine
from stockpot.model.model_file import ModelFile, read_graph, read_model
from stockpot.model.prediction import Prediction, Predictor
from stockpot.photos.index import Index, index_folder
from stockpot.photos.photo import fingerprint
from stockpot.progress import Progress, silent

Place = Path | str | Run | Predictor


def load_model(
    place: Place, progress: Progress = silent, device: str = "auto", threads: int | None = None
) -> Predictor:
    """Return a model, ready to run.

    Args:
        place: a run, its folder, a model file, or a project (its run with the highest validation accuracy); what is
            loaded already stays as it is.
        progress: told if the backbone has to be exported first.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"mps"`.
        threads: processors to use; all by default.

    Raises:
        ModelError: there is no model, or it is damaged.
        WrongUse: there is no such device here.
    """
    if isinstance(place, Predictor):
        return place
    model = read_place(place)
    engine = model_engine(model, progress, device, threads)
    if engine.channels != model.weight.shape[1]:
        raise ModelError(
            f"{model.path} has a head for {model.weight.shape[1]} channels, and its backbone gives "
            f"{engine.channels}: train again or copy it anew."
        )
    return Predictor(model, engine)


def read_place(place: Place) -> ModelFile:
    """Return what the model file says that a place means; arguments and errors as `load_model`."""
    if isinstance(place, Predictor):
        return place.model
    return read_model(place.model_path if isinstance(place, Run) else find_model(Path(place)))


def model_engine(
    model: ModelFile, progress: Progress = silent, device: str = "auto", threads: int | None = None
) -> OnnxEngine:
    """Return the engine of a model's backbone; torch is imported only if its graph is not cached."""
    return load_engine(graph_of(model, progress), threads, device)


def graph_of(model: ModelFile, progress: Progress = silent) -> Path:
    """Return the ONNX graph of a model's backbone, exported now if it is not cached.

    It is kept in the project; in the user's own cache where there is none, or where that cannot be written.
    """
    project = project_of(model)
    if project and (graph := project.graphs / f"{model.key}.onnx").exists():
        return graph
    kept = read_graph(model.path)
    # others' models share that folder, and a file may say that it is another one
    name = f"{model.key}-{fingerprint(kept)[:12]}" if kept else model.key
    graph = disk.user_cache() / "graphs" / f"{name}.onnx"
    if graph.exists():
        return graph
    if project and disk.can_write(project.graphs):
        graph = project.graphs / f"{model.key}.onnx"
    if kept:
        disk.write_bytes(graph, kept)
        return graph
    from stockpot.backbones.backbone import read_model_backbone
    from stockpot.backbones.graph import ensure_graph

    return ensure_graph(graph.parent, graph.stem, lambda: read_model_backbone(model), progress)


def project_of(model: ModelFile) -> disk.Project | None:
    """Return the project that a model is a run of, or None where it lies elsewhere."""
    project = disk.Project(model.path.absolute().parent.parent.parent)
    return project if project.photos.is_dir() and project.runs in model.path.absolute().parents else None


def predict(place: Place, paths: Iterable[Path | str], progress: Progress = silent) -> Iterator[Prediction]:
    """Yield what a model says of files, in their order.

    Args:
        place: what `load_model` takes.
        paths: image files; a folder stands for all visible files below it.
        progress: told after every file.

    Raises:
        ModelError: there is no model, or it is damaged.
        PhotoError: a path does not exist.
    """
    files = list_files(paths)
    predictor = load_model(place, progress)
    for done, prediction in enumerate(predictor.predict(files), 1):
        progress("predicting", done, len(files))
        yield prediction


def list_files(paths: Iterable[Path | str]) -> list[Path]:
    """Return files as they are, and for a folder all visible files below it, in the order of their names.

    Raises:
        PhotoError: a path does not exist, or there is no file at all.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.is_file())
            files += [file for file in below if not _hidden_below(path, file)]
        elif path.exists():
            files.append(path)
        else:
            raise PhotoError(f"There is no file {path}: check the name.")
    if not files:
        raise PhotoError("No files there: give image files, or a folder that holds some.")
    return files


def _hidden_below(root: Path, file: Path) -> bool:
    return any(disk.is_hidden(part) for part in file.relative_to(root).parts)


def evaluate(place: Place, folder: Path | str, progress: Progress = silent) -> tuple[Evaluation, Index]:
    """Return how good a model is on a tree of class folders, and what was in the tree.

    Args:
        place: what `load_model` takes.
        folder: one folder of photos a class, named as the model's classes.
        progress: told after every photo.

    Raises:
        ModelError: there is no model, or it is damaged.
        PhotoError: no such folder, no readable photo, or a class that the model does not know.
    """
    predictor = load_model(place, progress)
    names = predictor.model.class_names
    index = index_folder(Path(folder), progress)
    if unknown := sorted({photo.label for photo in index.photos} - set(names)):
        raise PhotoError(
            f"{folder} has a class {unknown[0]!r} that the model does not know; it knows {', '.join(names)}: "
            f"rename the folder or take it out."
        )
    rows = []
    for photo, (_, answer) in zip(
        index.photos, predictor.stream(photo.path for photo in index.photos), strict=True
    ):
        if isinstance(answer, PhotoError):
            raise PhotoError(f"{photo.path} {answer}: it changed while it was read; run the command again.")
        rows.append(answer)
        progress("evaluating", len(rows), len(index.photos))
    truth = np.array([names.index(photo.label) for photo in index.photos])
    return evaluate_logits(predictor.logits(np.stack(rows)), truth, names), index
