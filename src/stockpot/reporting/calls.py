"""The short code that does what the report tells of: a training again, and the steps of the lab."""

import json
import keyword
import re
from dataclasses import fields
from typing import Any

from stockpot.backbones.catalog import CATALOG
from stockpot.learning.recipes import USUAL, WARMUP, Recipe, head_rate, tuning_rate
from stockpot.learning.runs import Run, started_from
from stockpot.photos.splits import Split

FIRST_CALLS = {  # of a training that is not there, by the point of the lab sheet
    "3": "scratch = stockpot.train({project}, stockpot.Recipe.from_scratch())",
    "4": 'borrowed = stockpot.train({project}, stockpot.Recipe.linear_probe(backbone="cifar"))',
    "5": 'probe = stockpot.train({project}, stockpot.Recipe.linear_probe(backbone="xception"))',
    "5.4": "tuned = stockpot.train({project}, stockpot.Recipe.fine_tune(start=probe))",
}


def split_call(split: Split, project: str) -> str:
    """Return the call that splits the photos."""
    return f"split = stockpot.split({literal(project)}, validation={split.share:g}, seed={split.seed})"


def reading_calls(split: Split, run: Run, project: str) -> str:
    """Return the calls that read the photos as a data set."""
    return "\n".join(
        [
            "import stockpot",
            "from stockpot.photos.preprocessing import read_prepared",
            split_call(split, project),
            "split.class_names  # their order in the head",
            "photo = split.training[0]  # photo.path, photo.label, photo.sha256",
            f"pixels = read_prepared(photo.path, {_loaded(run)}.preprocessing)  # (S, S, 3), 0 to 255",
        ]
    )


def freezing_calls(run: Run) -> str:
    """Return what freezes all weights of a run's backbone."""
    return "\n".join(
        [
            *_classifier(run),
            "classifier.freeze_backbone()  # requires_grad is False for all its parameters",
            "classifier.train()  # and BatchNorm stays in inference mode all the same",
        ]
    )


def cutting_calls(run: Run) -> str:
    """Return what shows that nothing is left of a network from GAP upwards."""
    channels, height, width = run.maps
    size = run.recipe["image_size"]
    return "\n".join(
        [
            "import torch",
            f"backbone = {_loaded(run)}.eval()  # ends before GAP and the dense layer",
            f"pixels = torch.zeros(1, {size}, {size}, 3)  # (N, S, S, 3), 0 to 255",
            f"maps = backbone(pixels)  # (N, {channels}, {height}, {width})",
        ]
    )


def head_calls(run: Run) -> str:
    """Return what puts a new layer on features."""
    channels, classes = run.maps[0], len(run.evaluation.per_class)
    return "\n".join(
        [
            f"head = torch.nn.Linear({channels}, {classes})  # untrained, and trainable as it is made",
            f"logits = head(maps.mean((2, 3)))  # GAP: (N, {channels}); then (N, {classes})",
        ]
    )


def unfreezing_calls(run: Run, before: Run | None) -> str:
    """Return what loads a network again and lets its weights learn."""
    trainable = run.recipe["trainable"]
    learn = "unfreeze()" if trainable == "all" else f"freeze_before({literal(trainable)})"
    start = _spelled("start", run.recipe, before)
    return "\n".join(
        [
            "from stockpot.learning.starting import start_classifier",
            f"recipe = stockpot.Recipe.fine_tune(start={start}, trainable={literal(trainable)})",
            "classifier = start_classifier(recipe, split.class_names)  # with the weights of that run",
            f"classifier.{learn}  # requires_grad is True for what is to learn",
        ]
    )


def faithfulness_calls(run: Run, project: str) -> str:
    """Return what measures whether maps show what a model uses."""
    place = literal(f"{project}/runs/{run.name}")
    return "\n".join(
        [
            "photos = [photo.path for photo in split.validation]",
            f'stockpot.measure_faithfulness({place}, photos, by="cells")',
        ]
    )


def explaining_calls(run: str, project: str, photo: str) -> tuple[str, str]:
    """Return what looks at single channels of a photo, and what adds them up to a map."""
    look = [
        f"why = stockpot.explain({literal(f'{project}/runs/{run}')}, {literal(photo)})",
        "channels = why.channels()  # of the predicted class",
        "channels.maps, channels.weight  # (C, h, w), (C,)",
        'channels.picture().save("channels.png")',
    ]
    add = [
        "cam = sum(weight * channel for weight, channel in zip(channels.weight, channels.maps))  # (h, w)",
        "cam.mean() + channels.bias  # the logit",
        'why.overlay().save("why.png")',
    ]
    return "\n".join(look), "\n".join(add)


def _classifier(run: Run) -> list[str]:
    return [
        "from stockpot.learning.classifier import Classifier",
        f"classifier = Classifier({_loaded(run)}, num_classes={len(run.evaluation.per_class)})",
    ]


def _loaded(run: Run) -> str:
    """Return what loads the backbone of a run; a network of one's own is a variable."""
    name, size = run.recipe["backbone"], run.recipe["image_size"]
    if is_own(run.recipe):
        return as_variable(name)
    usual = name in CATALOG and CATALOG[name].image_size == size
    return f"stockpot.load_backbone({literal(name)}{'' if usual else f', image_size={size}'})"


def training_call(run: Run, before: Run | None, project: str) -> str:
    """Return the call that makes a run again; what is as usual is left out.

    Args:
        run: the run.
        before: the one that it went on from, if that is here.
        project: name of the project.
    """
    made, fields = changed_fields(run, before)
    given = [f"{name}={_spelled(name, run.recipe, before)}" for name in fields]
    call = f"{made.replace('-', '_')}({', '.join(given)})"
    name = "" if run.name == _usual_name(run) else f", name={literal(run.name)}"
    return f"{as_variable(run.name)} = stockpot.train({literal(project)}, stockpot.Recipe.{call}{name})"


def changed_fields(run: Run, before: Run | None) -> tuple[str, dict[str, Any]]:
    """Return what a run's recipe is called, and the fields in which it is not as usual."""
    made = _constructor(run.recipe)
    usual = _usual(made, run.recipe, before)
    return made, {name: value for name, value in run.recipe.items() if value != usual.get(name)}


def _usual_name(run: Run) -> str:
    """Return what a run of such a recipe is called where no name is given."""
    if run.kind == "fine-tune":
        return "tuned" if run.recipe["trainable"] == "all" else "tail"
    return (
        "scratch" if run.kind == "from-scratch" else "cifar" if run.recipe["backbone"] == "cifar" else "probe"
    )


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
    if is_own(recipe):
        usual |= {name: recipe[name] for name in ("start", "image_size", "resize")}
    elif entry:
        usual["image_size"] = entry.image_size
    return usual | {"backbone": None}


def literal(value: object) -> str:
    """Return a text or a number as Python reads it."""
    return json.dumps(value, ensure_ascii=False)


def _spelled(name: str, recipe: dict[str, Any], before: Run | None) -> str:
    if name == "backbone" and is_own(recipe):
        return as_variable(recipe[name])
    if name == "start" and (start := before.name if before else started_from(recipe)):
        return as_variable(start) if recipe["head"] == "keep" else f"{as_variable(start)}.folder"
    return literal(recipe[name])


def is_own(recipe: dict[str, Any]) -> bool:
    """Tell whether the backbone is a network that only its owner can build."""
    return str(recipe["start"]).startswith("weights ")


def as_variable(name: str) -> str:
    """Return a name as Python can spell it."""
    spelled = re.sub(r"\W|^(?=\d)", "_", name)
    return f"{spelled}_" if keyword.iskeyword(spelled) else spelled
