"""Points 3 to 5 of the lab sheet: training from scratch, transfer from CIFAR-10 and ImageNet, fine-tuning."""

from stockpot.learning.runs import Epoch, Run, short_hash
from stockpot.model.model_file import read_model
from stockpot.reporting.blocks import (
    Block,
    Blocks,
    chart,
    charts,
    code,
    heading,
    hidden,
    table,
    text,
)
from stockpot.reporting.calls import (
    FIRST_CALLS,
    as_variable,
    cutting_calls,
    freezing_calls,
    head_calls,
    literal,
    training_call,
    unfreezing_calls,
)
from stockpot.reporting.charts import learning_curves
from stockpot.reporting.material import Material
from stockpot.reporting.points import POINTS
from stockpot.reporting.readings import (
    backbone_title,
    kind,
    read_audit,
    read_batch_norm,
    read_checks,
    read_curves,
    read_gain,
    read_inference_mode,
    read_origin,
    read_rate,
    read_seconds,
    read_summary,
    read_training,
)
from stockpot.reporting.texts import Texts

RECIPES = {"3": "scratch", "4": "cifar", "5": "probe", "5.4": "tail"}  # of `study`, by point


def training_points(material: Material, say: Texts) -> dict[str, Blocks]:
    """Return what stands below the points on trainings."""
    points: dict[str, Blocks] = {}
    for number, points_of in (("3", _scratch), ("4", _borrowed), ("5", _probe), ("5.4", _tuned)):
        runs = material.trained(number)
        points |= points_of(runs[0], material, say) if runs else _missing(number, material, say)
        if runs:
            last = {"3": "3", "4": "4.6", "5": "5.3", "5.4": "5.4.4"}[number]
            for other in runs[1:]:
                points[last] += _other(other, material, say)
    return points


def _missing(number: str, material: Material, say: Texts) -> dict[str, Blocks]:
    """Return how the training of a point would be done."""
    call = code(FIRST_CALLS[number].format(project=literal(material.name)))
    command = f"stockpot study {material.shell_name} --recipes {RECIPES[number]} --time-budget none"
    below = [
        point
        for point in POINTS
        if point.startswith(f"{number}.") and (number != "5" or not point.startswith("5.4"))
    ]
    short = text(say("page.missing_here"), "quiet")
    points = {point: [short, call] if "how" in POINTS[point] else [short] for point in below}
    return {number: [text(say("page.missing", command=command)), call], **points}


def _scratch(run: Run, material: Material, say: Texts) -> dict[str, Blocks]:
    names = ", ".join(figures.name for figures in run.evaluation.per_class)
    classes, channels = len(run.evaluation.per_class), run.maps[0]
    outputs = say(
        "training.outputs",
        classes=classes,
        names=names,
        channels=channels,
        parameters=classes * (channels + 1),
    )
    return {
        "3": [*_told(run, material, say), *_curves(run, material, say)],
        "3.1": [text(outputs)],
    }


def _borrowed(run: Run, material: Material, say: Texts) -> dict[str, Blocks]:
    return {
        "4": _told(run, material, say),
        "4.1": [text(read_origin(run, read_model(run.model_path), say))],
        "4.2": [text(_frozen(run, say)), code(freezing_calls(run)), _audit(run, say)],
        "4.3": [text(read_inference_mode(run, say))],
        "4.4": [text(_no_gap(run, say)), code(cutting_calls(run))],
        "4.5": [text(_new_head(run, say)), code(head_calls(run))],
        "4.6": _curves(run, material, say),
    }


def _probe(run: Run, material: Material, say: Texts) -> dict[str, Blocks]:
    _, height, width = run.maps
    size = run.recipe["image_size"]
    shape = {"height": height, "width": width}
    return {
        "5": _told(run, material, say),
        "5.1": [text(say("training.input", size=size, times=say.number(size / 32, "g"), **shape))],
        "5.2": [text(read_origin(run, read_model(run.model_path), say))],
        "5.2.3": [text(_no_gap(run, say))],
        "5.2.4": [text(f"{read_batch_norm(run, say)}. {_frozen(run, say)}"), _audit(run, say)],
        "5.2.5": [
            text(say("training.chain")),
            _chain(run, say),
            code(f"{cutting_calls(run)}\n{head_calls(run)}"),
        ],
        "5.3": [*_curves(run, material, say), text(_saved(run, say)), text(read_checks(run, say), "quiet")],
    }


