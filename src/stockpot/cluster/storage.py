"""Files by name, on this computer or in object storage: `/photos/a.jpg`, `file:///...`, `s3://bucket/a.jpg`, `gs://...`.

Object storage is asked as its own environment variables say (for S3 `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
"""

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stockpot.errors import UnreadablePhoto, WrongUse

LARGEST = 256 * 2**20  # bytes of a photo's file


def place_of(name: str) -> tuple[Any, str]:
    """Return the file system of a name (`pyarrow.fs.FileSystem`) and the path in it.

    Raises:
        WrongUse: nothing is known of such names.
    """
    from pyarrow import ArrowException, fs

    parts = urlsplit(name)
    if len(parts.scheme) < 2:  # none, or a drive of Windows
        return fs.LocalFileSystem(), str(Path(name).absolute())
    try:
        if parts.scheme == "file":
            return fs.FileSystem.from_uri(name)  # type: ignore[no-any-return]
        system, folder = _system(parts.scheme, parts.netloc, parts.query)
        return system, f"{folder}{parts.path}".strip("/")
    except (ArrowException, OSError, ValueError) as error:
        raise WrongUse(
            f"{name} is no place that can be used ({_reason(error)}): give a path or s3://..."
        ) from None


@lru_cache
def _system(scheme: str, netloc: str, query: str) -> tuple[Any, str]:
    """Return the file system of a bucket, made once, and the bucket."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(f"{scheme}://{netloc}/{f'?{query}' if query else ''}")  # type: ignore[no-any-return]


def fetch(name: str) -> bytes:
    """Return the bytes of a photo's file.

    Raises:
        UnreadablePhoto: it is not there, cannot be had, or is too large.
    """
    from pyarrow import ArrowException

    try:
        system, path = place_of(name)
        with system.open_input_stream(path) as stream:
            data: bytes = stream.read(LARGEST + 1)
    except (WrongUse, ArrowException, OSError, ValueError) as error:
        raise UnreadablePhoto(f"cannot be fetched ({_reason(error)})") from None
    if len(data) > LARGEST:
        raise UnreadablePhoto(f"has more than {LARGEST // 2**20} MB")
    return data


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
