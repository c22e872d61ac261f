"""Bringing photos into a project: byte for byte, the source untouched."""

import logging
import time
from pathlib import Path
from typing import NotRequired, TypedDict

from stockpot import project as disk
from stockpot.errors import PhotoError, ProjectError
from stockpot.photos.photo import fingerprint
from stockpot.progress import Progress, silent

log = logging.getLogger("stockpot")


class Origin(TypedDict):
    """A line of `photos.jsonl`: where a photo came from. A search engine's has more of it than one's own."""

    sha256: str
    file: str  # where it went, below `photos/`
    source_sha256: NotRequired[str]  # of the bytes that were received
    source: NotRequired[str]
    url: NotRequired[str]
    page: NotRequired[str]
    query: NotRequired[str]
    engine: NotRequired[str]
    licence: NotRequired[str]
    asked_licence: NotRequired[str]
    attribution: NotRequired[str]
    originals: NotRequired[bool]


def read_origins(project: disk.Project) -> list[Origin]:
    """Return the lines of `photos.jsonl`.

    Raises:
        ProjectError: one is damaged.
    """
    return disk.read_lines(project.provenance, Origin)


def bring_in(project: Path | str, source: Path | str, progress: Progress = silent) -> int:
    """Copy a tree of class folders into a project's `photos/`.

    Args:
        project: a project folder, made if it is not there; what it holds stays and is not copied again.
        source: a folder with one folder of photos a class. It is never written to.
        progress: told how far copying is.

    Returns:
        How many files are new in the project.

    Raises:
        PhotoError: `source` has no class folders.
        ProjectError: `project` is a folder that holds something else, or `source` and `project` overlap.
        Busy, FolderError: the project cannot be written.
    """
    root = Path(source)
    if not root.is_dir():
        raise PhotoError(f"There is no folder {source}: give one that holds one folder of photos a class.")
    check_source(project, root)
    files = [entry for entry in disk.class_entries(root) if entry.is_file()]
    if not files:
        raise PhotoError(f"{source} has no class folders: put the photos into {source}/<class>/ first.")
    opened = disk.create_project(project)
    new = 0
    with opened.writing():
        brought = brought_in(opened)
        for done, file in enumerate(files, 1):
            try:
                data = disk.read_bytes(file, disk.MOST_BYTES)
            except OSError as error:
                log.warning("skipped %s: cannot be opened (%s)", file, error.strerror)
            else:
                new += copy_in(file, file.parent.name, data, opened, brought)
            progress("copying photos", done, len(files))
    return new


def check_source(project: Path | str, source: Path) -> None:
    """Refuse a folder of photos that is a project, or lies in the project or around it.

    Raises:
        PhotoError, ProjectError: it does.
    """
    here, there = Path(project).resolve(), source.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ProjectError(
            f"The project {project} and the photos {source} lie in one another: keep them apart."
        )
    if (source / "photos").is_dir() and any(
        (source / name).exists() for name in ("split.json", "photos.jsonl")
    ):
        raise PhotoError(f"{source} is a project; its photos are in {source / 'photos'}: give that folder.")


def brought_in(project: disk.Project) -> set[tuple[str, str]]:
    """Return sha256 and name of every file that came in so far."""
    return {(row["sha256"], row["file"]) for row in read_origins(project)}


def copy_in(
    file: Path, label: str, data: bytes, project: disk.Project, brought: set[tuple[str, str]]
) -> bool:
    """Copy one file into a class unless it was brought in before; tell whether it was new.

    What came in earlier and was taken out of `photos/` by hand stays out.

    Raises:
        ProjectError: the class is a link that leads out of the project.
        FolderError: the project cannot be written.
    """
    sha256 = fingerprint(data)
    plain = project.inside(f"{project.photos.name}/{label}/{file.name}")
    renamed = plain.with_name(f"{plain.stem}-{sha256[:12]}{plain.suffix}")
    names = {path: path.relative_to(project.photos).as_posix() for path in (plain, renamed)}
    if any((sha256, name) in brought for name in names.values()):
        return False
    target = renamed if plain.exists() and not _has(plain, data) else plain
    disk.write_bytes(target, data)
    row = {
        "sha256": sha256,
        "source_sha256": sha256,
        "file": names[target],
        "source": file.name,
        "size": len(data),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    disk.append_lines(project.provenance, [row])
    return True


def _has(file: Path, data: bytes) -> bool:
    """Tell whether a file has these bytes."""
    try:
        return disk.read_bytes(file, disk.MOST_BYTES) == data
    except OSError:
        return False
