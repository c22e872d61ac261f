"""A run: one executed recipe with history, evaluation and weights, as its folder holds it."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from stockpot import project as disk
from stockpot.errors import ModelError, PhotoError, ProjectError, RecipeError
from stockpot.learning.evaluation import Evaluation, from_json
from stockpot.learning.freezing import FreezeAudit
from stockpot.model.model_file import read_model
from stockpot.photos.splits import look_at_split
from stockpot.shapes import Misshapen, made
from stockpot.tables import html_table

log = logging.getLogger("stockpot")

_FROM_RUN = r"^run (.+) \(sha256 (\w+)(?:, head \w+)?\)$"  # as a recipe's `start` says it
CHECKED_PHOTOS = 4  # go through the whole torch network when a run is saved


@dataclass(frozen=True)
class Epoch:
    """Figures of one pass over the training photos."""

    number: int  # from 1
    training_loss: (
        float  # mean cross-entropy, nats, while it learned: as photos were varied, before each step
    )
    training_accuracy: float  # likewise
    validation_loss: float  # after the pass, in inference mode, of photos as they are
    validation_accuracy: float
    learning_rate: float  # of the epoch's last step
    seconds: float


@dataclass(frozen=True)
class Checks:
    """Largest differences found while the run was saved."""

    cached_features: float  # logits: cached features against the whole torch network
    reloaded_logits: float  # logits: the model in memory against the file read again
    reloaded_maps: float  # feature maps: likewise
    map_identity: float  # |mean(cam) + bias - logit| over all validation photos and classes


@dataclass(frozen=True)
class Run:
    """One executed recipe."""

    name: str
    folder: Path
    recipe: dict[str, Any]
    split_fingerprint: str
    history: tuple[Epoch, ...]
    evaluation: Evaluation  # on the validation photos
    audit: FreezeAudit
    checks: Checks
    maps: tuple[int, int, int]  # C, h, w of its feature maps
    chosen_epoch: int  # whose weights the model has
    interrupted: bool  # by Ctrl-C, before its last epoch
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

    @property
    def started_from(self) -> str:
        """Name of the run that it went on from, or nothing."""
        return started_from(self.recipe)

    def goes_on_from(self, other: "Run") -> bool:
        """Tell whether it started from the very model of another run."""
        found = re.fullmatch(_FROM_RUN, str(self.recipe["start"]))
        if found is None or found[1] != other.name or not other.model_path.exists():
            return False
        return found[2] == short_hash(other.model_path)

    @property
    def kind(self) -> str:
        """What its recipe is called."""
        return kind_of(self.recipe["start"], self.recipe["trainable"])

    @property
    def chosen(self) -> bool:
        """Tell whether the epoch was chosen by the loss on the very photos that the figures are of."""
        return bool(self.recipe["keep"] == "best")

    @property
    def model_path(self) -> Path:
        """The run's model, one portable file."""
        return self.folder / "model.safetensors"

    def _repr_html_(self) -> str:
        """Return the run as a notebook shows it."""
        low, high = self.evaluation.interval
        figures = {
            "recipe": f"{self.kind}: {self.recipe['backbone']}",
            "validation photos": f"{self.evaluation.n}",
            "accuracy": f"{self.evaluation.accuracy:.1%}{'*' * self.chosen}",
            "95 % interval": f"{low:.1%} to {high:.1%}",
            "loss": f"{self.evaluation.loss:.3f}",
            "epoch": f"{self.chosen_epoch} of {len(self.history)}",
        }
        flattered = "* its epoch was chosen on these very photos, which flatters the accuracy a little"
        return html_table(self.name, list(figures), [list(figures.values())], [flattered] * self.chosen)


def started_from(recipe: dict[str, Any]) -> str:
    """Return the name of the run that a recipe goes on from, or nothing."""
    found = re.fullmatch(_FROM_RUN, str(recipe["start"]))
    return found[1] if found else ""


def kind_of(start: str, trainable: str) -> str:
    """Return what a recipe is called, by where its weights come from and what learns."""
    if start == "random":
        return "from-scratch"
    return "linear-probe" if trainable == "head" else "fine-tune"


def read_run(folder: Path) -> Run | None:
    """Return the run in a folder, or None where it was not completed or its figures are damaged."""
    try:
        result = disk.read_shaped(folder / "evaluation.json", _Result)
        return None if result is None else _run(folder, result)
    except (ProjectError, Misshapen):
        log.warning("%s is damaged and does not count: train again.", folder / "evaluation.json")
        return None


class _RecipeTold(TypedDict):
    """What is relied on of a recipe, also of another version's."""

    backbone: str
    start: str
    head: str
    trainable: str
    batch_norm: str
    image_size: int
    resize: str
    augment: str
    epochs: int
    keep: str
    learning_rate: float
    seed: int
    views: NotRequired[int]
    warmup: NotRequired[float]


class _Result(TypedDict):
    """What `evaluation.json` holds."""

    split_fingerprint: str
    validation: Evaluation
    freeze_audit: FreezeAudit
    checks: Checks
    maps: tuple[int, int, int]
    chosen_epoch: int
    interrupted: bool
    seconds: dict[str, float]


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """Return the recipe in a run's folder as JSON holds it, or None where there is none.

    Raises:
        ProjectError: it is damaged.
    """
    found: dict[str, Any] | None = disk.read_shaped(folder / "recipe.json", _RecipeTold)
    return found


