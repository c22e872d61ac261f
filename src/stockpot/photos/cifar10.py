"""CIFAR-10 as arrays in memory, from the Parquet files that the Hugging Face hub has.

60,000 photos of 32 x 32 pixels in ten classes. Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.errors import PhotoError, UnreadablePhoto
from stockpot.photos.pixels import decode
from stockpot.progress import Progress, silent

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
REPOSITORY = "uoft-cs/cifar10"
SIZE = 32  # pixels on each side


@dataclass(frozen=True, eq=False)
class Side:
    """The training or the test photos."""

    pixels: NDArray[np.uint8]  # (N, 32, 32, 3)
    labels: NDArray[np.int64]  # (N,), indices into `CLASS_NAMES`

    def take(self, rows: NDArray[np.integer]) -> "Side":
        """Return the photos of some rows."""
        return Side(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Cifar10:
    """Both sides of the data set."""

    training: Side
    test: Side
    name: str  # says so where the photos are a lossy copy
    fingerprint: str  # 12 hexadecimal digits of all files


def read_cifar10(source: Path | str = "hub", progress: Progress = silent) -> Cifar10:
    """Return CIFAR-10.

    Args:
        source: `"hub"`, or a folder with Parquet files `train*.parquet` and `test*.parquet` of columns `img`
            (struct of `bytes` and `path`) and `label`, at any depth.
        progress: told how far reading is.

    Raises:
        PhotoError: the hub is not reachable, or the folder does not hold such files.
    """
    folder = _download(progress) if str(source) == "hub" else Path(source)
    digest = hashlib.sha256()
    training, test = (_side_rows(folder, name, digest) for name in ("train", "test"))
    lossy = any(row["img"]["bytes"].startswith(b"\xff\xd8") for row in training + test)
    return Cifar10(
        training=_decode(training, "train", progress),
        test=_decode(test, "test", progress),
        name="CIFAR-10, JPEG copy" if lossy else "CIFAR-10",
        fingerprint=digest.hexdigest()[:12],
    )


def _download(progress: Progress) -> Path:
    """Return the folder in the hub's cache; it is filled once."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    progress("downloading CIFAR-10", 0, 1)
    try:
        folder = snapshot_download(REPOSITORY, repo_type="dataset", allow_patterns="*.parquet")
    except Exception as error:  # noqa: BLE001 - the hub's client passes on whatever its transport raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PhotoError(
            f"CIFAR-10 cannot be downloaded ({reason}): connect, or give a folder that holds it: --data FOLDER"
        ) from None
    progress("downloading CIFAR-10", 1, 1)
    return Path(folder)


def _side_rows(folder: Path, name: str, digest: Any) -> list[dict[str, Any]]:
    files = sorted(folder.rglob(f"{name}*.parquet"))
    if not files:
        raise PhotoError(
            f"{folder} has no {name}*.parquet: give the folder with CIFAR-10's Parquet files, or: --data hub"
        )
    if len({file.parent for file in files}) > 1:
        raise PhotoError(f"{folder} has {name}*.parquet in several folders: give one that holds one copy.")
    digest.update(f"{name} {len(files)}".encode())
    return [row for file in files for row in _read_rows(file, digest)]


def _read_rows(file: Path, digest: Any) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        data = file.read_bytes()
        digest.update(data)
        rows = parquet.read_table(pyarrow.BufferReader(data), columns=["img", "label"]).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise PhotoError(f"{file} cannot be read ({str(error).splitlines()[0]}): copy it anew.") from None
    if not all(isinstance(row["img"], dict) and isinstance(row["img"].get("bytes"), bytes) for row in rows):
        raise PhotoError(f"{file} has photos without their bytes in img: give CIFAR-10's own files.")
    wrong = {row["label"] for row in rows} - set(range(len(CLASS_NAMES)))
    if not rows or wrong:
        reason = f"a label {min(wrong, key=str)}" if wrong else "no rows"
        raise PhotoError(f"{file} has {reason}; CIFAR-10 has labels 0 to 9: give its own files.")
    return rows  # type: ignore[no-any-return]


def _decode(rows: list[dict[str, Any]], side: str, progress: Progress) -> Side:
    pixels = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)
    for done, row in enumerate(rows, 1):
        try:
            photo = decode(row["img"]["bytes"])
        except UnreadablePhoto as error:
            raise PhotoError(f"Photo {done} of {side} {error}: copy the files anew.") from None
        if photo.size != (SIZE, SIZE):
            size = f"{photo.width} x {photo.height}"
            raise PhotoError(f"Photo {done} of {side} is {size}, not 32 x 32: give CIFAR-10's own files.")
        pixels[done - 1] = np.asarray(photo)
        if done % 1000 == 0 or done == len(rows):
            progress(f"reading CIFAR-10 ({side})", done, len(rows))
    return Side(pixels, np.array([row["label"] for row in rows], np.int64))
