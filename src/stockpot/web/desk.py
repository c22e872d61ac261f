"""What the pages of a project have in common: one review, models at hand, one piece of long work."""

import base64
import binascii
import os
import tempfile
import threading
from pathlib import Path
from typing import TypeVar

from stockpot import project as disk
from stockpot.curation.review import Review
from stockpot.errors import WrongUse
from stockpot.explanation.explanation import Explanation, explain
from stockpot.learning.models import load_model
from stockpot.learning.runs import Run, find_model, read_runs
from stockpot.model.prediction import Predictor
from stockpot.photos.photo import short_name
from stockpot.web.results import Results
from stockpot.web.worker import Worker

K = TypeVar("K")
V = TypeVar("V")

_REMEMBERING = threading.Lock()
KEPT = 8  # models, results, explained and tried photos each; what was used longest ago goes


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
        self.lock = threading.Lock()  # of the review, and of whatever changes photos
        self.review: Review | None = None
        self.results: dict[object, Results] = {}  # by run and state
        self.tried: dict[str, Explanation] = {}  # by a number that nobody guesses
        self._models = threading.Lock()  # of the two below
        self._explained: dict[tuple[str, int, Path, int], Explanation] = {}
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

    def explain(self, path: Path, run: str = "") -> Explanation:
        """Return what a run, by default the project's best one, makes of a photo.

        Raises:
            ModelError: there is no model.
            UnreadablePhoto: it is no photo.
        """
        with self._models:
            predictor = self._predictor(run)
            model = predictor.model.path
            key = (run, model.stat().st_mtime_ns, path, path.stat().st_mtime_ns)
            found = self._explained.pop(key, None) or explain(predictor, path)
            return remember(self._explained, key, found)

    def _predictor(self, run: str) -> Predictor:
        path = find_model(self.run(run).folder if run else self.project.folder)
        key = (path, path.stat().st_mtime_ns)
        known = self._predictors.pop(key) if key in self._predictors else load_model(path)
        return remember(self._predictors, key, known)

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

    def photo(self, address: str) -> Path:
        """Return the photo that has an address; what could lead elsewhere is none.

        Raises:
            WrongUse: there is no such photo.
        """
        label, _, name = _read_address(address).partition("/")
        photos = self.project.photos
        folders = {folder.name: folder for folder in disk.visible(photos)} if photos.is_dir() else {}
        plain = name == Path(name).name and not disk.is_hidden(name) and "\\" not in name
        if label in folders and plain and (folders[label] / name).is_file():
            return folders[label] / name
        raise WrongUse("That photo is not there any more: load the page again.")

    def close(self) -> None:
        """End work with what it has."""
        self.worker.close()
        self._folder.cleanup()


def remember(kept: dict[K, V], key: K, value: V) -> V:
    """Put something last among what is kept, and let the first go if there is too much."""
    with _REMEMBERING:
        while len(kept) >= KEPT:
            kept.pop(next(iter(kept)))
        kept[key] = value
    return value


def address_of(path: Path) -> str:
    """Return what stands for a photo in an address, whatever signs its class and name have."""
    return base64.urlsafe_b64encode(os.fsencode(short_name(path))).decode().rstrip("=")


def _read_address(address: str) -> str:
    try:
        return os.fsdecode(base64.urlsafe_b64decode(address + "=" * (-len(address) % 4)))
    except (ValueError, binascii.Error):
        return ""


def shown(name: str) -> str:
    """Return a name as a page can show it: what is no text in it becomes a question mark."""
    return name.encode("utf-8", "replace").decode()