def _tuned(run: Run, material: Material, say: Texts) -> dict[str, Blocks]:
    part = "all" if kind(run) == "tuned" else "tail"
    unfrozen = say(f"training.unfrozen_{part}", block=run.recipe["trainable"])
    origin = read_origin(run, read_model(run.model_path), say)
    return {
        "5.4": _told(run, material, say),
        "5.4.1": [text(f"{origin} {unfrozen}"), code(unfreezing_calls(run, material.before(run)))],
        "5.4.2": [
            text(read_inference_mode(run, say)),
            code(
                f"{training_call(run, material.before(run), material.name)}\n"
                f"{as_variable(run.name)}.audit.passed  # no running mean, variance or counter moved"
            ),
            _audit(run, say),
        ],
        "5.4.3": [text(read_rate(run, material.before(run), say))],
        "5.4.4": [*_curves(run, material, say), text(_saved(run, say)), text(read_checks(run, say), "quiet")],
    }


def _other(run: Run, material: Material, say: Texts) -> Blocks:
    """Return a further training on the same point."""
    title = heading(say("training.other", run=run.name))
    return [title, *_told(run, material, say), *_curves(run, material, say), _audit(run, say)]


def _told(run: Run, material: Material, say: Texts) -> Blocks:
    """Return what learned in which way, and the call that does it."""
    told = read_training(run, read_model(run.model_path), material.name, say)
    return [text(told), code(training_call(run, material.before(run), material.name))]


def _curves(run: Run, material: Material, say: Texts) -> Blocks:
    """Return how good a run is, how it came there, and what the curves say."""
    before = material.before(run)
    earlier = before.history if before else ()
    highest = highest_loss(material)
    drawn = charts(
        *(
            chart(learning_curves(run.history, quantity, say, earlier, highest), say(f"training.{quantity}"))
            for quantity in ("loss", "accuracy")
        )
    )
    notes = [say("training.curves_note")]
    if before:
        notes.append(say("training.before", run=before.name))
    return [
        text(read_summary(run, say), "key"),
        drawn,
        text(read_curves(run, say)),
        *([text(gain)] if (gain := read_gain(material.row(run), say)) else []),
        text(f"{' '.join(notes)} {read_seconds(run, say)}", "quiet"),
        hidden(say("page.table"), _epochs(run, earlier, say)),
    ]


def highest_loss(material: Material) -> float:
    """Return where the axes of losses end: at most twice the loss of guessing, so that runs can be compared."""
    losses = [
        loss
        for run in material.runs
        for epoch in run.history
        for loss in (epoch.training_loss, epoch.validation_loss)
    ]
    first = [run.history[0].validation_loss for run in material.runs if run.history]
    return 1.05 * min(max(losses), 2 * max(first))


def _epochs(run: Run, earlier: tuple[Epoch, ...], say: Texts) -> Block:
    names = ("training_loss", "validation_loss", "training_accuracy", "validation_accuracy")
    rows = [
        (
            str(number),
            *(say.number(getattr(epoch, name), ".3f" if "loss" in name else ".1%") for name in names),
        )
        for number, epoch in enumerate((*earlier, *run.history), 1 - len(earlier))
    ]
    return table([say("training.epoch"), *(say(f"training.{name}") for name in names)], rows)


def _audit(run: Run, say: Texts) -> Block:
    return text(read_audit(run, say), "good" if run.audit.passed else "bad")


def _frozen(run: Run, say: Texts) -> str:
    audit = run.audit
    every = audit.frozen_parameters + audit.trained_parameters
    return say(
        "training.frozen", trainable=run.recipe["trainable"], frozen=audit.frozen_parameters, all=every
    )


def _no_gap(run: Run, say: Texts) -> str:
    channels, height, width = run.maps
    shape = {"channels": channels, "height": height, "width": width}
    return say("training.no_gap", size=run.recipe["image_size"], **shape)


def _new_head(run: Run, say: Texts) -> str:
    audit = run.audit
    every = audit.frozen_parameters + audit.trained_parameters
    return say("training.new_head", trained=audit.trained_parameters, all=every)


def _chain(run: Run, say: Texts) -> Block:
    """Return the shapes from the input to the output."""
    (channels, height, width), size = run.maps, run.recipe["image_size"]
    steps = {
        say("training.step_input"): f"{size} x {size} x 3",
        say("training.step_backbone", backbone=backbone_title(run, say)): f"{height} x {width} x {channels}",
        say("training.step_gap"): str(channels),
        say("training.step_head"): str(len(run.evaluation.per_class)),
    }
    return table([say("training.step"), say("training.shape")], list(steps.items()))


def _saved(run: Run, say: Texts) -> str:
    file = run.model_path
    path = f"runs/{run.name}/{file.name}"
    return say("training.saved", file=path, megabytes=file.stat().st_size / 1e6, sha256=short_hash(file))
