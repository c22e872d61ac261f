"""The report: one self-contained page that asks nothing of the network."""

import datetime
import json
import math
import shlex
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.explanation.explanation import shared_scale
from stockpot.explanation.selection import Selection, explain_run
from stockpot.learning.comparison import Comparison, compare
from stockpot.learning.resampling import DRAWS
from stockpot.learning.runs import Run, best_run, read_runs
from stockpot.model.model_file import ModelFile, read_model
from stockpot.model.overlay import legend
from stockpot.photos.photo import Photo, describe_refused, short_name
from stockpot.photos.pixels import thumbnail
from stockpot.photos.preprocessing import read_prepared
from stockpot.photos.samples import ATTRIBUTION, is_sample
from stockpot.photos.splits import Split, look_at_split
from stockpot.progress import Progress, in_words, silent
from stockpot.reporting import charts
from stockpot.reporting.calls import training_call
from stockpot.reporting.cards import THUMBNAIL, card, describe_chain, mistake_card
from stockpot.reporting.origins import describe_photos
from stockpot.reporting.pictures import jpeg_url, png_url
from stockpot.reporting.readings import (
    Say,
    kind,
    percent,
    read_audit,
    read_checks,
    read_confusion,
    read_curves,
    read_learning_curve,
    read_remarks,
    read_seconds,
    read_summary,
    read_test,
    read_training,
    texts,
)

MISTAKES_SHOWN = 12
SHEET_PHOTOS = 8
SECTIONS = (  # anchor, number on the lab sheet; the title is the text `<anchor>.heading`
    ("photos", "1"),
    ("pixels", "2"),
    ("comparison", "3-5"),  # after one section a training
    ("evaluation", ""),
    ("maps", "6, 8"),
    ("channels", "7"),
    ("mistakes", "9"),
    ("making", ""),
)


_TITLES = {"xception": "Xception", "efficientnet_lite0": "EfficientNet-Lite0", "cifar": "the small network"}
_NUMBERS = {"scratch": "3", "probe": "5", "tail": "5.4", "tuned": "5.4"}  # on the lab sheet


def write_report(project: Path | str, run: str | None = None, progress: Progress = silent) -> Path:
    """Write `report.html` and return its path.

    Args:
        project: a project folder.
        run: name of the run; by default the one with the highest accuracy on the present validation photos.
        progress: told if feature maps have to be computed again.

    Raises:
        ProjectError: no project, no such run, or only runs on photos that have changed since.
        PhotoError: photos that no classifier can be made of.
        Busy, FolderError: the project cannot be written.
    """
    opened = disk.open_project(project)
    split = look_at_split(opened.folder, progress)
    chosen = _choose_run(opened, split, run)
    selection = explain_run(opened, chosen, split, progress)
    comparison = compare(opened.folder, progress)
    page = _render(opened, chosen, split, selection, comparison, asked=run is not None)
    with opened.writing():
        disk.write_bytes(opened.report, page.encode("utf-8", "backslashreplace"))
    return opened.report


def _choose_run(opened: disk.Project, split: Split, name: str | None) -> Run:
    runs = [run for run in read_runs(opened) if name in (None, run.name)]
    current = [run for run in runs if run.split_fingerprint == split.fingerprint]
    if not current:
        state = f"has only runs on photos that have changed since ({runs[0].name})" if runs else "has no run"
        raise ProjectError(
            f"{opened.folder} {state}{f' {name!r}' if name else ''}: stockpot study {opened.folder}"
        )
    return best_run(current)


