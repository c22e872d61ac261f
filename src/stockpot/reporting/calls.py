"""The Python call that makes a run again, as the report shows it."""

import json
import re
from dataclasses import fields
from typing import Any

from stockpot.backbones.catalog import CATALOG
from stockpot.learning.recipes import USUAL, WARMUP, Recipe, head_rate, tuning_rate
from stockpot.learning.runs import Run


def training_call(run: Run, before: Run | None, project: str) -> str:
    """Return the call that makes a run again; what is as usual is left out.

    Args:
        run: the run.
        before: the one that it went on from, if that is here.
        project: name of the project.
    """
    made, recipe = _constructor(run.recipe), run.recipe
    usual = _usual(made, recipe, before)
    given = [f"{name}={_spelled(name, recipe, before)}" for name in recipe if recipe[name] != usual.get(name)]
    call = f"{made.replace('-', '_')}({', '.join(given)})"
    return f"{_variable(run.name)} = stockpot.train({json.dumps(project)}, stockpot.Recipe.{call})"


def _constructor(recipe: dict[str, Any]) -> str:
    if recipe["head"] == "keep":
        return "fine-tune"
    return "from-scratch" if (recipe["start"], recipe["trainable"]) == ("random", "all") else "linear-probe"


def _usual(made: str, recipe: dict[str, Any], before: Run | None) -> dict[str, Any]:
    """Return what a constructor fills in by itself; backbone and start are always shown where they matter."""
    usual = {field.name: field.default for field in fields(Recipe)} | USUAL[made]
    entry = CATALOG.get(recipe["backbone"])
    if made == "fine-tune":
        usual |= {name: recipe[name] for name in ("backbone", "image_size", "resize")} | {"trainable": "all"}
        usual |= {"start": None, "warmup": WARMUP if recipe["trainable"] == "all" else 0.0}
        if before:
            usual["learning_rate"] = tuning_rate(before.recipe["learning_rate"])
        return usual
    if made == "linear-probe":
        usual["start"] = entry.start if entry else None
        if recipe["trainable"] == "head":
            usual["learning_rate"] = head_rate(recipe["backbone"])
    if _is_own(recipe):
        usual |= {name: recipe[name] for name in ("start", "image_size", "resize")}
    elif entry:
        usual["image_size"] = entry.image_size
    return usual | {"backbone": None}


def _spelled(name: str, recipe: dict[str, Any], before: Run | None) -> str:
    if name == "backbone" and _is_own(recipe):
        return _variable(recipe[name])
    if name == "start" and before:
        return _variable(before.name) if recipe["head"] == "keep" else f"{_variable(before.name)}.folder"
    return json.dumps(recipe[name])


def _is_own(recipe: dict[str, Any]) -> bool:
    """Tell whether the backbone is a network that only its owner can build."""
    return str(recipe["start"]).startswith("weights ")


def _variable(name: str) -> str:
    """Return a name as Python can spell it."""
    return re.sub(r"\W|^(?=\d)", "_", name)
