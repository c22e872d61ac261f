"""The whole lab as one function that can be stopped and called again."""

from dataclasses import dataclass
from pathlib import Path

from stockpot import project as disk
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Run, find_run
from stockpot.photos.intake import bring_in
from stockpot.photos.samples import bring_in_samples
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, silent
from stockpot.reporting.report import write_report


@dataclass(frozen=True)
class Study:
    """What a study left behind."""

    project: Path
    split: Split
    run: Run
    trained: bool  # False where a completed run of the same recipe and photos was there
    report: Path


def study(
    project: Path | str,
    photos: Path | str | None = None,
    recipe: Recipe | None = None,
    progress: Progress = silent,
) -> Study:
    """Bring photos in, split them, train, explain, and write the report.

    Whatever is there already and still true is not done again: a second call on an unchanged project trains
    nothing.

    Args:
        project: a project folder; made if `photos` are given and it is not there.
        photos: a folder with one folder of photos a class. They are copied; the folder is never written to.
        recipe: how to train; `Recipe.linear_probe()` by default.
        progress: told what is being done and how far it is.

    Raises:
        ProjectError, PhotoError: no project, or photos that no classifier can be made of.
        WeightsError: the backbone's weights cannot be had.
        Busy, FolderError: the project cannot be written.
    """
    if photos is not None:
        bring_in(project, photos, progress)
    return _study(disk.open_project(project), recipe or Recipe.linear_probe(), progress)


def demo(project: Path | str = "solar-cells", per_class: int = 100, progress: Progress = silent) -> Study:
    """Run the whole lab on photographs of solar cells that come with the extra `demo`.

    Args:
        project: a new folder, or one that an earlier demo made.
        per_class: photos of each of the four classes.
        progress: told what is being done and how far it is.

    Raises:
        PhotoError: the extra is not installed.
        WrongUse: `per_class` is out of range, or the project holds other photos.
        WeightsError: the backbone's weights cannot be had.
        Busy, FolderError: the project cannot be written.
    """
    bring_in_samples(project, per_class, progress)
    return _study(disk.open_project(project), Recipe.linear_probe(), progress)


def _study(opened: disk.Project, recipe: Recipe, progress: Progress) -> Study:
    with opened.writing():
        sides = split(opened.folder, progress=progress)
        run = find_run(opened, recipe.to_json(), sides.fingerprint)
        trained = run is None
        if run is None:
            from stockpot.learning.training import train

            run = train(opened.folder, recipe, progress=progress)
        report = write_report(opened.folder, run.name, progress)
    return Study(opened.folder, sides, run, trained, report)
