"""The command line: parse, call one function, print. Data go to stdout, progress and messages to stderr."""

import io
import json
import logging
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stockpot import __version__
from stockpot.display import show_progress
from stockpot.errors import StockpotError, WrongUse, sentence_of
from stockpot.photos.photo import describe_refused, short_name

if TYPE_CHECKING:
    from stockpot.curation.findings import Finding
    from stockpot.learning.compute import Compute


class _Commands(typer.core.TyperGroup):
    """Turn errors into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
            raise typer.Exit(0) from None
        except Exception as error:
            if not (said := sentence_of(error)):
                raise
            _say(f"Error: {said}")
            if not isinstance(error, StockpotError):
                logging.getLogger("stockpot").info("Where it happened:", exc_info=error)
            raise typer.Exit(getattr(error, "exit_code", 1)) from None
        except KeyboardInterrupt:
            _say("Stopped. What was finished is kept; give the same command again to go on.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Project = Annotated[Path, typer.Argument(help="A project folder.", show_default=False)]
Model = Annotated[
    Path,
    typer.Argument(help="A project (its best run), a run's folder, or a model file.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(help="Processors to use.", show_default="all")]
On = Annotated[
    str | None, typer.Option(help="ray, ray://HOST:10001 or HOST:6379: a cluster that does the heavy work.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="With --on: processes.", show_default="one a GPU, else a node or a processor"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Open = Annotated[bool, typer.Option("--open", help="Open it in the browser.")]


def main() -> None:
    """Run the command line; names that the terminal cannot show are escaped, never a crash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    app(prog_name="stockpot")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
) -> None:
    """A good image classifier from a few hundred photos, and a picture of why it decides as it does.

    Start with [bold]stockpot demo[/bold], or with your own photos, one folder a class:
    [bold]stockpot study PROJECT --photos FOLDER[/bold]
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    if verbose:
        logging.getLogger("stockpot").setLevel(logging.INFO)


Recipes = Annotated[
    str | None,
    typer.Option(
        help="Some of scratch,cifar,probe,tail,tuned.", show_default="all but tuned; without a budget all"
    ),
]
TimeBudget = Annotated[str, typer.Option(help="For training: 45s, 10m, 2h, or none.")]


@app.command()
def demo(
    project: Annotated[Path, typer.Argument(help="Folder of the project to make.")] = Path("solar-cells"),
    per_class: Annotated[int, typer.Option(help="Photos of each of the four classes.")] = 100,
    recipes: Recipes = None,
    time_budget: TimeBudget = "10m",
    device: Device = "auto",
    open_it: Open = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole lab on photographs of solar cells.

    Example: stockpot demo solar-cells --per-class 100
    """
    from stockpot.studies import demo as run_demo

    chosen, seconds = _names(recipes), _seconds(time_budget)
    done = run_demo(project, per_class, chosen, seconds, show_progress(quiet), device)
    _report_study(done, as_json, open_it)


