"""What is in a tree of class folders right now: every file hashed and decoded once, remembered by mtime."""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image

from stockpot import project as disk
from stockpot.errors import FolderError, PhotoError, ProjectError, UnreadablePhoto
from stockpot.photos.duplicates import SIGNATURE_BYTES, Pair, near_duplicates, signature
from stockpot.photos.photo import Photo, Refused, fingerprint
from stockpot.photos.pixels import NEEDS_HEIC, NEEDS_MEMORY, can_read_heic, decode
from stockpot.progress import Progress, silent
from stockpot.shapes import Misshapen, checked


class _Whole(TypedDict):
    """What is remembered of a photo."""

    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    signature: str  # base64


class _Refused(TypedDict):
    """What is remembered of a file that is no photo for what its bytes are."""

    size: int
    mtime_ns: int
    sha256: str
    refused: str


class _Near(TypedDict):
    """Which photos were found to be near duplicates, and among which that was looked for."""

    of: str
    pairs: list[tuple[str, str]]


VERSION = 1  # of the cache: another one is read as none
Entry = dict[str, Any]  # size, mtime_ns, sha256 and width, height, signature, or refused


@dataclass(frozen=True)
class Index:
    """What is in a tree of class folders."""

    photos: tuple[Photo, ...]  # in the order of their paths; the same bytes may occur twice
    refused: tuple[Refused, ...]
    near: tuple[Pair, ...] = ()  # near duplicates, by sha256; only of a project


def index_project(project: disk.Project, progress: Progress = silent) -> Index:
    """Return what is in `photos/` now; only new and changed files are read."""
    try:
        stored = disk.read_json(project.index_file)
    except ProjectError:
        stored = None  # a damaged cache is no cache
    stored = stored if isinstance(stored, dict) and stored.get("version") == VERSION else {}
    known = stored.get("files")
    entries = _scan(project.photos, known if isinstance(known, dict) else {}, _inspect_and_sign, progress)
    near = _near(entries, stored.get("near"), progress)
    found = {"version": VERSION, "files": entries, "near": near}
    if found != stored:
        with suppress(FolderError):  # a project that may only be read is read without a cache
            disk.write_json(project.index_file, found)
    index = _index(project.photos, entries)
    return replace(index, near=tuple((a, b) for a, b in near["pairs"]))


def _near(entries: dict[str, Entry], stored: Any, progress: Progress) -> dict[str, Any]:
    """Return pairs of near duplicates, searched for only if the photos are others than those of `stored`."""
    signatures = {entry["sha256"]: entry["signature"] for entry in entries.values() if entry.get("signature")}
    names = sorted(signatures)
    of = fingerprint("".join(names).encode())
    with suppress(Misshapen):
        found: dict[str, Any] = checked(stored, _Near)
        if found["of"] == of and all(signatures.keys() >= set(pair) for pair in found["pairs"]):
            return found
    progress("looking for near duplicates", 0, 1)
    pairs = near_duplicates([b64decode(signatures[name]) for name in names]).tolist()
    progress("looking for near duplicates", 1, 1)
    return {"of": of, "pairs": [[names[i], names[j]] for i, j in pairs]}


def index_folder(folder: Path, progress: Progress = silent) -> Index:
    """Return what is in a tree of class folders that is no project.

    Raises:
        PhotoError: there is no such folder, or it has no class folders.
    """
    if not folder.is_dir():
        raise PhotoError(f"There is no folder {folder}: give one that holds one folder of photos a class.")
    index = _index(folder, _scan(folder, {}, _inspect, progress))
    if not index.photos:
        raise PhotoError(
            f"{folder} has no class folder with a readable photo: expected {folder}/<class>/<file>."
        )
    return index


def _scan(
    root: Path, stored: dict[str, Entry], inspect: Callable[[Path], Entry], progress: Progress
) -> dict[str, Entry]:
    """Return an entry for every visible file of every class folder, by its path below `root`."""
    stamps = {file.relative_to(root).as_posix(): _stamp(file) for file in disk.class_entries(root)}
    entries = {name: stored[name] for name, stamp in stamps.items() if _is_known(stored.get(name), stamp)}
    unread = [name for name in stamps if name not in entries]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as readers:
        found = readers.map(inspect, (root / name for name in unread))
        for done, (name, entry) in enumerate(zip(unread, found, strict=True), 1):
            entries[name] = stamps[name] | entry
            progress("reading photos", done, len(unread))
    return {name: entries[name] for name in stamps}


def _is_known(entry: Any, stamp: Entry) -> bool:
    """Tell whether what is stored of a file is of this very file, whole, and still true."""
    try:
        checked(entry, _Whole | _Refused)
        signed = "refused" in entry or len(b64decode(entry["signature"], validate=True)) in (
            0,
            SIGNATURE_BYTES,
        )
    except ValueError:
        return False
    if not signed or any(entry[name] != value for name, value in stamp.items()):
        return False
    if entry.get("refused") == NEEDS_MEMORY:  # there may be more the next time
        return False
    return entry.get("refused") != NEEDS_HEIC or not can_read_heic()


def _stamp(file: Path) -> Entry:
    try:
        status = file.stat()
    except OSError:  # it vanished, or is a link to nothing: reading it will say so
        return {"size": -1, "mtime_ns": 0}
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _inspect(file: Path) -> Entry:
    """Hash and decode one file."""
    return _open(file)[0]


def _inspect_and_sign(file: Path) -> Entry:
    """Hash and decode one file, and sign it for the search for near duplicates."""
    entry, image = _open(file)
    return entry if image is None else entry | {"signature": b64encode(signature(image)).decode()}


def _open(file: Path) -> tuple[Entry, Image.Image | None]:
    if file.is_dir():
        return {"refused": "is a folder: photos lie directly in their class folder"}, None
    try:
        data = disk.read_bytes(file, disk.MOST_BYTES)
    except OSError as error:
        return {"refused": f"cannot be opened ({error.strerror})"}, None
    try:
        image = decode(data)
    except UnreadablePhoto as error:
        return {"sha256": fingerprint(data), "refused": str(error)}, None
    return {"sha256": fingerprint(data), "width": image.width, "height": image.height}, image


def _index(root: Path, entries: dict[str, Entry]) -> Index:
    photos, refused = [], []
    for name, entry in entries.items():
        path = root / name
        if "refused" in entry:
            refused.append(Refused(path, entry["refused"], entry.get("sha256", "")))
        else:
            photos.append(Photo(path, path.parent.name, entry["sha256"], entry["width"], entry["height"]))
    return Index(tuple(photos), tuple(refused))
