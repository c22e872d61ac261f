"""Train: recipes with a forecast, curves while it learns, and runs that were stopped."""

from dataclasses import fields
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from stockpot import project as disk
from stockpot.errors import RecipeError, StockpotError, WrongUse
from stockpot.learning.recipes import CHOICES, Recipe
from stockpot.learning.runs import Run, read_runs
from stockpot.learning.status import look_at_status
from stockpot.photos.splits import look_at_split
from stockpot.reporting.charts import learning_curves
from stockpot.reporting.texts import texts
from stockpot.studies import RECIPES, lab_recipe
from stockpot.web.desk import Desk
from stockpot.web.worker import Work

_KEPT = ("start", "head", "trainable", "image_size", "resize")  # what makes a recipe the one that it is
Value = str | int | float


class Order(BaseModel):
    """What is to be trained."""

    recipe: str  # one of `studies.RECIPES`
    start: str = ""  # the run that it goes on from
    changes: dict[str, Value] = {}
    name: str = ""


class Again(BaseModel):
    """A run to go on with."""

    name: str


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter(prefix="/api/train")

    @router.get("")
    def state() -> dict[str, Any]:
        status = look_at_status(desk.project.folder)
        runs = read_runs(desk.project)
        stale = {run.name for run in status.runs if run.stale}
        current = [run for run in runs if run.name not in stale]
        probe = _probe(current)
        return {
            "classes": [vars(one) for one in status.classes],
            "problem": status.problem,
            "recipes": [_offer(name, probe) for name in RECIPES],
            "choices": {name: choices for name, choices in CHOICES.items() if name not in _KEPT},
            "probe": probe.name if probe else "",
            "starts": [run.name for run in current if run != probe],
            "runs": [_told(run) | {"stale": run.name in stale} for run in runs],
            "unfinished": _unfinished(desk.project),
        }

    @router.post("/forecast")
    def forecast(order: Order) -> dict[str, Any]:
        recipe = _recipe(desk, order)

        def do(work: Work) -> dict[str, Any]:
            from stockpot.learning.forecast import forecast

            found = forecast(desk.project.folder, recipe, order.name or None, work.tell)
            return {"seconds": found.seconds, "words": str(found)}

        return desk.worker.start("forecast", "Measuring how long it will take", do).to_json()

    @router.post("")
    def train(order: Order) -> dict[str, Any]:
        return _start(desk, _recipe(desk, order), order.name or None, resume=False)

    @router.post("/again")
    def again(order: Again) -> dict[str, Any]:
        value = disk.read_json(desk.run_folder(order.name) / "recipe.json")
        if not value:
            raise WrongUse(f"{order.name} has no recipe to go on with: train it anew.")
        return _start(desk, Recipe.from_json(value, desk.project.runs), order.name, resume=True)

    @router.get("/curves")
    def curves() -> dict[str, Any]:
        history, say = tuple(desk.worker.work.epochs), texts("en")
        if not history:
            return {}
        return {quantity: learning_curves(history, quantity, say) for quantity in ("loss", "accuracy")}

    return router


def _start(desk: Desk, recipe: Recipe, name: str | None, resume: bool) -> dict[str, Any]:
    def do(work: Work) -> dict[str, Any]:
        from stockpot.learning.training import train

        work.result = {"keep": recipe.keep}

        def tell(stage: str, done: int, total: int) -> None:
            work.tell(stage, done, total)
            if work.asked_to_stop and not work.epochs:
                raise KeyboardInterrupt  # while it prepares there is nothing to keep

        run = train(
            desk.project.folder,
            recipe,
            name,
            tell,
            resume,
            stop=lambda: work.asked_to_stop,
            watch=work.epochs.append,
        )
        work.epochs[:] = run.history  # also of a run that was there already
        return {"run": _told(run)}

    return desk.worker.start("train", f"Training {name or recipe.usual_name}", do).to_json()


def _recipe(desk: Desk, order: Order) -> Recipe:
    if order.recipe not in RECIPES:
        raise WrongUse(f"There is no recipe {order.recipe!r}; choose one of: {', '.join(RECIPES)}.")
    probe = desk.run(order.start) if order.start else _probe(_current(desk.project))
    return lab_recipe(
        order.recipe, probe, **{name: _typed(name, value) for name, value in order.changes.items()}
    )


def _typed(name: str, value: Value) -> Value:
    """Return a field's value as its type; a page may send numbers as text.

    Raises:
        RecipeError: no such field, or not such a value.
    """
    usual: dict[str, Any] = {field.name: field.default for field in fields(Recipe)}
    if name not in usual or name in _KEPT:
        raise RecipeError(f"{name} is no field that can be chosen here.")
    kind: type[Value] = type(usual[name])
    try:
        return kind(value)
    except (ValueError, OverflowError):
        raise RecipeError(f"{name} is {value!r}; expected a number.") from None


def _offer(name: str, probe: Run | None) -> dict[str, Any]:
    """Return a recipe with its usual values, or why it cannot be had yet."""
    try:
        recipe = lab_recipe(name, probe)
    except StockpotError as error:
        return {"name": name, "problem": str(error), "fields": {}, "usual_name": name}
    values = {key: value for key, value in vars(recipe).items() if key not in _KEPT}
    if recipe.head == "keep":
        del values["backbone"]
    return {"name": name, "problem": "", "fields": values, "usual_name": recipe.usual_name}


def _current(project: disk.Project) -> list[Run]:
    """Return the runs on the present photos."""
    present = look_at_split(project.folder).fingerprint
    return [run for run in read_runs(project) if run.split_fingerprint == present]


def _probe(runs: list[Run]) -> Run | None:
    """Return the run that fine-tuning goes on from: `probe`, or else the trained head that was made last."""
    heads = [run for run in runs if run.kind == "linear-probe" and run.recipe["backbone"] != "cifar"]
    named = [run for run in heads if run.name == "probe"]
    return max(named or heads, key=lambda run: run.model_path.stat().st_mtime, default=None)


def _told(run: Run) -> dict[str, Any]:
    low, high = run.evaluation.interval
    return {
        "name": run.name,
        "kind": run.kind,
        "accuracy": run.evaluation.accuracy,
        "interval": (low, high),
        "n": run.evaluation.n,
        "epochs": len(run.history),
        "chosen_epoch": run.chosen_epoch,
        "interrupted": run.interrupted,
        "seconds": sum(run.seconds.values()),
    }


def _unfinished(project: disk.Project) -> list[str]:
    """Return names of runs that something ended before they were complete, and that can go on."""
    if not project.runs.is_dir():
        return []
    done = {run.name for run in read_runs(project)}
    begun = (folder for folder in disk.visible(project.runs) if any(folder.glob("checkpoint*.safetensors")))
    return [folder.name for folder in begun if folder.name not in done and (folder / "recipe.json").exists()]
