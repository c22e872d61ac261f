"""Runs side by side: all on the same validation photos, each tested against the one it builds on.

`N` photos.
"""

import csv
import io
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.learning.resampling import LearningCurve, Resampled, cross_validate, learning_curve
from stockpot.learning.runs import Run, best_run, read_runs
from stockpot.learning.seeds import read_seeds
from stockpot.photos.splits import Split, look_at_split
from stockpot.progress import Progress, silent
from stockpot.tables import html_table

_HEADER = ("run", "accuracy", "95 % interval", "loss", "seconds", "learned", "against")
_LINE = "{:<10} {:>9} {:>16} {:>6} {:>8} {:>11}  {}"
ORDER = ("from-scratch", "linear-probe", "fine-tune")  # of recipes; CIFAR's probe stands before ImageNet's


@dataclass(frozen=True)
class McNemar:
    """Two runs on the same photos. McNemar, "Note on the sampling error ...", Psychometrika 12, 1947."""

    against: str  # name of the other run
    gained: int  # n01: photos that the other got wrong and this one right
    lost: int  # n10: the reverse
    p: float  # exact, two-sided
    smallest: float | None  # difference of accuracies with p < .05 where as many photos differ, if any
    chosen: bool = False  # an epoch of this one or the other by its loss on these very photos: p is flattered

    @property
    def significant(self) -> bool:
        """Tell whether chance alone would do this less often than once in twenty times."""
        return self.p < 0.05


@dataclass(frozen=True)
class Row:
    """A run in the comparison."""

    name: str
    recipe: str  # one of `recipes.USUAL`
    backbone: str
    trainable: str
    n: int
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    loss: float
    seconds: float
    trained_parameters: int
    chosen: bool  # its epoch, by the loss on these very photos
    interrupted: bool
    lowest_recall: tuple[str, float]  # the class of which it finds least
    mcnemar: McNemar | None  # against the run it started from, else the row before
    seeds: Resampled | None  # accuracies with other seeds, where some were trained


@dataclass(frozen=True)
class Comparison:
    """All runs of a project on its present validation photos."""

    rows: tuple[Row, ...]
    majority: tuple[str, float]  # the most frequent training class, and the accuracy of always saying it
    unequal: tuple[tuple[str, int], ...]  # smallest and largest class, training photos; if twice as many
    stale: tuple[str, ...]  # runs on photos that have changed since
    probe: str  # name of the run that the two below belong to, or nothing
    folds: Resampled | None  # 5-fold cross-validation of the probe
    curve: LearningCurve | None  # would more photos help?

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows as JSON holds them."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        """Return the comparison as a table in plain text."""
        lines = [_LINE.format(*cells) for cells in (_HEADER, *self._cells())]
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        """Return the comparison as a notebook shows it."""
        return html_table("Runs on the same validation photos", _HEADER, self._cells(), self._notes())

    def _cells(self) -> list[tuple[str, ...]]:
        """Return a line a run, and one for always saying the same."""
        name, accuracy = self.majority
        always = ("majority", f"{accuracy:.1%} ", "", "", "", "", f"always says {name}")
        return [*map(_cells, self.rows), always]

    def _notes(self) -> list[str]:
        curve = [f"{self.probe}: {self.curve}"] if self.curve else []
        return [*self.remarks, *curve]

    @property
    def remarks(self) -> list[str]:
        """What must be said beside the table, a sentence each."""
        lines = []
        if any(row.chosen for row in self.rows):
            lines.append(
                "* its epoch was chosen on these very photos, which flatters the accuracy and the p a little"
            )
        stopped = [row.name for row in self.rows if row.interrupted]
        lines += [
            f"{name} was stopped early: the same study goes on, or the same training with --resume"
            for name in stopped
        ]
        lines += [
            f"{row.name}: {row.seeds.count} seeds, accuracy {row.seeds}" for row in self.rows if row.seeds
        ]
        if self.folds:
            lines.append(f"{self.probe}: {self.folds.count}-fold cross-validation, accuracy {self.folds}")
        if self.unequal:
            (few, least), (many, most) = self.unequal
            recalls = ", ".join(
                f"{row.name} {row.lowest_recall[1]:.0%} of {row.lowest_recall[0]}" for row in self.rows
            )
            lines.append(
                f"classes are unequal ({most} training photos of {many}, {least} of {few}); lowest recall: "
                f"{recalls}; --class-weights balanced lets every class count alike"
            )
        return lines + [
            f"{name} is stale: the photos have changed since; train it again" for name in self.stale
        ]


def compare(project: Path | str, progress: Progress = silent) -> Comparison:
    """Return all runs of a project side by side, on the same validation photos.

    Cross-validation and learning curve of the best linear probe are computed once, on cached features.

    Raises:
        ProjectError: no project, or no run on its present photos.
        PhotoError: photos that no classifier can be made of.
        Busy, FolderError: the project cannot be written.
    """
    opened = disk.open_project(project)
    split = look_at_split(opened.folder, progress)
    runs = read_runs(opened)
    current = sorted((run for run in runs if run.split_fingerprint == split.fingerprint), key=_place)
    if not current:
        raise ProjectError(
            f"{opened.folder} has no run on its present photos: stockpot study {opened.folder}"
        )
    # a backbone that has learned from these photos cannot be cross-validated on them
    probes = [run for run in current if run.recipe["trainable"] == "head" and not run.started_from]
    best = best_run(probes) if probes else None
    return Comparison(
        rows=tuple(_row(run, _before(run, current)) for run in current),
        majority=_majority(split),
        unequal=_unequal(split),
        stale=tuple(run.name for run in runs if run not in current),
        probe=best.name if best else "",
        folds=cross_validate(opened, best, split, progress) if best else None,
        curve=learning_curve(opened, best, split, progress) if best else None,
    )


def exact_mcnemar(
    against: str, before: dict[str, bool], now: dict[str, bool], chosen: bool = False
) -> McNemar:
    """Return the exact test of two runs.

    Args:
        against: name of the first.
        before: by photo, whether the first was right.
        now: likewise of the second, of the same photos.
        chosen: whether an epoch of one of them was chosen on these photos.
    """
    from scipy.stats import binomtest

    gained = sum(now[photo] and not before[photo] for photo in now)
    lost = sum(before[photo] and not now[photo] for photo in now)
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    smallest = _smallest(gained + lost)
    possible = smallest / len(now) if smallest <= len(now) else None
    return McNemar(against, gained, lost, p, possible, chosen)


def _smallest(discordant: int) -> int:
    """Return the least surplus of gained over lost photos that has p < .05 among so many discordant ones.

    With fewer than six no surplus has; then six, all one way, is the least.
    """
    from scipy.stats import binomtest

    total = max(discordant, 6)
    for lost in range(total // 2, -1, -1):
        if binomtest(lost, total).pvalue < 0.05:
            return total - 2 * lost
    return total


def _row(run: Run, before: Run | None) -> Row:
    evaluation = run.evaluation
    return Row(
        name=run.name,
        recipe=run.kind,
        backbone=run.recipe["backbone"],
        trainable=run.recipe["trainable"],
        n=evaluation.n,
        accuracy=evaluation.accuracy,
        interval=evaluation.interval,
        loss=evaluation.loss,
        seconds=sum(run.seconds.values()),
        trained_parameters=run.audit.trained_parameters,
        chosen=run.chosen,
        interrupted=run.interrupted,
        lowest_recall=min(((one.name, one.recall) for one in evaluation.per_class), key=lambda one: one[1]),
        mcnemar=_test(before, run) if before else None,
        seeds=read_seeds(run),
    )


def _cells(row: Row) -> tuple[str, ...]:
    """Return what stands in a run's line below `_HEADER`."""
    low, high = row.interval
    accuracy = f"{row.accuracy:.1%}{'*' if row.chosen else ' '}"
    figures = (f"{row.loss:.3f}", f"{row.seconds:.0f}", f"{row.trained_parameters:,}")
    return row.name, accuracy, f"{low:.1%} to {high:.1%}", *figures, describe(row.mcnemar)


