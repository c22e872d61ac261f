"""What the figures of a run say in words."""

import math
import shlex
from dataclasses import asdict

import numpy as np

from stockpot.explanation.explanation import Explanation
from stockpot.learning.calibration import Reliability
from stockpot.learning.comparison import Comparison, McNemar, Row
from stockpot.learning.resampling import LearningCurve, Resampled
from stockpot.learning.runs import CHECKED_PHOTOS, Epoch, Run
from stockpot.model.model_file import ModelFile
from stockpot.reporting.texts import Texts

FEWEST_EPOCHS = 3  # after which something can be said about overfitting
WIDE_GAP = 0.15  # of accuracies, between training and validation photos, that is worth a sentence
_PLACES = ("top", "middle", "bottom"), ("left", "middle", "right")  # thirds of a map


def kind(run: Run) -> str:
    """Return which texts a run has: scratch, probe, tail or tuned."""
    if run.kind == "fine-tune":
        return "tuned" if run.recipe["trainable"] == "all" else "tail"
    return "scratch" if run.kind == "from-scratch" else "probe"


def read_curves(run: Run, say: Texts) -> str:
    """Say what the learning curves show: the gap at the end, and where validation loss turns."""
    last = run.history[-1]
    best = min(run.history, key=lambda epoch: epoch.validation_loss)
    loss = {"training": last.training_loss, "validation": last.validation_loss}
    found = [say("training.gap", epochs=len(run.history), **loss)]
    if last.training_accuracy - last.validation_accuracy > WIDE_GAP:
        shares = {"training": last.training_accuracy, "validation": last.validation_accuracy}
        found.append(say("training.gap_wide", **shares))
    return " ".join(found + _read_turn(run, best, last, say))


def _read_turn(run: Run, best: Epoch, last: Epoch, say: Texts) -> list[str]:
    """Say where validation loss was lowest, and what it did from there on."""
    wide = last.training_accuracy - last.validation_accuracy > WIDE_GAP
    if last.validation_loss > 1.01 * best.validation_loss:
        figures = {"best": best.number, "lowest": best.validation_loss, "last": last.validation_loss}
        by_heart = [say("training.by_heart")] if last.training_loss < best.training_loss else []
        return [say("training.turn_middle", **figures), *by_heart]
    if len(run.history) > 1 and run.history[-2].validation_loss > 1.005 * last.validation_loss:
        return [say("training.turn_falling")]
    no_overfit = [say("training.no_overfit")] if not wide and len(run.history) >= FEWEST_EPOCHS else []
    return [say("training.turn_end", best=best.number), *no_overfit]


def read_training(run: Run, model: ModelFile, project: str, say: Texts) -> str:
    """Say what learned in which way."""
    recipe, audit = run.recipe, run.audit
    varied, views = say(f"training.varied_{recipe['augment']}"), recipe["views"]
    return say(
        f"training.how_{kind(run)}",
        size=recipe["image_size"],
        channels=run.maps[0],
        backbone=backbone_title(run, say),
        block=recipe["trainable"],
        trained=audit.trained_parameters,
        all=audit.trained_parameters + audit.frozen_parameters,
        batch_norm=read_batch_norm(run, say),
        varied=varied,
        varied_first=varied[0].upper() + varied[1:],
        views=say("training.view") if views == 1 else say("training.views", count=views),
        project=shlex.quote(project),
    )


def read_origin(run: Run, model: ModelFile, say: Texts) -> str:
    """Say where the weights came from."""
    if run.started_from:
        key = "run" if run.recipe["head"] == "keep" else "head"
    else:
        key = "probe" if kind(run) == "probe" and model.attribution else "other"
    start = run.started_from or run.recipe["start"]
    return say(f"training.loaded_{key}", start=start, attribution=model.attribution)


def read_batch_norm(run: Run, say: Texts) -> str:
    """Say what BatchNorm did."""
    mode = "frozen" if run.recipe["trainable"] == "head" else run.recipe["batch_norm"]
    return say(f"training.batch_norm_{mode}")


def read_inference_mode(run: Run, say: Texts) -> str:
    """Say what BatchNorm did, and what kept it in inference mode where it was."""
    how = f" {say('training.batch_norm_how')}" if run.audit.batch_norm == "inference" else ""
    return f"{read_batch_norm(run, say)}.{how}"


