"""The whole lab as one function that can be stopped and called again."""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot import project as disk
from stockpot.backbones.catalog import look_up
from stockpot.collection.known_names import check_known
from stockpot.errors import RecipeError, WeightsError, WrongUse
from stockpot.learning.comparison import Comparison, compare
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Run, best_run, find_run, forget_checkpoint
from stockpot.photos.intake import bring_in
from stockpot.photos.samples import bring_in_samples
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, in_words, remark, silent
from stockpot.reporting.report import write_report

if TYPE_CHECKING:
    from stockpot.learning.compute import Compute

RECIPES = ("scratch", "cifar", "probe", "tail", "tuned")  # as in the lab; the last two go on from probe
_BY_WORTH = ("probe", "cifar", "tail", "scratch", "tuned")  # the order of training: what matters most first
BUDGET_SECONDS = 600.0


@dataclass(frozen=True)
class Study:
    """What a study left behind."""

    project: Path
    split: Split
    runs: tuple[Run, ...]  # in the order of `RECIPES`
    trained: tuple[str, ...]  # those that were not there, complete, before
    left_out: tuple[tuple[str, str], ...]  # recipe and reason
    forecasts: tuple[
        tuple[str, float, float], ...
    ]  # recipe, seconds forecast before it, seconds that it took
    comparison: Comparison
    report: Path

    @property
    def run(self) -> Run:
        """The run with the highest validation accuracy."""
        return best_run(self.runs)

    @property
    def interrupted(self) -> bool:
        """Tell whether Ctrl-C ended one of the runs early."""
        return any(run.interrupted for run in self.runs)


def study(
    project: Path | str,
    photos: Path | str | None = None,
    recipes: Sequence[str] | None = None,
    time_budget: float | None = BUDGET_SECONDS,
    strict: bool = False,
    progress: Progress = silent,
    device: str = "auto",
    compute: "Compute | None" = None,
) -> Study:
    """Bring photos in, split them, train by all recipes, compare, explain, and write the report.

    Whatever is there already and still true is not done again: a second call on an unchanged project trains
    nothing. Before each recipe its time here is forecast; the probe is always trained, others only where they
    fit into what is left of the budget.

    Args:
        project: a project folder; made if `photos` are given and it is not there.
        photos: a folder with one folder of photos a class. They are copied; the folder is never written to.
        recipes: some of `"scratch"`, `"cifar"`, `"probe"`, `"tail"` (the last blocks of the probe are
            fine-tuned) and `"tuned"` (all its layers). By default all but `"tuned"`, which computes all
            layers in every epoch, and all without a budget.
        time_budget: seconds for training, or None.
        strict: refuse classes that ready-made models know by name; without it they are warned of.
        progress: told what is being done and how far it is.
        device: as `train` takes it; forecasts are of this computer.
        compute: likewise.

    Raises:
        ProjectError, PhotoError: no project, or photos that no classifier can be made of.
        WrongUse: there is no such recipe or device, or a class is known and `strict`.
        RecipeError: none of them fits into the budget.
        WeightsError: the backbone's weights cannot be had.
        Busy, FolderError: the project cannot be written.
    """
    chosen = _chosen(recipes, time_budget)
    compute = compute or _torchrun(device)
    if photos is not None:
        bring_in(project, photos, progress)
    opened = disk.open_project(project)
    check_known([folder.name for folder in disk.visible(opened.photos) if folder.is_dir()], strict)
    return _study(opened, chosen, time_budget, progress, device, compute)


def demo(
    project: Path | str = "solar-cells",
    per_class: int = 100,
    recipes: Sequence[str] | None = None,
    time_budget: float | None = BUDGET_SECONDS,
    progress: Progress = silent,
    device: str = "auto",
) -> Study:
    """Run the whole lab on photographs of solar cells that come with the extra `demo`.

    Args:
        project: a new folder, or one that an earlier demo made.
        per_class: photos of each of the four classes.
        recipes: as `study` takes them.
        time_budget: likewise.
        progress: told what is being done and how far it is.
        device: as `train` takes it.

    Raises:
        PhotoError: the extra is not installed.
        WrongUse: `per_class` is out of range, the project holds other photos, or there is no such recipe or device.
        WeightsError: the backbone's weights cannot be had.
        Busy, FolderError: the project cannot be written.
    """
    chosen = _chosen(recipes, time_budget)
    compute = _torchrun(device)
    bring_in_samples(project, per_class, progress)
    return _study(disk.open_project(project), chosen, time_budget, progress, device, compute)