def _render(
    opened: disk.Project,
    run: Run,
    split: Split,
    selection: Selection,
    comparison: Comparison,
    asked: bool,
) -> str:
    say = texts("en")
    name = opened.folder.resolve().name
    model = read_model(run.model_path)
    shown = selection.mistakes[:MISTAKES_SHOWN]
    scale = shared_scale([*selection.correct, *(mistake.explanation for mistake in shown)])
    room = files("stockpot.reporting")
    vendor = room / "vendor"
    scripts = [entry["file"] for entry in json.loads((vendor / "manifest.json").read_text("utf-8")).values()]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stockpot.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    first = selection.correct[0] if selection.correct else selection.mistakes[0].explanation
    runs = {each.name: each for each in read_runs(opened)}
    trainings = [_training(runs[row.name], runs, name, say) for row in comparison.rows]
    values = {
        "language": "en",
        "say": say,
        "percent": percent,
        "in_words": in_words,
        "read_test": read_test,
        "remarks": [*read_remarks(comparison, say), *_missing(trainings, opened, say)],
        "which": say(f"evaluation.{'asked' if asked else 'best'}", run=run.name, runs=len(comparison.rows)),
        "draws": DRAWS,
        "decimal": lambda value: f"{value:.3f}",
        "style": Markup((room / "templates" / "report.css").read_text("utf-8")),
        "scripts": [Markup((vendor / file).read_text("utf-8")) for file in scripts],
        "project": name,
        "version": version("stockpot"),
        "date": datetime.date.today().isoformat(),
        "attribution": ATTRIBUTION if is_sample(opened) else "",
        "contents": _contents(trainings, say),
        "trainings": trainings,
        "comparison": comparison,
        "more": read_learning_curve(comparison.curve, say) if comparison.curve else "",
        "method": say(
            f"page.method_{run.recipe['keep']}",
            run=run.name,
            training=len(split.training),
            n=run.evaluation.n,
        ),
        "run": run,
        "split": split,
        "about": describe_photos(opened, split, say),
        "counts": _counts(split, len(selection.mistakes)),
        "sheet": _contact_sheet(split, model),
        "charts": _charts(run, comparison, say),
        "confused": read_confusion(run, say),
        "legend": png_url(legend(scale)),
        "example": f"{name}/{first.photo.relative_to(opened.folder).as_posix()}",
        "chain": describe_chain(first, scale, say),
        "correct": [card(explanation, scale) for explanation in selection.correct],
        "mistakes": [mistake_card(opened, mistake, scale) for mistake in shown],
        "environment": _flat(disk.read_json(run.folder / "environment.json") or {}),
    }
    return environment.get_template("report.html").render(values | _listings(split))


def _listings(split: Split) -> dict[str, list[str]]:
    """Return the files that the report names, by why."""
    return {
        "refused": describe_refused(split.refused),
        "repeated": [f"{short_name(left.path)} = {short_name(kept.path)}" for left, kept in split.repeated],
        "conflicts": [" = ".join(short_name(photo.path) for photo in same) for same in split.conflicts],
        "between": [short_name(photo.path) for photo in split.between],
        "straddling": [" = ".join(short_name(photo.path) for photo in near) for near in split.straddling],
        "near": [" = ".join(short_name(photo.path) for photo in near) for near in split.near_duplicates],
    }


def _counts(split: Split, mistakes: int) -> dict[str, Any]:
    training = Counter(photo.label for photo in split.training)
    validation = Counter(photo.label for photo in split.validation)
    used = len(split.training) + len(split.validation)
    return {
        "by_class": [(name, training[name], validation[name]) for name in split.class_names],
        "used": used,
        "found": used + len(split.refused) + split.skipped,
        "refused": len(split.refused),
        "mistakes": mistakes,
        "conflicts": sum(map(len, split.conflicts)),
        "near": sum(map(len, split.near_duplicates)),
    }


def _contact_sheet(split: Split, model: ModelFile) -> list[dict[str, str]]:
    """Return training photos, evenly from all classes: the file, what the network gets, and 32 x 32."""
    small = replace(model.preprocessing, image_size=32)
    cells = []
    for photo in _some_of_each(split):
        large = Image.fromarray(read_prepared(photo.path, model.preprocessing))
        cells.append(
            {
                "label": photo.label,
                "original": jpeg_url(thumbnail(photo.path, THUMBNAIL)),
                "large": jpeg_url(large, quality=95, subsampling=0),
                "small": png_url(Image.fromarray(read_prepared(photo.path, small))),
            }
        )
    return cells