def read_rate(run: Run, before: Run | None, say: Texts) -> str:
    """Say what the learning rate was, and what it was in the run that this one goes on from."""
    rate, warmup, beside = run.recipe["learning_rate"], run.recipe["warmup"], ""
    if before:
        earlier = before.recipe["learning_rate"]
        smaller = "beside" if earlier > rate else "beside_other"
        beside = say(f"training.{smaller}", rate=earlier, run=before.name, times=earlier / rate)
    key = f"training.rate_{'rises' if warmup else 'falls'}"
    return say(key, rate=rate, beside=beside, share=warmup)


def backbone_title(run: Run, say: Texts) -> str:
    """Return what a backbone is called."""
    name = run.recipe["backbone"]
    titles = {"xception": "Xception", "efficientnet_lite0": "EfficientNet-Lite0"}
    return say("training.small_network") if name == "cifar" else titles.get(name, name)


def read_summary(run: Run, say: Texts) -> str:
    """Say how good a run is, and what to think of the figure."""
    evaluation = run.evaluation
    low, high = evaluation.interval
    figures = {"accuracy": evaluation.accuracy, "n": evaluation.n, "loss": evaluation.loss}
    sentences = [say("training.summary", low=low, high=high, epoch=run.chosen_epoch, **figures)]
    if run.chosen:
        sentences.append(say("training.chosen"))
    if run.interrupted:
        sentences.append(say("training.interrupted", done=len(run.history), epochs=run.recipe["epochs"]))
    return " ".join(sentences)


def read_gain(row: Row, say: Texts) -> str:
    """Say what a run gained over the one it is tested against, and whether that is more than chance."""
    test = row.mcnemar
    if test is None:
        return ""
    key = f"training.gain_{'yes' if test.significant else 'no'}"
    points = 100 * (test.gained - test.lost) / row.n
    found = [
        say(key, against=test.against, gained=test.gained, lost=test.lost, points=points, p=read_p(test, say))
    ]
    if not test.significant and test.smallest is not None:
        found.append(say("training.gain_smallest", points=_points(test.smallest)))
    if test.chosen:
        found.append(say("training.gain_chosen"))
    return " ".join(found)


def read_p(test: McNemar, say: Texts) -> str:
    """Return a test's p."""
    return say.number(test.p, ".3f" if test.p >= 0.001 else ".0e")


def _points(share: float) -> float:
    """Return percentage points, rounded up to a tenth."""
    return math.ceil(1000 * share) / 10


def read_learning_curve(curve: LearningCurve, say: Texts) -> str:
    """Say whether more photos would help."""
    low, high = curve.gain_interval
    figures = {"gain": 100 * curve.gain, "low": 100 * low, "high": 100 * high}
    photos = {"before": curve.photos[-3], "all": curve.photos[-1]}
    answer = say(f"comparison.more_{curve.answer}", **photos, **figures)
    return f"{answer} {say('comparison.more_note', n=curve.n)}"


def read_test(test: McNemar | None, say: Texts) -> str:
    """Say what a run's test against another found."""
    if test is None:
        return ""
    p = read_p(test, say) + "*" * test.chosen
    found = say("comparison.test", against=test.against, gained=test.gained, lost=test.lost, p=p)
    if test.significant:
        return found
    if test.smallest is None:
        return f"{found}; {say('comparison.too_few')}"
    return f"{found}; {say('comparison.not_significant', points=_points(test.smallest))}"


def read_remarks(comparison: Comparison, say: Texts) -> list[str]:
    """Return what must be said beside the table, a sentence each."""

    def spread(key: str, run: str, found: Resampled) -> str:
        low, high = found.interval or (0.0, 0.0)
        figures = {"mean": found.mean, "deviation": 100 * found.deviation, "low": low, "high": high}
        return say(f"comparison.{key}", run=run, count=found.count, **figures)

    rows = comparison.rows
    remarks = [say("comparison.chosen")] if any(row.chosen for row in rows) else []
    remarks += [say("comparison.interrupted", run=row.name) for row in rows if row.interrupted]
    remarks += [spread("seeds", row.name, row.seeds) for row in rows if row.seeds]
    remarks += [spread("folds", comparison.probe, comparison.folds)] if comparison.folds else []
    if comparison.unequal:
        (few, least), (many, most) = comparison.unequal
        lowest = (
            say("comparison.recall", run=row.name, share=row.lowest_recall[1], label=row.lowest_recall[0])
            for row in rows
        )
        counts = {"few": few, "least": least, "many": many, "most": most}
        remarks.append(say("comparison.unequal", recalls=", ".join(lowest), **counts))
    return remarks + [say("comparison.stale", run=name) for name in comparison.stale]


