"""The same recipe with other seeds, beside its run: only figures, predictions and heads are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from stockpot import project as disk
from stockpot.errors import ModelError
from stockpot.learning.evaluation import Evaluation
from stockpot.learning.resampling import Resampled
from stockpot.learning.runs import Run
from stockpot.model.model_file import ModelFile

if TYPE_CHECKING:
    from stockpot.learning.saving import Trained


def seed_folder(run: Path) -> Path:
    """Return where the other seeds of a run are kept."""
    return run / "seeds"


def read_seeds(run: Run) -> Resampled | None:
    """Return the accuracies of a run and of its other seeds; None where there are none."""
    files = sorted(seed_folder(run.folder).glob("*.json"))
    others = [disk.read_shaped(file, Evaluation)["accuracy"] for file in files]
    return Resampled((run.evaluation.accuracy, *others)) if others else None


def save_seed(run: Run, project: disk.Project, trained: "Trained") -> None:
    """Keep what another seed came to, uncalibrated; its figures, written last, make it complete."""
    from stockpot.learning.saving import write_predictions

    place = seed_folder(run.folder) / str(trained.recipe.seed)
    write_predictions(place.with_suffix(".csv"), project, trained.split, trained.logits)
    head = trained.classifier.head
    with disk.replacing(place.with_suffix(".safetensors")) as temporary:
        save_file({name: tensor.numpy() for name, tensor in head.state_dict().items()}, temporary)
    disk.write_json(place.with_suffix(".json"), trained.evaluation.to_json())


def has_seed(run: Run, seed: int) -> bool:
    """Tell whether a seed is complete."""
    return (seed_folder(run.folder) / f"{seed}.json").exists()


def seed_head(model: ModelFile, seed: int) -> Path | None:
    """Return the file of another seed's head, where a model is a probe's and its run has that seed.

    Heads of other runs belong to backbones that were not kept.
    """
    file = seed_folder(model.path.parent) / f"{seed}.safetensors"
    return file if model.recipe.get("trainable") == "head" and file.exists() else None


def read_head(model: ModelFile, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return `weight` `(K, C)` and `bias` `(K,)` that fine-tuning with a seed starts from."""
    file = seed_head(model, seed)
    if file is None:
        return {"weight": model.weight, "bias": model.bias}
    try:
        found = load_file(file)
        shapes = {name: (tensor.shape, str(tensor.dtype)) for name, tensor in found.items()}
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is damaged ({error}): train that seed again.") from None
    if shapes != {name: (getattr(model, name).shape, "float32") for name in ("weight", "bias")}:
        raise ModelError(f"{file} is damaged (it has {shapes}): train that seed again.")
    return found