def _run(folder: Path, result: dict[str, Any]) -> Run:
    recipe = read_recipe(folder)
    if recipe is None:
        raise Misshapen("no recipe")
    return Run(
        name=folder.name,
        folder=folder,
        recipe=recipe,
        split_fingerprint=result["split_fingerprint"],
        history=tuple(made(Epoch, row) for row in disk.read_lines(folder / "history.jsonl")),
        evaluation=from_json(result["validation"]),
        audit=made(FreezeAudit, result["freeze_audit"]),
        checks=made(Checks, result["checks"]),
        maps=tuple(result["maps"]),
        chosen_epoch=result["chosen_epoch"],
        interrupted=result["interrupted"],
        seconds=result["seconds"],
    )


def read_runs(project: disk.Project) -> list[Run]:
    """Return the completed runs of a project, in the order of their names."""
    if not project.runs.is_dir():
        return []
    runs = (read_run(folder) for folder in disk.visible(project.runs) if folder.is_dir())
    return [run for run in runs if run is not None]


def find_run(
    project: disk.Project, recipe: dict[str, Any], split_fingerprint: str, name: str | None = None
) -> Run | None:
    """Return the completed run of a recipe on a split, or None; `name` narrows it to one."""
    for run in read_runs(project):
        same = run.recipe == recipe and run.split_fingerprint == split_fingerprint
        if same and name in (None, run.name) and _is_readable(run.model_path):
            return run
    return None


def forget_checkpoint(run: Run) -> None:
    """Delete what a run went on from, if it is complete: a kill may have come before that."""
    for file in run.folder.glob("checkpoint*.safetensors") if not run.interrupted else ():
        file.unlink(missing_ok=True)


def _is_readable(model: Path) -> bool:
    try:
        read_model(model)
    except ModelError:
        return False
    return True


def run_folder(
    project: disk.Project, recipe: dict[str, Any], split_fingerprint: str, usual: str, name: str | None
) -> Path:
    """Return the folder that a new run of a recipe goes to: `name`, else its usual name or that with a number.

    A run of the same recipe on an older split is replaced, also where the run that it started from was trained
    again on this one; one of another recipe never is, complete or not.

    Raises:
        RecipeError: the name is not a file name, or belongs to a run of another recipe.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise RecipeError(f"{name!r} cannot name a run: use letters, digits, '-', '_' and '.'.")
    taken = _other_recipes(project, recipe, split_fingerprint)
    if name is not None:
        if name.casefold() in taken:
            raise RecipeError(
                f"A run {name!r} with another recipe exists: give another --name or delete {project.runs / name}."
            )
        return project.runs / name
    names = [usual, *(f"{usual}-{number}" for number in range(2, len(taken) + 2))]
    return project.runs / next(name for name in names if name.casefold() not in taken)


def _other_recipes(project: disk.Project, recipe: dict[str, Any], split_fingerprint: str) -> set[str]:
    """Return the names, in small letters, of runs that have another recipe."""
    runs = {run.name: run for run in read_runs(project)}
    folders = disk.visible(project.runs) if project.runs.is_dir() else []
    taken = set()
    for folder in folders:
        run = runs.get(folder.name)
        if run is None:  # unfinished: it matters only where there is something to go on from
            unfinished = any(folder.glob("checkpoint*.safetensors"))
            same = not unfinished or _is_begun(folder, recipe)
        elif run.split_fingerprint == split_fingerprint:
            same = run.recipe == recipe
        else:
            same = _without_hash(run.recipe) == _without_hash(recipe)
        if not same:
            taken.add(folder.name.casefold())
    return taken


def _is_begun(folder: Path, recipe: dict[str, Any]) -> bool:
    """Tell whether a folder is that of a recipe."""
    try:
        before = read_recipe(folder)
    except ProjectError:  # damaged: whose it was is not known any more
        return False
    return before is not None and _without_hash(before) == _without_hash(recipe)


def _without_hash(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe in which a run to start from is known by its name: it may have been trained again."""
    return recipe | {"start": re.sub(_FROM_RUN, r"run \1", str(recipe["start"]))}


def short_hash(file: Path) -> str:
    """Return the first 12 hexadecimal digits of a file's sha256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def best_run(runs: Sequence[Run]) -> Run:
    """Return the run with the highest validation accuracy; of equals, that with the lowest loss.

    Losses of runs that smooth labels and of others cannot be compared so well.
    """
    return max(runs, key=lambda run: (run.evaluation.accuracy, -run.evaluation.loss))


def find_model(place: Path) -> Path:
    """Return the model file that a run folder, a model file or a project means.

    Of a project's runs it is the best one among those of its present photos; where all are older than the photos,
    of all, with a warning.

    Raises:
        ModelError: there is none; says what to do.
    """
    if place.is_file():
        return place
    if (place / "model.safetensors").is_file():
        return place / "model.safetensors"
    if (place / "photos").is_dir():
        if runs := read_runs(disk.Project(place)):
            return _best(place, runs).model_path
        raise ModelError(f"{place} has no completed run: stockpot study {place}")
    raise ModelError(
        f"{place} is no model: give a model.safetensors file, a run's folder, or a project with a completed run."
    )


def _best(place: Path, runs: list[Run]) -> Run:
    try:
        present = look_at_split(place).fingerprint
    except PhotoError:
        present = ""
    current = [run for run in runs if run.split_fingerprint == present]
    best = best_run(current or runs)
    if not current:
        log.warning("run %s is stale: the photos have changed since; stockpot study %s", best.name, place)
    return best
