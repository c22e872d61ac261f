"""What is in a tree of class folders right now: every file hashed and decoded once, remembered by mtime."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot import project as disk
from stockpot.errors import FolderError, PhotoError, ProjectError, UnreadablePhoto
from stockpot.photos.photo import Photo, Refused, fingerprint
from stockpot.photos.pixels import decode
from stockpot.progress import Progress, silent

Entry = dict[str, Any]  # size, mtime_ns, sha256 and width, height, or refused


@dataclass(frozen=True)
class Index:
    """What is in a tree of class folders."""

    photos: tuple[Photo, ...]  # in the order of their paths; the same bytes may occur twice
    refused: tuple[Refused, ...]


def index_project(project: disk.Project, progress: Progress = silent) -> Index:
    """Return what is in `photos/` now; only new and changed files are read."""
    try:
        stored = disk.read_json(project.index_file)
    except ProjectError:
        stored = None  # a damaged cache is no cache
    stored = stored if isinstance(stored, dict) else {}
    entries = _scan(project.photos, stored, progress)
    if entries != stored:
        with suppress(FolderError):  # a project that may only be read is read without a cache
            disk.write_json(project.index_file, entries)
    return _index(project.photos, entries)


def index_folder(folder: Path, progress: Progress = silent) -> Index:
    """Return what is in a tree of class folders that is no project.

    Raises:
        PhotoError: there is no such folder, or it has no class folders.
    """
    if not folder.is_dir():
        raise PhotoError(f"There is no folder {folder}: give one that holds one folder of photos a class.")
    index = _index(folder, _scan(folder, {}, progress))
    if not index.photos:
        raise PhotoError(
            f"{folder} has no class folder with a readable photo: expected {folder}/<class>/<file>."
        )
    return index


def _scan(root: Path, stored: dict[str, Entry], progress: Progress) -> dict[str, Entry]:
    """Return an entry for every visible file of every class folder, by its path below `root`."""
    files = disk.class_entries(root)
    entries: dict[str, Entry] = {}
    read = 0
    for done, file in enumerate(files, 1):
        name = file.relative_to(root).as_posix()
        known = stored.get(name)
        entry = _stamp(file)
        if isinstance(known, dict) and known.items() >= entry.items():
            entries[name] = known
        else:
            entries[name] = entry | _inspect(file)
            read += 1
        if read:
            progress("reading photos", done, len(files))
    return entries


def _stamp(file: Path) -> Entry:
    status = file.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _inspect(file: Path) -> Entry:
    """Hash and decode one file."""
    if file.is_dir():
        return {"refused": "is a folder: photos lie directly in their class folder"}
    try:
        data = file.read_bytes()
    except OSError as error:
        return {"refused": f"cannot be opened ({error.strerror})"}
    try:
        image = decode(data)
    except UnreadablePhoto as error:
        return {"sha256": fingerprint(data), "refused": str(error)}
    return {"sha256": fingerprint(data), "width": image.width, "height": image.height}


def _index(root: Path, entries: dict[str, Entry]) -> Index:
    photos, refused = [], []
    for name, entry in entries.items():
        path = root / name
        if "refused" in entry:
            refused.append(Refused(path, entry["refused"]))
        else:
            photos.append(Photo(path, path.parent.name, entry["sha256"], entry["width"], entry["height"]))
    return Index(tuple(photos), tuple(refused))