@app.command()
def study(
    project: Project,
    photos: Annotated[
        Path | None, typer.Option(help="Folder with one folder of photos a class, copied into the project.")
    ] = None,
    recipes: Recipes = None,
    time_budget: TimeBudget = "10m",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse classes that ready-made models know.")
    ] = False,
    device: Device = "auto",
    on: On = None,
    workers: Workers = None,
    open_it: Open = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Split, train by all recipes, compare, explain and report; what is done already is not done again.

    Example: stockpot study food --photos ~/pictures/food
    """
    from stockpot.studies import study as run_study

    chosen, seconds = _names(recipes), _seconds(time_budget)
    with _computing(on, workers, device) as compute:
        done = run_study(project, photos, chosen, seconds, strict, show_progress(quiet), device, compute)
    _report_study(done, as_json, open_it)


@contextmanager
def _computing(on: str | None, workers: int | None, device: str) -> "Iterator[Compute | None]":
    """Yield the cluster that `--on` names, if it does."""
    if on is None:
        if workers is not None:
            raise WrongUse("--workers needs a cluster: add --on ray.")
        yield None
        return
    if device != "auto" or (workers is not None and workers < 1):
        raise WrongUse(
            "--on takes GPUs where the cluster has them: leave out --device, and give 1 or more --workers."
        )
    from stockpot.cluster.training import on_ray

    with on_ray("" if on == "ray" else on, workers) as compute:
        yield compute


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seconds(text: str) -> float | None:
    """Return a time budget in seconds, or None for none."""
    if text == "none":
        return None
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text):
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
    raise WrongUse(f"{text!r} is no time; expected for instance 45s, 10m, 2h or none.")


@app.command()
def collect(
    project: Project,
    classes: Annotated[
        list[str] | None, typer.Argument(help="Names of classes, which are searched for.", show_default=False)
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(help="Photos that every class is to have.", show_default="330")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="duckduckgo, openverse or both.", show_default="duckduckgo")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(help="Further queries of a class: CLASS=QUERY,QUERY.", show_default=False),
    ] = None,
    originals: Annotated[
        bool, typer.Option("--originals", help="Fetch the photos themselves, not the engine's thumbnails.")
    ] = False,
    license: Annotated[
        str | None,
        typer.Option(
            help="any, public, share, share-commercially, modify or modify-commercially.", show_default="any"
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Instead of searching: a folder of photos, or a CSV of path,label."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Class of all photos in --from.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse classes that ready-made models know.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bring photos in: from an image search, or from a folder of one's own; what is there is never fetched again.

    Example: stockpot collect food "apple pie" baklava --per-class 330 --query "baklava=baklava dessert"
    """
    if source is not None:
        if classes or query or originals or any(given is not None for given in (per_class, engine, license)):
            raise WrongUse(
                "--from brings in photos of your own: leave out classes and what is for searching."
            )
        _say_own(project, source, label, strict, as_json, quiet)
        return
    if label is not None:
        raise WrongUse("--label is for --from FOLDER; a class that is searched for is named by itself.")
    from stockpot.collection.collection import collect as run_collect

    found = run_collect(
        project,
        _with_queries(classes or [], query or []),
        330 if per_class is None else per_class,
        engine or "duckduckgo",  # type: ignore[arg-type]
        originals,
        license or "any",  # type: ignore[arg-type]
        strict,
        show_progress(quiet),
    )
    for one in found:
        if as_json:
            counts = {"class": one.label, "wanted": one.wanted, "had": one.had, "new": one.new}
            _print_json({**counts, "dropped": one.dropped, "stopped": one.stopped})
            continue
        typer.echo(f"{one.label}: {one.had + one.new} photos, {one.new} of them new")
        for reason, count in one.dropped.items():
            typer.echo(f"  {count} dropped: {reason}")
        if one.stopped:
            typer.echo(f"  {one.missing} fewer than wanted: {one.stopped}")
    _say(f"done, next: look through {project / 'photos'}, then: stockpot study {project}")


def _say_own(
    project: Path, source: Path, label: str | None, strict: bool, as_json: bool, quiet: bool
) -> None:
    from stockpot.collection.own_photos import bring_own

    own = bring_own(project, source, label, strict, show_progress(quiet))
    if as_json:
        refused = {str(file.path): file.reason for file in own.refused}
        _print_json({"new": own.new, "known": own.known, "refused": refused})
    else:
        typer.echo(f"{own.new} photos copied, {own.known} were here before, {len(own.refused)} refused")
        for line in describe_refused(own.refused):
            typer.echo(f"  {line}")
    _say(f"done, next: stockpot study {project}")


def _with_queries(classes: list[str], queries: list[str]) -> dict[str, list[str]]:
    """Return for every class its further queries; a class may be named by them alone."""
    further: dict[str, list[str]] = {name: [] for name in classes}
    for text in queries:
        name, sign, listed = text.partition("=")
        if not sign or not listed.strip():
            raise WrongUse(f"--query is {text!r}; expected CLASS=QUERY,QUERY.")
        further.setdefault(name.strip(), []).extend(q for part in listed.split(",") if (q := part.strip()))
    return further


