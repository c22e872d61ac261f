"""What the pages of a project have in common: one review, one model at hand, one piece of long work."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from stockpot import project as disk
from stockpot.curation.review import Review
from stockpot.errors import WrongUse
from stockpot.explanation.explanation import Explanation
from stockpot.learning.models import load_model
from stockpot.learning.runs import Run, find_model, read_runs
from stockpot.model.prediction import Predictor
from stockpot.web.worker import Work, Worker

MODELS_KEPT = 3  # in memory
T = TypeVar("T")


class Desk:
    """Opened when a page first asks, and made anew when the folder has changed: the folder is all there is."""

    def __init__(self, folder: Path | str) -> None:
        """Open a project, or a place where collecting will make one.

        Raises:
            ProjectError: there is something else.
        """
        self.project = disk.Project(Path(folder))
        if self.project.folder.exists() and not self.project.photos.is_dir():
            disk.open_project(folder)  # says what it is instead
        self.worker = Worker()
        self.lock = threading.Lock()  # of all below
        self.review: Review | None = None
        self.explained: dict[str, Explanation] = {}  # the last ones, by what they are asked for as
        self._made: dict[str, tuple[object, Any]] = {}  # by kind: of what state, and what
        self._predictors: dict[tuple[Path, int], Predictor] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="stockpot-")
        self.uploads = Path(self._folder.name)

    @property
    def name(self) -> str:
        """The project's."""
        return self.project.folder.resolve().name

    def opened(self) -> Review:
        """Return the review that a page has open; decisions are made in no other.

        Raises:
            WrongUse: the server was started anew since.
        """
        if self.review is None:
            raise WrongUse("The review is not open any more: open the page again.")
        return self.review

    def made(self, kind: str, title: str, state: object, make: Callable[[Work], T]) -> T | None:
        """Return what was made of the present state; else None, and begin to make it.

        Args:
            kind: what it is.
            title: what is done, in words.
            state: what it depends on.
            make: makes it, with the work to tell how far it is.

        Raises:
            Busy: other work is under way.
        """
        if kind in self._made and self._made[kind][0] == state:
            return cast(T, self._made[kind][1])

        def do(work: Work) -> dict[str, Any]:
            self._made[kind] = (state, make(work))
            return {}

        if not (self.worker.work.running and self.worker.work.kind == kind):
            self.worker.start(kind, title, do)
        return None

    def predictor(self, run: str = "") -> Predictor:
        """Return a run's model as it is now; that of the project's best run by default.

        Raises:
            ModelError: there is none.
        """
        folder = self.project.folder
        path = find_model(self.run(run).folder if run else folder)
        state = (path, path.stat().st_mtime_ns)
        if state not in self._predictors:
            if len(self._predictors) == MODELS_KEPT:
                self._predictors.pop(next(iter(self._predictors)))
            self._predictors[state] = load_model(path)
        return self._predictors[state]

    def run(self, name: str) -> Run:
        """Return a completed run.

        Raises:
            WrongUse: there is none of that name.
        """
        runs = {run.name: run for run in read_runs(self.project)}
        if name not in runs:
            raise WrongUse(f"There is no run {name!r}; there are: {', '.join(runs) or 'none'}.")
        return runs[name]

    def run_folder(self, name: str) -> Path:
        """Return the folder of a run, also of one that is not complete.

        Raises:
            WrongUse: there is none of that name.
        """
        runs = self.project.runs
        folders = {folder.name: folder for folder in disk.visible(runs)} if runs.is_dir() else {}
        if name not in folders:
            raise WrongUse(f"There is no run {name!r}: load the page again.")
        return folders[name]

    def photo(self, label: str, name: str) -> Path:
        """Return a photo of a class; a name that could lead elsewhere is none.

        Raises:
            WrongUse: there is no such photo.
        """
        folders = {folder.name: folder for folder in disk.visible(self.project.photos) if folder.is_dir()}
        plain = name == Path(name).name and not disk.is_hidden(name) and "\\" not in name
        if label in folders and plain and (folders[label] / name).is_file():
            return folders[label] / name
        raise WrongUse(f"There is no photo {label}/{name}: load the page again.")

    def close(self) -> None:
        """End work with what it has."""
        self.worker.close()
        self._folder.cleanup()