def _test(before: Run, run: Run) -> McNemar:
    chosen = run.chosen or before.chosen
    return exact_mcnemar(before.name, read_right(before), read_right(run), chosen)


class Predicted(NamedTuple):
    """What a run said of a validation photo."""

    truth: str
    label: str
    probability: float  # of the label


def read_predictions(run: Run) -> dict[str, Predicted]:
    """Return by sha256 what a run said of every validation photo."""
    file = run.folder / "predictions.csv"
    try:
        text = disk.read_bytes(file).decode("utf-8", "surrogateescape")
        _, *rows = csv.reader(io.StringIO(text, newline=""))
        # path, sha256, truth, label, probability; then a column a class, of any name
        return {row[1]: Predicted(row[2], row[3], float(row[4])) for row in rows}
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise ProjectError(f"{file} cannot be read ({error}): train the run again.") from None


def read_right(run: Run) -> dict[str, bool]:
    """Return by sha256 of every validation photo whether a run classified it correctly."""
    return {sha256: one.truth == one.label for sha256, one in read_predictions(run).items()}


def _before(run: Run, runs: list[Run]) -> Run | None:
    """Return the run that another is tested against: the one it started from, else the one before it."""
    for other in runs:
        if run.goes_on_from(other):
            return other
    place = runs.index(run)
    return runs[place - 1] if place else None


def _place(run: Run) -> tuple[int, bool, bool, str]:
    imagenet = run.recipe["backbone"] != "cifar"
    return ORDER.index(run.kind), imagenet, run.recipe["trainable"] == "all", run.name


def _majority(split: Split) -> tuple[str, float]:
    ((name, _),) = Counter(photo.label for photo in split.training).most_common(1)
    return name, sum(photo.label == name for photo in split.validation) / len(split.validation)


def _unequal(split: Split) -> tuple[tuple[str, int], ...]:
    """Return the smallest and the largest class, where the largest has at least twice as many photos."""
    sizes = Counter(photo.label for photo in split.training).most_common()
    return (sizes[-1], sizes[0]) if sizes[0][1] >= 2 * sizes[-1][1] else ()


def describe(test: McNemar | None) -> str:
    """Say in words what a test found."""
    if test is None:
        return ""
    found = (f"p {test.p:.3f}" if test.p >= 0.001 else f"p {test.p:.0e}") + "*" * test.chosen
    if test.significant:
        verdict = ""
    elif test.smallest is None:
        verdict = "; too few photos for any difference to show"
    else:
        verdict = f"; not significant, {math.ceil(1000 * test.smallest) / 10:.1f} points would be"
    return f"{test.against}: +{test.gained} -{test.lost}, {found}{verdict}"
