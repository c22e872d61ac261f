"""The project folder: every name on disk, the lock, and writing that survives a crash.

This is the only file that knows what is called how. No absolute path is ever stored, so a project that was
moved still works.
"""

import errno
import json
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from stockpot.errors import Busy, FolderError, ProjectError, WrongUse, sentence_of
from stockpot.shapes import Misshapen, checked

MOST_BYTES = 256 * 2**20  # of a photo's file


@dataclass(frozen=True)
class Project:
    """A folder that the user owns and can read."""

    folder: Path

    @property
    def photos(self) -> Path:
        """What trains: `photos/<class>/<file>`."""
        return self.folder / "photos"

    @property
    def set_aside(self) -> Path:
        """What curation took out: `set-aside/<class>/<file>`."""
        return self.folder / "set-aside"

    @property
    def split_file(self) -> Path:
        """Which photo is on which side."""
        return self.folder / "split.json"

    @property
    def cache(self) -> Path:
        """May be deleted at any time."""
        return self.folder / "cache"

    @property
    def index_file(self) -> Path:
        """What was found out about every file in `photos/`."""
        return self.cache / "index.json"

    @property
    def looks_file(self) -> Path:
        """Size, brightness and the like of every photo."""
        return self.cache / "looks.json"

    @property
    def features(self) -> Path:
        """Pooled features and feature maps of the photos, one pair of files a backbone."""
        return self.cache / "features"

    @property
    def prefixes(self) -> Path:
        """Maps before the first block that learns, while a training needs them."""
        return self.cache / "prefixes"

    @property
    def shortcuts(self) -> Path:
        """What runs go by in photos, one file a run and split."""
        return self.cache / "shortcuts"

    @property
    def graphs(self) -> Path:
        """Backbones as ONNX graphs."""
        return self.cache / "graphs"

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.folder / "runs"

    @property
    def provenance(self) -> Path:
        """Where every photo came from."""
        return self.folder / "photos.jsonl"

    @property
    def journal(self) -> Path:
        """What curation moved, step by step."""
        return self.folder / "curation.jsonl"

    @property
    def findings(self) -> Path:
        """What curation last had against photos."""
        return self.cache / "findings.json"

    @property
    def sights(self) -> Path:
        """What ImageNet's own classifier saw in the classes when they were last looked at."""
        return self.cache / "sights.json"

    @property
    def notes(self) -> Path:
        """The author's own words for the report; nobody else writes it."""
        return self.folder / "notes.md"

    @property
    def blind(self) -> Path:
        """What a person saw in photos without knowing their labels."""
        return self.folder / "blind.jsonl"

    @property
    def curation_page(self) -> Path:
        """All photos with what speaks against them, one self-contained page."""
        return self.folder / "curation.html"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.folder / "report.html"

    def inside(self, name: str) -> Path:
        """Return the place that a file of the project names, from `photos/` or `set-aside/` on.

        Raises:
            ProjectError: it leads out of them, by itself or by a link below.
        """
        place = self.folder / name
        try:
            there = place.parent.resolve()
            rooms = [room.resolve() for room in (self.photos, self.set_aside)]
            within = any(there.is_relative_to(room) for room in rooms) and place.name not in ("", "..")
        except (OSError, ValueError, RuntimeError):  # a sign that no name has, or links in a circle
            within = False
        if not within:
            raise ProjectError(
                f"{name!r} leads out of photos/ and set-aside/ of {self.folder}: nothing there is touched."
            )
        return place

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the project's lock; calls within one process may nest.

        Raises:
            Busy: another process holds it.
            FolderError: the folder cannot be written.
        """
        lock = filelock.FileLock(self.folder / ".lock", timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise Busy(
                f"Another stockpot is writing to {self.folder}; wait until it is done and try again."
            ) from None
        except OSError as error:
            raise FolderError(sentence_of(error) or f"{self.folder} cannot be locked ({error}).") from None
        try:
            yield
        finally:
            lock.release()


def create_project(folder: Path | str) -> Project:
    """Return the project in `folder`, made if it is not there.

    Raises:
        ProjectError: there is a file of that name, or a folder that holds something else.
        FolderError: the folder cannot be made.
    """
    project = Project(Path(folder))
    if project.photos.is_dir():
        return project
    if project.folder.exists() and not project.folder.is_dir():
        raise ProjectError(f"{folder} is a file; a project is a folder: give another name.")
    if project.folder.is_dir() and any(not entry.name.startswith(".") for entry in project.folder.iterdir()):
        raise ProjectError(_not_a_project(project.folder))
    try:
        project.photos.mkdir(parents=True)
    except OSError as error:
        raise FolderError(f"{folder} cannot be made ({error.strerror}): choose another place.") from None
    return project


def open_project(folder: Path | str) -> Project:
    """Return the project in `folder`.

    Raises:
        ProjectError: there is none; the message says how to make one.
    """
    project = Project(Path(folder))
    if not project.folder.exists():
        raise ProjectError(
            f"There is no folder {folder}. Make a project from your photos: "
            f"stockpot study {folder} --photos FOLDER_OF_CLASS_FOLDERS"
        )
    if not project.photos.is_dir():
        raise ProjectError(_not_a_project(project.folder))
    return project


def clean(folder: Path | str) -> int:
    """Delete a project's cache: features, graphs, and what is remembered of files. All of it can be made again.

    Returns:
        How many bytes were freed.

    Raises:
        ProjectError: `folder` is no project.
        Busy, FolderError: it cannot be written.
    """
    project = open_project(folder)
    with project.writing():
        freed = sum(file.stat().st_size for file in project.cache.rglob("*") if file.is_file())
        try:
            shutil.rmtree(project.cache)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise FolderError(
                f"{error.filename} cannot be deleted ({error.strerror}): check rights."
            ) from None
    return freed


def _not_a_project(folder: Path) -> str:
    """Say why `folder` is no project, and the command that would help."""
    if not folder.is_dir():
        return f"{folder} is a file; a project is a folder."
    classes = [entry.name for entry in visible(folder) if entry.is_dir() and any(visible(entry))]
    name = f"{folder.resolve().name}-project"
    if len(classes) >= 2:
        shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        return (
            f"{folder} holds class folders ({shown}), it is not a project. "
            f"Make one beside it: stockpot study {name} --photos {folder}"
        )
    if not classes and not any(visible(folder)):
        return (
            f"{folder} is empty. Make a project from your photos: "
            f"stockpot study {folder} --photos FOLDER_OF_CLASS_FOLDERS"
        )
    return (
        f"{folder} has no folder photos/ with one folder a class, so it is not a project. "
        f"Make one: stockpot study NEW_FOLDER --photos FOLDER_OF_CLASS_FOLDERS"
    )


def visible(folder: Path) -> list[Path]:
    """Return the entries of `folder` that are not hidden, in the order of their names."""
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))


def class_entries(root: Path) -> list[Path]:
    """Return the visible entries of every visible class folder, class by class."""
    return [entry for folder in visible(root) if folder.is_dir() for entry in visible(folder)]


_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}


def check_class_name(name: str) -> None:
    """Refuse a class that cannot be a folder, here or on another system.

    Raises:
        WrongUse: it is empty, hidden, too long, reserved, or has a sign that folders cannot have.
    """
    usable = name.isprintable() and not set(name) & set('/\\:*?"<>|') and name == name.strip().rstrip(".")
    if not name or not usable or is_reserved(name) or is_hidden(name) or len(name.encode()) > 200:
        raise WrongUse(
            f"{name!r} cannot name a class, which is a folder: use letters, digits and blanks inside."
        )


def is_folder_name(name: str) -> bool:
    """Tell whether a name is that of one folder below another, wherever it came from, and leads nowhere else."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return name == Path(name).name and name not in ("", "..") and not set(name) & set("/\\\0")