def read_audit(run: Run, say: Texts) -> str:
    """Say whether exactly what was to learn has changed."""
    audit = run.audit
    if not audit.passed:
        return say("training.audit_failed", **asdict(audit))
    passed = say(
        "training.audit_scratch" if audit.batch_norm == "training" else "training.audit_passed",
        frozen=audit.frozen_parameters,
        trained=audit.trained_parameters,
        batch_norms=audit.batch_norms,
    )
    whitening = audit.batch_norm == "training" and audit.frozen_parameters > 0
    return f"{passed} {say('training.audit_whitening')}" if whitening else passed


def read_checks(run: Run, say: Texts) -> str:
    """Say how far apart the ways to compute the same thing are."""
    checks = run.checks
    return say(
        "training.checks",
        photos=min(CHECKED_PHOTOS, run.evaluation.n),
        cached=checks.cached_features,
        reloaded=checks.reloaded_logits,
        maps=checks.reloaded_maps,
        identity=checks.map_identity,
    )


def confused_pairs(run: Run) -> list[tuple[int, str, str]]:
    """Return how many photos of which class were taken for which other, the most first."""
    names = [figures.name for figures in run.evaluation.per_class]
    pairs = [
        (count, names[i], names[j])
        for i, row in enumerate(run.evaluation.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[0])


def read_confusion(run: Run, say: Texts) -> str:
    """Name the two classes that are mixed up most often."""
    pairs = confused_pairs(run)
    if not pairs:
        return say("evaluation.no_mistakes")
    count, truth, predicted = pairs[0]
    return say("evaluation.confused", count=count, truth=truth, predicted=predicted)


def read_reliability(found: Reliability, say: Texts) -> str:
    """Say whether the model is as often right as it is sure."""
    figures = {"mean": found.mean, "accuracy": found.accuracy, "n": found.n}
    return f"{say(f'evaluation.reliability_{found.answer}', **figures)} " + say(
        "evaluation.reliability_error", error=found.error
    )


def read_calibration(model: ModelFile, error: float, say: Texts) -> str:
    """Say what logits are divided by, and the calibration error without it; nothing where they are not."""
    found = model.calibration
    if not found.n:
        return ""
    figures = {"temperature": found.temperature, "n": found.n, "error": error}
    return say(f"evaluation.reliability_temperature_{found.held_out}", **figures)


def read_rejection(model: ModelFile, rejected: int, n: int, say: Texts) -> str:
    """Say what is none of the classes; nothing where the model cannot say so."""
    found = model.rejection
    if found is None:
        return ""
    if not found.rate:
        return say("evaluation.rejection_few", n=found.n)
    figures: dict[str, float] = {"rejected": rejected, "all": n}
    if found.held_out == "training":
        figures |= {"rate": found.rate, "n": found.n}
    return say(f"evaluation.rejection_{found.held_out}", **figures)


def read_seconds(run: Run, say: Texts) -> str:
    """Say how long each stage took."""
    parts = (f"{say.stage(stage)} {say.number(value, '.1f')} s" for stage, value in run.seconds.items())
    return say("training.seconds", parts=", ".join(parts))


def read_map(explanation: Explanation, say: Texts) -> str:
    """Say where the evidence for the predicted class lies."""
    cam = explanation.map_of(explanation.predicted)
    if cam.size == 1:
        return say("maps.single")
    if cam.max() <= 0:
        return say("maps.nothing", label=explanation.predicted)
    strengths = np.sort(np.maximum(cam, 0).ravel())[::-1]
    half = int(np.searchsorted(strengths.cumsum(), strengths.sum() / 2)) + 1
    cell = np.unravel_index(int(cam.argmax()), cam.shape)
    place = "_".join(
        names[3 * int(at) // size] for names, at, size in zip(_PLACES, cell, cam.shape, strict=True)
    )
    return say(
        "maps.reading",
        label=explanation.predicted,
        half=half,
        all=cam.size,
        share=half / cam.size,
        place=say(f"maps.{place}"),
        against=float((cam < 0).mean()),
    )