def _torchrun(device: str) -> "Compute | None":
    """Return what all processes of torchrun's compute with, if it runs; only the first one goes on from here."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    from stockpot.learning.torchrun import here

    return here(device)


def _chosen(recipes: Sequence[str] | None, time_budget: float | None) -> tuple[str, ...]:
    if recipes is None:
        return RECIPES if time_budget is None else RECIPES[:-1]
    if unknown := sorted(set(recipes) - set(RECIPES)):
        raise WrongUse(f"There is no recipe {unknown[0]!r} in a study; choose some of: {', '.join(RECIPES)}.")
    if not recipes:
        raise WrongUse(f"No recipe was given; choose some of: {', '.join(RECIPES)}.")
    return tuple(name for name in RECIPES if name in recipes)


def _study(
    opened: disk.Project,
    chosen: tuple[str, ...],
    time_budget: float | None,
    progress: Progress,
    device: str,
    compute: "Compute | None",
) -> Study:
    with opened.writing():
        sides = split(opened.folder, progress=progress)
        trainings = _Trainings(opened, sides, time_budget, progress, device, compute)
        for name in _BY_WORTH:
            if name in _with_probe(chosen) and not trainings.interrupted:
                trainings.add(name)
        if not trainings.runs:
            raise RecipeError(f"No recipe was carried out: {'; '.join(trainings.left_out.values())}")
        comparison = compare(opened.folder, progress)
        report = write_report(opened.folder, progress=progress)
    return Study(
        project=opened.folder,
        split=sides,
        runs=tuple(trainings.runs[name] for name in RECIPES if name in trainings.runs),
        trained=tuple(trainings.trained),
        left_out=tuple(trainings.left_out.items()),
        forecasts=tuple(trainings.forecasts),
        comparison=comparison,
        report=report,
    )


class _Trainings:
    """The runs of a study, one after another, and what is left of its time."""

    def __init__(
        self,
        opened: disk.Project,
        sides: Split,
        time_budget: float | None,
        progress: Progress,
        device: str,
        compute: "Compute | None",
    ) -> None:
        self.opened = opened
        self.sides = sides
        self.left = time_budget  # seconds
        self.progress = progress
        self.how: dict[str, Any] = {"device": device, "compute": compute}  # trainings are carried out
        self.runs: dict[str, Run] = {}
        self.trained: list[str] = []
        self.left_out: dict[str, str] = {}  # and why
        self.forecasts: list[tuple[str, float, float]] = []

    @property
    def interrupted(self) -> bool:
        return any(run.interrupted for run in self.runs.values())

    def add(self, name: str) -> None:
        """Find the run of a recipe or train it, or say why it is left out."""
        recipe = lab_recipe(name, self.runs.get("probe"))
        run = find_run(self.opened, recipe.to_json(), self.sides.fingerprint)
        if run and not run.interrupted:
            forget_checkpoint(run)
            self.runs[name] = run
            return
        started = time.perf_counter()
        try:
            self._train(name, recipe)
        except WeightsError as error:
            if name == "probe":
                raise
            self.left_out[name] = str(error)
        if self.left is not None:
            self.left -= time.perf_counter() - started
        if name in self.left_out:
            remark(self.progress, f"{name} is left out: {self.left_out[name]}")

    def _train(self, name: str, recipe: Recipe) -> None:
        """Train, if the forecast fits into what is left."""
        from stockpot.learning.forecast import forecast
        from stockpot.learning.training import train

        expected = forecast(
            self.opened.folder, recipe, progress=self.progress, device=self.how["device"], resume=True
        )
        if self.left is not None and expected.seconds > self.left and name != "probe":
            minutes = int(expected.seconds * 1.3 // 60) + 1
            self.left_out[name] = (
                f"{expected} here, {in_words(max(0.0, self.left))} of the time are left: "
                f"stockpot study {shlex.quote(str(self.opened.folder))} --recipes {name} --time-budget {minutes}m"
            )
            return
        remark(self.progress, f"{name}: {expected}")
        started = time.perf_counter()
        self.runs[name] = train(self.opened.folder, recipe, progress=self.progress, resume=True, **self.how)
        self.trained.append(name)
        self.forecasts.append((name, expected.seconds, time.perf_counter() - started))


def _with_probe(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the recipes, with the probe where something goes on from it."""
    return ("probe", *chosen) if {"tail", "tuned"} & set(chosen) else chosen


def lab_recipe(name: str, probe: Run | None, **changes: Any) -> Recipe:
    """Return one of `RECIPES`.

    Args:
        name: of the recipe.
        probe: the run that the last two go on from.
        changes: fields that are to differ.

    Raises:
        RecipeError: there is nothing to go on from, an unknown field, or a value that cannot be carried out.
    """
    if name == "scratch":
        return Recipe.from_scratch(**changes)
    if name in ("cifar", "probe"):
        usual = {"backbone": "cifar"} if name == "cifar" else {}
        return Recipe.linear_probe(**usual | changes)
    if probe is None:
        raise RecipeError(f"{name} goes on from a trained head: train probe first.")
    usual = {"trainable": "all" if name == "tuned" else look_up(probe.recipe["backbone"]).tail}
    return Recipe.fine_tune(probe, **usual | changes)