def _some_of_each(split: Split) -> list[Photo]:
    each = max(1, math.ceil(SHEET_PHOTOS / len(split.class_names)))
    by_class = {name: [p for p in split.training if p.label == name][:each] for name in split.class_names}
    rounds = [photo for together in zip(*by_class.values(), strict=False) for photo in together]
    return rounds[: max(SHEET_PHOTOS, len(split.class_names))]


def _training(run: Run, runs: dict[str, Run], project: str, say: Say) -> dict[str, Any]:
    """Return what the section of a training shows."""
    before = next((other for other in runs.values() if run.goes_on_from(other)), None)
    earlier = before.history if before else ()
    backbone, side = _TITLES.get(run.recipe["backbone"], run.recipe["backbone"]), say("training.side")
    return {
        "anchor": f"training-{run.name}",
        "number": "4" if run.recipe["start"] == "cifar10" else _NUMBERS[kind(run)],
        "title": say(f"training.{kind(run)}", start=_origin(run), backbone=backbone),
        "run": run,
        "before": before.name if before else "",
        "how": read_training(run, before, read_model(run.model_path), project, say),
        "code": training_call(run, before, project),
        "epochs": list(enumerate((*earlier, *run.history), 1 - len(earlier))),
        "summary": read_summary(run, say),
        "loss": charts.learning_curves(run.history, "loss", say("training.loss"), side, earlier),
        "accuracy": charts.learning_curves(run.history, "accuracy", say("training.accuracy"), side, earlier),
        "reading": read_curves(run, say),
        "audit": read_audit(run, say),
        "checks": read_checks(run, say),
        "seconds": read_seconds(run, say),
    }


def _missing(trainings: list[dict[str, Any]], opened: disk.Project, say: Say) -> list[str]:
    """Say which trainings of the lab are not there, and what would do them."""
    there = {(part["number"], kind(part["run"])) for part in trainings}
    known = {("3", "scratch"): "scratch", ("4", "probe"): "cifar", ("5.4", "tail"): "tail"}
    if ("5.4", "tuned") in there:
        del known["5.4", "tail"]
    names = [name for place, name in known.items() if place not in there]
    project = shlex.quote(opened.folder.resolve().name)
    command = f"stockpot study {project} --recipes {','.join(names)} --time-budget none"
    return [say("comparison.missing", names=", ".join(names), command=command)] if names else []


def _contents(trainings: list[dict[str, Any]], say: Say) -> list[tuple[str, str, str]]:
    """Return anchor, number on the lab sheet, and title of every section."""
    sections = [(anchor, number, say(f"{anchor}.heading")) for anchor, number in SECTIONS]
    between = [(part["anchor"], part["number"], part["title"]) for part in trainings]
    place = [anchor for anchor, _ in SECTIONS].index("comparison")
    return [*sections[:place], *between, *sections[place:]]


def _charts(run: Run, comparison: Comparison, say: Say) -> dict[str, charts.Spec | None]:
    photos, accuracy = say("comparison.more_photos"), say("comparison.accuracy")
    return {
        "confusion": charts.confusion_chart(
            run.evaluation, say("evaluation.truth"), say("evaluation.predicted")
        ),
        "photos": charts.photos_curve(comparison.curve, photos, accuracy) if comparison.curve else None,
    }


def _flat(value: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return a nested mapping as rows."""
    rows: list[tuple[str, Any]] = []
    for name, content in value.items():
        rows += _flat(content) if isinstance(content, dict) else [(name, content)]
    return rows


def _origin(run: Run) -> str:
    """Return where the backbone's weights were learned: a data set's name, else as the recipe says."""
    start = str(run.recipe["start"])
    return {"imagenet": "ImageNet", "cifar10": "CIFAR-10"}.get(start, start)