def is_reserved(name: str) -> bool:
    """Tell whether Windows keeps a name for a device."""
    return name.partition(".")[0].upper() in _RESERVED


def user_cache() -> Path:
    """Return our folder in the platform's cache: what several projects share, and may be deleted."""
    return Path(platformdirs.user_cache_dir("stockpot", appauthor=False))


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is not meant to be seen."""
    return name.startswith(".") or name == "__MACOSX"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` as one step: whoever reads it sees the old file or the new one.

    Raises:
        FolderError: the place cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that takes the place of `path` when the block succeeds.

    Raises:
        FolderError: the place cannot be written.
    """
    try:
        with _room_beside(path) as room:
            temporary = room / path.name
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # some writers make private files
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise FolderError(f"{path} cannot be written ({error.strerror}): free space or rights.") from error


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block succeeds it becomes `folder`, or fills it if that is there.

    Raises:
        FolderError: the place cannot be written.
    """
    there = folder.is_dir()
    try:
        with _room_beside(folder / "inside" if there else folder) as room:
            temporary = room / "new"
            temporary.mkdir()
            yield temporary
            for entry in temporary.iterdir() if there else ():
                entry.rename(folder / entry.name)
            if not there:
                temporary.rename(folder)
    except OSError as error:
        raise FolderError(f"{folder} cannot be written ({error.strerror}): give another folder.") from error


_ROOM = ".stockpot-tmp"  # ends the names of folders for what is not complete
_FORGOTTEN = 86400.0  # seconds after the last change in such a folder


def is_rest(entry: Path) -> bool:
    """Tell whether something is what a writer has not completed: it is at work, or was killed."""
    return entry.name.endswith(_ROOM)


@contextmanager
def _room_beside(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `path`, deleted at the end with all that writers have left in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _forget_rooms(path.parent)
    room = path.parent / f".{secrets.token_hex(8)}{_ROOM}"
    room.mkdir()
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


@lru_cache(1024)
def _forget_rooms(folder: Path) -> None:
    """Delete what killed writers left in a folder a day ago; once a process.

    Somebody may write there now, also from another computer: locks do not tell on every file system.
    """
    for room in folder.glob(f".*{_ROOM}"):
        with suppress(OSError):
            changed = max(path.stat().st_mtime for path in (room, *room.rglob("*")))
            if time.time() - changed > _FORGOTTEN:
                shutil.rmtree(room, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, as one step."""
    write_bytes(
        path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    )