@app.command()
def curate(
    project: Project,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Set aside the certain: no pictures, second copies, blank, tiny, aside before.",
        ),
    ] = False,
    set_aside: Annotated[
        list[str] | None,
        typer.Option(help="Identifiers of photos, as the page shows them: A,B,C.", show_default=False),
    ] = None,
    move: Annotated[
        list[str] | None, typer.Option(help="A photo to another class: IDENTIFIER=CLASS.", show_default=False)
    ] = None,
    undo: Annotated[
        str | None,
        typer.Option(help="Put back what a step moved: its number, last or all.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find photos that should not be there, set them aside or move them, and take any of it back.

    Example: stockpot curate food --auto
    """
    from stockpot.curation import curation
    from stockpot.reporting.curation_page import write_curation_page

    progress = show_progress(quiet)
    again = f"stockpot curate {shlex.quote(str(project))}"
    if undo is not None:
        if auto or set_aside or move:
            raise WrongUse("--undo goes by itself.")
        back = curation.undo(project, _step(undo))
        if as_json:
            _print_json({"put_back": back})
        _say(f"{back} files put back; next: {again}")
        return
    aside = [name for text in set_aside or [] for name in re.split(r"[,\s]+", text) if name]
    found = curation.curate(project, auto, aside, _targets(move or []), progress)
    page = write_curation_page(project, found, progress)
    if as_json:
        _print_json(
            {
                "photos": len(found.photos),
                "findings": [_finding(one) for one in found.findings],
                "unjudged": found.unjudged,
                "known": [vars(sight) | {"verdict": sight.verdict} for sight in found.sights],
                "shortcut": found.shortcut and vars(found.shortcut) | {"found": found.shortcut.found},
                "moved": found.moved,
                "step": found.step,
            }
        )
    else:
        counts = Counter((one.rule, one.certain) for one in found.findings)
        for (rule, certain), count in counts.items():
            typer.echo(f"{count} {rule}{' (certain)' if certain else ''}")
    if found.step is not None:
        _say(f"{found.moved} files moved; back again: {again} --undo {found.step}")
    _say(f"done, next: open {page}, tick what is to go, and copy the command")


def _finding(one: "Finding") -> dict[str, Any]:
    """Return a finding as `--json` has it."""
    row = {"identifier": one.identifier, "file": one.name, "rule": one.rule, "strength": one.strength}
    return row | {"reason": one.reason, "action": one.action, "certain": one.certain}


def _step(text: str) -> int | Literal["all"] | None:
    if text in ("last", "all"):
        return None if text == "last" else "all"
    if not text.isdecimal():
        raise WrongUse(f"--undo is {text!r}; expected the number of a step, last or all.")
    return int(text)


def _targets(moves: list[str]) -> dict[str, str]:
    """Return the class that each identifier goes to."""
    pairs = [text.partition("=") for text in moves]
    wrong = [text for text, (name, _, label) in zip(moves, pairs, strict=True) if not name or not label]
    if wrong:
        raise WrongUse(f"--move is {wrong[0]!r}; expected IDENTIFIER=CLASS.")
    return {name: label for name, _, label in pairs}


@app.command()
def split(
    project: Project,
    validation: Annotated[
        float | None,
        typer.Option(help="Share of each class to validate on.", show_default="0.2, or as before"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides which photos.", show_default="0, or as before")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Put every photo on the training or the validation side.

    Example: stockpot split food --validation 0.2 --seed 0
    """
    from stockpot.photos.splits import split as run_split

    sides = run_split(project, validation, seed, show_progress(quiet))
    value = {
        "class_names": sides.class_names,
        "training": len(sides.training),
        "validation": len(sides.validation),
        "refused": [{"file": short_name(file.path), "reason": file.reason} for file in sides.refused],
        "repeated": [short_name(left.path) for left, _ in sides.repeated],
        "conflicts": [[short_name(photo.path) for photo in same] for same in sides.conflicts],
        "between": [short_name(photo.path) for photo in sides.between],
        "near_duplicates": [[short_name(photo.path) for photo in near] for near in sides.near_duplicates],
        "straddling": [[short_name(photo.path) for photo in near] for near in sides.straddling],
        "fingerprint": sides.fingerprint,
    }
    if as_json:
        _print_json(value)
    else:
        typer.echo(f"{len(sides.training)} training and {len(sides.validation)} validation photos")
    _name_refused(sides)
    _say(f"done, next: stockpot train {project}")


@app.command()
def train(
    project: Project,
    recipe: Annotated[
        str,
        typer.Option(
            help="from-scratch; linear-probe: a new head only; fine-tune: all layers of a run, or its last blocks."
        ),
    ] = "linear-probe",
    name: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="scratch, cifar, probe, tail or tuned")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="xception, efficientnet_lite0, cifar, or a model of timm.",
            show_default="cifar from scratch, else xception, or that of --start",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Its weights: a run's folder, a model or weights file, random.",
            show_default="the backbone's own",
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help="The last layer: new, or keep that of --start.")] = None,
    trainable: Annotated[
        str | None, typer.Option(help="What learns: head, all, or a block and everything after it.")
    ] = None,
    batch_norm: Annotated[
        str | None, typer.Option(help="Running statistics: inference (fixed) or training.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pixels on each side of the network's input.", show_default="the backbone's usual"),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(help="Photos that are not square: squash, crop or pad.", show_default="squash"),
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="How training photos are varied: none, light or strong.")
    ] = None,
    views: Annotated[
        int | None, typer.Option(help="Varied copies of a photo that are cached before frozen blocks.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training photos.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="Epoch that counts: last, or best by validation loss.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a step.", show_default="32")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="The highest.",
            show_default="head 0.003 (cifar 0.03), scratch 0.002, fine-tune a tenth of the run's, at most 0.0003",
        ),
    ] = None,
    warmup: Annotated[
        float | None,
        typer.Option(
            help="Share of all steps in which it rises first.", show_default="0, 0.1 for all layers"
        ),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's.")] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(help="Share of the truth spread over all classes.", show_default="0, fine-tune 0.1"),
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option(help="none, or balanced: every class counts alike.", show_default="none")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of products while layers learn: bfloat16 or float32.",
            show_default="the processor's fastest",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of new weights, order and variation.", show_default="0")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds to train with; the first is kept whole.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that Ctrl-C ended early.")
    ] = False,
    device: Device = "auto",
    on: On = None,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train by a recipe and keep the run; what is not given is the recipe's usual value.

    Example: stockpot train food --recipe linear-probe --backbone xception --name probe
    """
    from stockpot.learning.forecast import forecast
    from stockpot.learning.recipes import Recipe
    from stockpot.learning.torchrun import here
    from stockpot.learning.training import train as run_train

    # First: of torchrun's processes only one goes on from here
    local = None if on else here(device)
    chosen = Recipe.named(
        recipe,
        backbone=backbone,
        start=start,
        head=head,
        trainable=trainable,
        batch_norm=batch_norm,
        image_size=image_size,
        resize=resize,
        augment=augment,
        views=views,
        epochs=epochs,
        keep=keep,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        precision=precision,
        seed=seed,
    )
    progress = show_progress(quiet)
    with _computing(on, workers, device) as cluster:
        compute = cluster or local
        if (
            not (quiet or on)
            and (expected := forecast(project, chosen, name, progress, device, resume)).seconds
        ):
            _say(f"{expected} here{' a seed' if seeds > 1 else ''}")
        run = run_train(project, chosen, name, progress, resume, seeds, device, compute=compute)
    if as_json:
        state = {"chosen_epoch": run.chosen_epoch, "interrupted": run.interrupted}
        _print_json({"name": run.name, **run.evaluation.to_json(), **state, "seconds": run.seconds})
    else:
        mark = f", epoch {run.chosen_epoch} chosen on these photos" if run.chosen else ""
        typer.echo(f"{run.name}: {_figures(run.evaluation)}{mark}")
    if run.interrupted:
        _say(f"stopped after epoch {len(run.history)}, next: the same command with --resume goes on")
        raise typer.Exit(130)
    _say(f"done, next: stockpot compare {project}, or stockpot report {project}")


@app.command()
def compare(project: Project, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Set all runs side by side: accuracy, interval, exact test, time, and whether more photos would help.

    Example: stockpot compare food
    """
    from stockpot.learning.comparison import compare as run_compare

    comparison = run_compare(project, show_progress(quiet))
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), ensure_ascii=False))
    else:
        typer.echo(comparison)
    _say(f"done, next: stockpot report {project}")


