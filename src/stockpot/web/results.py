"""What the page of results shows, gathered once."""

from dataclasses import dataclass, field
from pathlib import Path

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.explanation.explanation import Explanation
from stockpot.explanation.selection import Selection, explain_run
from stockpot.learning.comparison import Comparison, Predicted, compare, read_predictions
from stockpot.learning.runs import Run, best_run, read_runs
from stockpot.photos.splits import Split, look_at_split
from stockpot.progress import Progress


@dataclass(frozen=True)
class Results:
    """One run, and all beside it."""

    run: Run
    runs: tuple[Run, ...]  # on the present photos, in the order of the comparison
    split: Split
    comparison: Comparison
    selection: Selection
    predicted: dict[str, Predicted]  # by sha256
    explained: dict[Path, Explanation] = field(default_factory=dict)  # the photos of the selection


@dataclass(frozen=True)
class Choice:
    """The run that is looked at, and what its results depend on."""

    run: Run
    current: tuple[Run, ...]  # on the present photos
    split: Split

    @property
    def state(self) -> object:
        """Differs whenever its results do."""
        return (
            self.run.name,
            self.split.fingerprint,
            *((one.name, one.evaluation.loss) for one in self.current),
        )


def choose(project: disk.Project, name: str) -> Choice:
    """Return a run on the present photos, by default the best.

    Raises:
        ProjectError: there is none.
        PhotoError: photos that no classifier can be made of.
    """
    split = look_at_split(project.folder)
    runs = read_runs(project)
    current = [run for run in runs if run.split_fingerprint == split.fingerprint]
    chosen = [run for run in current if name in ("", run.name)]
    if chosen:
        return Choice(best_run(chosen), tuple(current), split)
    stale = [run.name for run in runs if name in ("", run.name)]
    if stale:
        raise ProjectError(
            f"The photos have changed since {', '.join(stale)} learned from them: train again."
        )
    raise ProjectError(
        "There is no run yet: train one." if not name else f"There is no run {name!r}: load again."
    )


def gather(project: disk.Project, choice: Choice, progress: Progress) -> Results:
    """Return the results of a choice; from caches where they are."""
    compared = compare(project.folder, progress)
    by_name = {run.name: run for run in choice.current}
    selection = explain_run(project, choice.run, choice.split, progress)
    shown = [*selection.correct, *(mistake.explanation for mistake in selection.mistakes)]
    return Results(
        run=choice.run,
        runs=tuple(by_name[row.name] for row in compared.rows),
        split=choice.split,
        comparison=compared,
        selection=selection,
        predicted=read_predictions(choice.run),
        explained={one.photo: one for one in shown},
    )
