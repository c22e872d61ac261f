"""One's own photos: a tree of class folders, one folder of one class, or a list in a CSV file."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockpot import project as disk
from stockpot.collection.known_names import check_known
from stockpot.errors import PhotoError, UnreadablePhoto, WrongUse
from stockpot.photos.intake import brought_in, check_source, copy_in
from stockpot.photos.photo import Refused
from stockpot.photos.pixels import decode
from stockpot.progress import Progress, silent


@dataclass(frozen=True)
class OwnPhotos:
    """What came of bringing in one's own photos."""

    new: int  # files that were copied
    known: int  # files that had come in before
    refused: tuple[Refused, ...]  # files that are no photos, and why; they were not copied


def bring_own(
    project: Path | str,
    source: Path | str,
    label: str | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> OwnPhotos:
    """Copy photos into a project byte for byte; what cannot be decoded is listed and not copied.

    Args:
        project: a project folder, made if it is not there.
        source: a folder with one folder of photos a class; a folder of photos of the class `label`; or a CSV file
            with the columns `path` (relative to the file) and `label`. Nothing in it is written to.
        label: the class of all photos.
        strict: refuse classes that ready-made models know by name; without it they are warned of.
        progress: told how far copying is.

    Raises:
        PhotoError: there are no photos in `source`, or the CSV file has other columns.
        WrongUse: a label cannot be the name of a folder, or is known and `strict`.
        ProjectError: `project` holds something else, or the two lie in one another.
        Busy, FolderError: the project cannot be written.
    """
    root = Path(source)
    if root.is_dir():
        check_source(project, root)
    files = list(_files(root, label))
    names = sorted({name for _, name in files})
    for name in names:
        disk.check_class_name(name)
    check_known(names, strict)
    opened = disk.create_project(project)
    new, refused = 0, []
    with opened.writing():
        brought = brought_in(opened)
        for done, (file, name) in enumerate(files, 1):
            try:
                data = disk.read_bytes(file, disk.MOST_BYTES)
                decode(data)
            except UnreadablePhoto as error:
                refused.append(Refused(file, str(error)))
            except OSError as error:
                refused.append(Refused(file, f"cannot be opened ({error.strerror})"))
            else:
                new += copy_in(file, name, data, opened, brought)
            progress("copying photos", done, len(files))
    return OwnPhotos(new, len(files) - new - len(refused), tuple(refused))


def bring_one(project: Path | str, label: str, name: str, data: bytes) -> bool:
    """Bring one photo into a project byte for byte; tell whether it is new.

    Args:
        project: a project folder, made if it is not there.
        label: its class.
        name: of the file; what cannot stand in a file name everywhere is left out.
        data: its bytes.

    Raises:
        UnreadablePhoto: it is no photo.
        WrongUse: the label cannot be the name of a folder.
        ProjectError: `project` holds something else.
        Busy, FolderError: the project cannot be written.
    """
    disk.check_class_name(label)
    try:
        decode(data)
    except UnreadablePhoto as error:
        raise UnreadablePhoto(f"{name} {error}: it was not brought in.") from None
    opened = disk.create_project(project)
    with opened.writing():
        return copy_in(Path(_plain(name)), label, data, opened, brought_in(opened))


def _plain(name: str) -> str:
    """Return a name that a file can have anywhere: its last part, without what some system refuses."""
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = re.sub(r"[^\w .()+-]", "_", last).strip(" .")[-120:] or "photo"
    return f"_{plain}" if disk.is_reserved(plain) else plain


def _files(root: Path, label: str | None) -> Iterator[tuple[Path, str]]:
    """Yield every file with its class."""
    if root.is_file():
        if label:
            raise WrongUse(f"{root} names the label of every photo: leave out --label.")
        yield from _listed(root)
        return
    if not root.is_dir():
        raise PhotoError(f"There is no folder or CSV file {root}: give one.")
    if label:
        found = [(entry, label) for entry in disk.visible(root) if entry.is_file()]
    else:
        found = [(entry, entry.parent.name) for entry in disk.class_entries(root) if entry.is_file()]
    if not found:
        remedy = (
            "it has folders, so leave out --label"
            if label
            else "give --label NAME for a folder of one class, or put photos into a folder a class"
        )
        raise PhotoError(f"{root} has no photos {'of its own' if label else 'in class folders'}: {remedy}.")
    yield from found


def _listed(file: Path) -> Iterator[tuple[Path, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(disk.read_bytes(file).decode("utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhotoError(
            f"{file} is no CSV file in UTF-8 ({error}): its columns are path and label."
        ) from None
    if not rows or not {"path", "label"} <= set(rows[0]):
        raise PhotoError(f"{file} has no rows with the columns path and label: write them in its first line.")
    for number, row in enumerate(rows, 2):
        if not row["path"] or not row["label"]:
            raise PhotoError(f"{file}, line {number}: path or label is empty: fill it in.")
        yield file.parent / row["path"], row["label"]