@app.command()
def pretrain(
    dataset: Annotated[str, typer.Argument(help="cifar10.", show_default=False)],
    data: Annotated[str, typer.Option(help="hub, or a folder with the data set's Parquet files.")] = "hub",
    out: Annotated[Path, typer.Option(help="Model file to write, with its card beside it.")] = Path(
        "cifar10.safetensors"
    ),
    width: Annotated[int, typer.Option(help="Channels of the network at 16 x 16.")] = 96,
    channels: Annotated[int, typer.Option(help="Channels of its feature maps.")] = 256,
    epochs: Annotated[int, typer.Option(help="Passes over the training photos.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Photos a step.")] = 2000,
    learning_rate: Annotated[float, typer.Option(help="At the first step.")] = 0.24,
    label_smoothing: Annotated[float, typer.Option(help="Share of the truth spread over all classes.")] = 0.2,
    shift: Annotated[int, typer.Option(help="Pixels that a photo is moved by at most.")] = 4,
    cutout: Annotated[int, typer.Option(help="Pixels on each side of a hidden square.")] = 8,
    validation: Annotated[
        float, typer.Option(help="Share of the training photos to measure on instead of the test photos.")
    ] = 0.0,
    precision: Annotated[
        str | None,
        typer.Option(help="bfloat16 or float32.", show_default="the processor's fastest"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights, the order and the movements.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the small network for 32 x 32 photos from random weights; a checkpoint is kept at every epoch.

    Example: stockpot pretrain cifar10 --data hub --out my-cifar10.safetensors
    """
    from stockpot.learning.evaluation import from_json
    from stockpot.learning.precision import fast_precision
    from stockpot.learning.pretraining import Pretraining
    from stockpot.learning.pretraining import pretrain as run_pretrain

    recipe = Pretraining(
        width=width,
        channels=channels,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        label_smoothing=label_smoothing,
        shift=shift,
        cutout=cutout,
        validation=validation,
        precision=precision or fast_precision(),  # type: ignore[arg-type]
        seed=seed,
    )
    model = run_pretrain(dataset, data, out, recipe, show_progress(quiet))
    side = "validation" if validation else "test"
    figures = from_json(model.metrics[side])
    if as_json:
        _print_json({"model": str(model.path), "data": model.recipe["data"], side: figures.to_json()})
    else:
        typer.echo(f"{model.path}: {_figures(figures)}, {side} side of {model.recipe['data']}")
    _say(f"done, next: stockpot train PROJECT --start {model.path}")


@app.command()
def status(project: Project, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Say what is there, what is new, what is stale, and what to do next.

    Example: stockpot status food
    """
    from stockpot.learning.status import look_at_status

    state = look_at_status(project, show_progress(quiet))
    if as_json:
        _print_json(state.to_json())
        return
    for row in state.classes:
        typer.echo(f"{row.name}: {row.photos} photos, {row.training} training, {row.validation} validation")
    counts = (
        (len(state.refused), "refused"),
        (state.repeated, "there twice"),
        (state.conflicts, "in two classes"),
        (state.between, "nearly the same as photos of both sides"),
        (state.near_duplicates, "near duplicates"),
        (state.gone, "gone, their side remembered"),
        (state.new, "new since the split"),
    )
    if shown := [f"{count} {words}" for count, words in counts if count]:
        typer.echo(f"{', '.join(shown)}")
    for line in describe_refused(state.refused):
        typer.echo(f"refused {line}")
    for run in state.runs:
        stale = " - stale: the photos have changed since" if run.stale else ""
        typer.echo(f"run {run.name}: {run.accuracy:.1%} of {run.n}{stale}")
    if state.problem:
        typer.echo(state.problem)
    typer.echo(f"next: {state.next}")


@app.command()
def evaluate(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="One folder of photos a class.", show_default=False)],
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on photos that it has never seen.

    Example: stockpot evaluate food ~/pictures/food-test
    """
    from stockpot.learning.models import evaluate as run_evaluate
    from stockpot.learning.models import load_model

    progress = show_progress(quiet)
    result, index = run_evaluate(load_model(model, progress, device, threads), folder, progress)
    if as_json:
        _print_json(result.to_json())
    else:
        typer.echo(_figures(result))
        for figures in result.per_class:
            typer.echo(
                f"{figures.name}: precision {figures.precision:.1%}, recall {figures.recall:.1%} "
                f"of {figures.photos}"
            )
    for line in describe_refused(index.refused):
        _say(f"refused {line}")
    _say(f"done {result.n}, refused {len(index.refused)}, next: {_explain_hint(model)}")


@app.command()
def predict(
    model: Model,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Image files, or folders of them.", show_default=False)
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Table to write: .csv, .jsonl or .parquet; with --on a folder, or s3://...",
            show_default="CSV on stdout",
        ),
    ] = None,
    sort_into: Annotated[
        Path | None, typer.Option(help="Copy every photo into a folder of its class below this one.")
    ] = None,
    unsure_below: Annotated[
        float, typer.Option(help="Probability below which a copy goes to the folder unsure.")
    ] = 0.5,
    on: Annotated[
        str | None,
        typer.Option(
            help="ray, ray://HOST:10001 or HOST:6379: a cluster that predicts what --manifest names."
        ),
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="With --on: Parquet, here or s3://..., with photos in its column uri.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --on: processes.", show_default="one a GPU, or a processor")
    ] = None,
    part_rows: Annotated[
        int | None, typer.Option(help="With --on: photos a file of --output.", show_default="256 or more")
    ] = None,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="With --on: a column of pooled features.")
    ] = False,
    keep_maps: Annotated[
        bool, typer.Option("--keep-maps", help="With --on: a column of class activation maps.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what is in photos: CSV on stdout or a table in a file, one row a file, in the order given.

    Example: stockpot predict food dinner.jpg > predictions.csv
    """
    from stockpot.learning.models import load_model
    from stockpot.learning.models import predict as run_predict
    from stockpot.learning.predictions import check_request, open_stream, open_table, record

    if on is not None:
        if manifest is None or output is None or paths or sort_into or threads or device != "auto":
            raise WrongUse(
                "--on needs --manifest photos.parquet --output FOLDER, and no paths, --sort-into, "
                "--threads or --device."
            )
        keep = (keep_features, keep_maps)
        _predict_manifest(model, manifest, output, on, workers, part_rows, *keep, as_json, quiet)
        return
    if manifest is not None or workers or part_rows or keep_features or keep_maps:
        raise WrongUse("--manifest and what goes with it need a cluster: add --on ray.")
    if not paths:
        raise WrongUse("No photos: give image files or folders, or --on ray --manifest photos.parquet.")
    table_path = None if output is None else Path(output)
    check_request(table_path, sort_into, unsure_below)
    progress = show_progress(quiet or (output is None and sys.stdout.isatty()))
    predictor = load_model(model, progress, device, threads)
    _say(f"model: {predictor.model.path}")
    names = predictor.model.class_names
    check_request(table_path, sort_into, unsure_below, names)
    with open_table(table_path, names) if table_path else open_stream(sys.stdout, names, as_json) as table:
        done, refused = record(run_predict(predictor, paths, progress), table, sort_into, unsure_below)
    _say(
        f"done {done}, refused {refused}, next: {f'look at {sort_into}' if sort_into else _explain_hint(model)}"
    )
    if not done:
        raise typer.Exit(1)


def _predict_manifest(
    model: Path,
    manifest: str,
    output: str,
    on: str,
    workers: int | None,
    part_rows: int | None,
    features: bool,
    maps: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from stockpot.cluster.predicting import predict_manifest

    address = "" if on == "ray" else on
    keep = (features, maps)
    totals = predict_manifest(
        model, manifest, output, address, workers, part_rows, *keep, show_progress(quiet)
    )
    if as_json:
        _print_json(vars(totals))
    _say(
        f"done {totals.rows - totals.errors}, refused {totals.errors}, in {totals.parts} parts, "
        f"{totals.parts_before} of them were there; next: read {output} as one Parquet table"
    )
    if totals.errors == totals.rows:
        raise typer.Exit(1)


def _explain_hint(model: Path) -> str:
    return f"stockpot explain {model} PHOTO..."


@app.command()
def explain(
    model: Model,
    photos: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("explanations"),
    label: Annotated[
        str | None, typer.Option(help="Class whose map is painted.", show_default="the predicted one")
    ] = None,
    channels: Annotated[
        int,
        typer.Option(min=0, help="So many of the strongest channels in a second picture, NAME-channels.png."),
    ] = 0,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Paint class activation maps on photos: what speaks for a class and what against it.

    Example: stockpot explain food dinner.jpg --output why --channels 16
    """
    from stockpot.explanation.explanation import explain_files
    from stockpot.learning.models import load_model

    progress = show_progress(quiet)
    predictor = load_model(model, progress, device, threads)
    done = refused = 0
    for _, picture, answer in explain_files(predictor, photos, output, label, channels, progress):
        if isinstance(answer, StockpotError):
            refused += 1
            _say(f"refused {answer}")
            continue
        done += 1
        if as_json:
            _print_json(answer.to_json(label, channels) | {"picture": str(picture)})
        else:
            typer.echo(f"{picture}: {answer.predicted} {answer.probability:.1%}")
    _say(f"done {done}, refused {refused}, next: look at {output}")
    if not done:
        raise typer.Exit(1)


@app.command()
def clean(project: Project, as_json: AsJson = False) -> None:
    """Delete a project's cache; photos, split and runs stay, and what is needed again is computed again.

    Example: stockpot clean food
    """
    from stockpot.project import clean as run_clean

    freed = run_clean(project)
    if as_json:
        _print_json({"freed_bytes": freed})
    _say(f"done, freed {freed / 1e6:.1f} MB, next: stockpot study {project}")


@app.command()
def export(
    model: Model,
    output: Annotated[
        Path, typer.Argument(help="The file to write, FILE.onnx or FILE.html.", show_default=False)
    ],
    quiet: Quiet = False,
) -> None:
    """Write a model as one file: .onnx for programs, .html as a page that classifies photos in a browser.

    Example: stockpot export food food.html
    """
    from stockpot.publishing.export import export as run_export

    path = run_export(model, output, show_progress(quiet))
    typer.echo(path)
    use = "next: open it in a browser" if path.suffix == ".html" else "for anything with ONNX Runtime"
    _say(f"done: {path.stat().st_size / 1e6:.1f} MB, {use} (docs/shipping.md)")


@app.command()
def publish(
    model: Model,
    to: Annotated[
        str,
        typer.Option(help="A new folder; or hub, or hub:NAME/MODEL.", show_default=False, metavar="FOLDER"),
    ],
    example: Annotated[
        Path | None,
        typer.Option(help="Photo that the card shows.", show_default="the surest; none on the hub"),
    ] = None,
    no_example: Annotated[bool, typer.Option("--no-example", help="A card without a photo.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it on the hub.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as a folder for timm, transformers and ONNX Runtime, with a card; or upload it to the hub.

    Example: stockpot publish food --to food-model
    """
    from stockpot.publishing.publish import publish as run_publish

    if example and no_example:
        raise WrongUse("--example and --no-example exclude each other: leave one out")

    place = run_publish(model, to, "" if no_example else example, public, show_progress(quiet))
    typer.echo(place)
    _say("done: read README.md, the model card, before you pass it on")


@app.command()
def serve(
    model: Model,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other computers too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    megabytes: Annotated[float, typer.Option(help="That a request may have.")] = 20.0,
    seconds: Annotated[float, typer.Option(help="That a request may take.")] = 30.0,
    device: Device = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Answer HTTP requests with a model: POST /predict and /explain, GET /model, /healthz, /metrics, /openapi.json.

    Example: stockpot serve food, then: curl --data-binary @dinner.jpg http://127.0.0.1:8000/predict
    """
    from stockpot.publishing.service import Limits
    from stockpot.publishing.service import serve as run_serve

    limits = Limits(megabytes, seconds)
    with suppress(KeyboardInterrupt):  # the orderly end that was asked for
        run_serve(model, host, port, limits, device, threads, typer.echo, show_progress(quiet))


@app.command()
def report(
    project: Project,
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="the best one")] = None,
    language: Annotated[str, typer.Option(help="en or pl.")] = "en",
    author: Annotated[str, typer.Option(help="Whose work it is.", show_default=False)] = "",
    title: Annotated[str, typer.Option(help="Of the report.", show_default="what is classified")] = "",
    open_it: Open = False,
    quiet: Quiet = False,
) -> None:
    """Write the report, one self-contained page, and print its path; words of yours come from PROJECT/notes.md.

    Example: stockpot report food --language pl --author "Ada Lovelace" --open
    """
    from stockpot.reporting.report import write_report

    path = write_report(project, run, show_progress(quiet), language, author, title)
    typer.echo(path)
    if open_it:
        _open(path.resolve().as_uri())


@app.command()
def web(
    project: Project,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")] = 8765,
    open_it: Open = False,
) -> None:
    """Open a page on this computer: collect, review, train, ask why, write the report. Ctrl-C ends it.

    Example: stockpot web food --open
    """
    from stockpot.web.app import serve

    def ready(address: str) -> None:
        typer.echo(address)
        if open_it:
            _open(address)

    serve(project, port, ready)


def _open(address: str) -> None:
    import webbrowser

    webbrowser.open(address)


def _report_study(study: Any, as_json: bool, open_it: bool) -> None:
    """Print what a study left behind, and open its report."""
    value = {
        "run": study.run.name,
        "trained": study.trained,
        "left_out": dict(study.left_out),
        "forecasts": [
            dict(zip(("recipe", "expected", "seconds"), row, strict=True)) for row in study.forecasts
        ],
        "runs": study.comparison.to_json(),
        "report": str(study.report),
        **study.run.evaluation.to_json(),
    }
    if as_json:
        _print_json(value)
    else:
        typer.echo(study.comparison)
        if not study.trained and not study.left_out:
            typer.echo("nothing to train: unchanged since the last time")
        typer.echo(study.report)
    if open_it:
        _open(study.report.resolve().as_uri())
    _name_refused(study.split)
    for name, reason in study.left_out:
        _say(f"left out {name}: {reason}")
    if study.interrupted:
        _say("stopped early, next: the same command goes on")
        raise typer.Exit(130)
    _say(f"done, next: open {study.report} in a browser, or stockpot predict {study.project} PHOTO...")


def _name_refused(split: Any) -> None:
    for line in describe_refused(split.refused):
        _say(f"refused {line}")
    for left, kept in split.repeated:
        _say(f"skipped {short_name(left.path)}: the same bytes as {short_name(kept.path)}")
    for same in split.conflicts:
        places = " and ".join(short_name(photo.path) for photo in same)
        _say(f"skipped {places}: the same bytes in two classes; remove the wrong one")
    for photo in split.between:
        _say(f"skipped {short_name(photo.path)}: nearly the same as photos of both sides")
    if near := split.near_duplicates:
        _say(f"{sum(map(len, near))} photos are near duplicates, in {len(near)} groups; each is on one side")
    for group in split.straddling:
        places = " and ".join(short_name(photo.path) for photo in group)
        _say(f"on both sides since before: {places}; to split anew: another --seed")
    if split.refused or split.skipped:
        _say(f"refused {len(split.refused)}, skipped {split.skipped}; all other photos are used")


def _figures(evaluation: Any) -> str:
    low, high = evaluation.interval
    return (
        f"accuracy {evaluation.accuracy:.1%} of {evaluation.n} photos (95 % interval {low:.1%} to {high:.1%}), "
        f"loss {evaluation.loss:.3f}"
    )


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def _say(text: str) -> None:
    typer.echo(text, err=True)