def can_write(folder: Path) -> bool:
    """Tell whether files can be made in a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


class NoFile(OSError):
    """What is there is no file to be read as a whole: a pipe, a device, or too much."""


def read_bytes(path: Path, most: float = math.inf) -> bytes:
    """Return what is in an ordinary file; a pipe or a device would never come to its end.

    Raises:
        NoFile: it is none, or has more than `most` bytes.
        OSError: it is not there, or may not be read.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise NoFile(errno.EINVAL, "not an ordinary file", str(path))
        if status.st_size > most:
            raise NoFile(errno.EFBIG, f"more than {most / 2**20:.0f} MB", str(path))
        return path.read_bytes()
    except ValueError as error:  # a sign that no name has
        raise NoFile(errno.EINVAL, str(error), str(path)) from None


def parse_json(data: bytes | str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is none, or is nested deeper than anything that is meant.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote, or None where there is no file.

    Raises:
        ProjectError: the file is there and is not JSON.
    """
    try:
        return parse_json(read_bytes(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"{path} is not readable JSON ({_reason(error)}): restore it from a backup or delete it."
        ) from None


def read_shaped(path: Path, shape: Any) -> Any:
    """Return what `write_json` wrote, or None where there is no file.

    Raises:
        ProjectError: the file is there and has another shape.
    """
    value = read_json(path)
    try:
        return None if value is None else checked(value, shape)
    except Misshapen as error:
        raise ProjectError(f"{path} is damaged ({error}): restore it from a backup or delete it.") from None


def append_lines(path: Path, rows: list[Any]) -> None:
    """Append each row as one line of JSON, and wait until the disk has it.

    A line that a crash tore is ended first, so that it cannot swallow the new one.

    Raises:
        FolderError: the place cannot be written.
    """
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(lines.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FolderError(f"{path} cannot be written ({error.strerror}): free space or rights.") from error


def read_lines(path: Path, shape: Any = Any) -> list[Any]:
    """Return the rows of a journal; lines that a crash tore are dropped.

    Raises:
        ProjectError: it cannot be read, or a line that is whole has another shape.
    """
    try:
        lines = read_bytes(path).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProjectError(f"{path} cannot be read ({_reason(error)}): restore it from a backup.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        try:
            rows.append(checked(row, shape))
        except Misshapen as error:
            raise ProjectError(f"{path}, line {number} is damaged ({error}): delete the line.") from None
    return rows


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
