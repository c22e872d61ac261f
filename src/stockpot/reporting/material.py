"""Everything that a report is made from, gathered once: a project's photos, runs, figures and maps."""

import shlex
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.explanation.blind import Blind, count_answers, read_answers
from stockpot.explanation.explanation import shared_scale
from stockpot.explanation.faithfulness import FEWEST, Faithfulness, measure_cached_faithfulness
from stockpot.explanation.mistakes import Mistake
from stockpot.explanation.selection import Selection, explain_run
from stockpot.explanation.shortcuts import Shortcuts, look_for_shortcuts
from stockpot.learning.calibration import Reliability, measure_reliability
from stockpot.learning.comparison import Comparison, Predicted, Row, compare, read_predictions
from stockpot.learning.runs import Run, best_run, read_runs
from stockpot.model.model_file import ModelFile, read_model
from stockpot.model.prediction import softmax
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split, look_at_split
from stockpot.progress import Progress
from stockpot.reporting.readings import kind

MISTAKES_SHOWN = 12


@dataclass(frozen=True)
class Material:
    """What a report is made from."""

    project: disk.Project
    split: Split
    runs: tuple[Run, ...]  # on the present photos, in the order of the comparison
    run: Run  # whose quality and maps are shown
    asked: bool  # for this run, by name
    comparison: Comparison
    selection: Selection
    faithfulness: Faithfulness | None  # None: too few photos, or a map of one cell
    shortcuts: Shortcuts | None  # None: a map of one cell

    @property
    def name(self) -> str:
        """The project's."""
        return self.project.folder.resolve().name

    @property
    def shell_name(self) -> str:
        """The project's name as a shell reads it as one word."""
        return shlex.quote(self.name)

    @property
    def one_cell(self) -> bool:
        """Tell whether a map of the run is a single cell, which cannot show where."""
        return self.run.maps[1:] == (1, 1)

    @cached_property
    def model(self) -> ModelFile:
        """The run's."""
        return read_model(self.run.model_path)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """Those that are shown, the surest first."""
        return self.selection.mistakes[:MISTAKES_SHOWN]

    @cached_property
    def blind(self) -> Blind:
        """What a person saw in the mistakes, the shown ones and all others, without their labels."""
        return count_answers(read_answers(self.project), self.selection.mistakes)

    @cached_property
    def carded(self) -> set[str]:
        """The sha256 of the mistakes that are shown."""
        return {mistake.photo.sha256 for mistake in self.mistakes}

    @cached_property
    def scale(self) -> float:
        """Where the color of a map is strongest, in logit units: one scale for all of them."""
        return shared_scale([*self.selection.correct, *(mistake.explanation for mistake in self.mistakes)])

    @cached_property
    def predicted(self) -> dict[str, Predicted]:
        """By sha256 what the run said of the validation photos."""
        return read_predictions(self.run)

    @cached_property
    def reliability(self) -> Reliability:
        """How sure the run's model is beside how often it is right."""
        said = np.array([one.probability for one in self._said])
        return measure_reliability(said, self._right)

    @cached_property
    def uncalibrated(self) -> Reliability:
        """The same as if its logits were not divided by a temperature."""
        return measure_reliability(softmax(self.selection.logits).max(axis=1), self._right)

    @property
    def _right(self) -> NDArray[np.bool_]:
        return np.array([one.truth == one.label for one in self._said])

    @property
    def _said(self) -> list[Predicted]:
        return [self.predicted[photo.sha256] for photo in self.split.validation]

    @property
    def behind(self) -> dict[tuple[str, str], list[Photo]]:
        """The validation photos by true and predicted class, the surest first."""
        cells: dict[tuple[str, str], list[Photo]] = {}
        for photo in sorted(self.split.validation, key=lambda one: -self.predicted[one.sha256].probability):
            cells.setdefault((photo.label, self.predicted[photo.sha256].label), []).append(photo)
        return cells

    def trained(self, number: str) -> list[Run]:
        """Return the runs of a point of the lab sheet, `"3"`, `"4"`, `"5"` or `"5.4"`, the lab's own first.

        That is the chosen run, else what it or another one goes on from, else the best.
        """
        runs = [run for run in self.runs if _point(run) == number]
        after = [self.run, *(run for run in self.runs if run.started_from)]
        best = best_run(runs) if runs else None

        def place(run: Run) -> tuple[bool, bool, bool]:
            return run != self.run, not any(one.goes_on_from(run) for one in after), run != best

        return sorted(runs, key=place)

    def before(self, run: Run) -> Run | None:
        """Return the run that another went on from, where it is here."""
        return next((other for other in self.runs if run.goes_on_from(other)), None)

    def row(self, run: Run) -> Row:
        """Return a run's row of the comparison."""
        return next(row for row in self.comparison.rows if row.name == run.name)


def _point(run: Run) -> str:
    """Return the point of the lab sheet that a run is on."""
    if kind(run) == "probe":
        return "4" if run.recipe["backbone"] == "cifar" else "5"
    return "3" if kind(run) == "scratch" else "5.4"


def gather(opened: disk.Project, name: str | None, progress: Progress) -> Material:
    """Return what a report of a project is made from.

    Raises:
        ProjectError: no such run, or only runs on photos that have changed since.
        PhotoError: photos that no classifier can be made of.
    """
    split = look_at_split(opened.folder, progress)
    run = _choose_run(opened, split, name)
    comparison = compare(opened.folder, progress)
    by_name = {one.name: one for one in read_runs(opened)}
    return Material(
        project=opened,
        split=split,
        runs=tuple(by_name[row.name] for row in comparison.rows),
        run=run,
        asked=name is not None,
        comparison=comparison,
        selection=explain_run(opened, run, split, progress),
        faithfulness=_faithfulness(opened, run, split, progress),
        shortcuts=look_for_shortcuts(opened, run, split, progress),
    )


def _choose_run(opened: disk.Project, split: Split, name: str | None) -> Run:
    runs = [run for run in read_runs(opened) if name in (None, run.name)]
    current = [run for run in runs if run.split_fingerprint == split.fingerprint]
    if not current:
        state = f"has only runs on photos that have changed since ({runs[0].name})" if runs else "has no run"
        raise ProjectError(
            f"{opened.folder} {state}{f' {name!r}' if name else ''}: stockpot study {opened.folder}"
        )
    return best_run(current)


def _faithfulness(opened: disk.Project, run: Run, split: Split, progress: Progress) -> Faithfulness | None:
    if run.maps[1:] == (1, 1) or len(split.validation) < FEWEST:
        return None
    return measure_cached_faithfulness(opened, run, split, progress)
