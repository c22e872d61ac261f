"""Files by name, on this computer or in object storage: `/photos/a.jpg`, `file:///...`, `s3://bucket/a.jpg`, `gs://...`.

Object storage is asked as its own environment variables say (for S3 `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from stockpot.errors import UnreadablePhoto, WrongUse
from stockpot.project import MOST_BYTES, NoFile, read_bytes

LARGEST = MOST_BYTES  # of a photo's file


class OutOfReach(UnreadablePhoto):
    """A photo's file cannot be had, though it may be there."""


def place_of(name: str) -> tuple[Any, str]:
    """Return the file system of a name (`pyarrow.fs.FileSystem`) and the path in it; a key is taken as it stands.

    Raises:
        WrongUse: nothing is known of such names.
    """
    from pyarrow import ArrowException, fs

    scheme, address, rest = name.partition("://")
    try:
        if not address:
            return fs.LocalFileSystem(), str(Path(name).absolute())
        if scheme == "file":
            return fs.FileSystem.from_uri(name)  # type: ignore[no-any-return]
        bucket, _, key = rest.partition("/")
        system, folder = _system(scheme, bucket)
        return system, f"{folder}/{key}".strip("/")
    except (ArrowException, OSError, ValueError) as error:
        raise WrongUse(
            f"{name} is no place that can be used ({reason_of(error)}): give a path or s3://..."
        ) from None


@lru_cache
def _system(scheme: str, bucket: str) -> tuple[Any, str]:
    """Return the file system of a bucket, made once, and the bucket's path in it."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(f"{scheme}://{bucket}/")  # type: ignore[no-any-return]


def is_local(system: Any) -> bool:
    """Tell whether a file system is this computer's."""
    from pyarrow import fs

    return isinstance(system, fs.LocalFileSystem)


def beside(name: str, folder: str) -> str:
    """Return a name that may be relative to a folder as one that is not."""
    return name if "://" in name or Path(name).is_absolute() else f"{folder}/{name}"


def fetch(name: str) -> bytes:
    """Return the bytes of a photo's file.

    Raises:
        UnreadablePhoto: it is not there, is too large, or has no name that means anything.
        OutOfReach: it cannot be had.
    """
    from pyarrow import ArrowException

    try:
        system, path = place_of(name)
        if is_local(system):
            return read_bytes(Path(path), LARGEST)
        with system.open_input_stream(path) as stream:
            data: bytes = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise UnreadablePhoto("cannot be opened (No such file or directory)") from None
    except (WrongUse, IsADirectoryError, ValueError, NoFile) as error:
        raise UnreadablePhoto(f"cannot be opened ({reason_of(error)})") from None
    except (ArrowException, OSError) as error:
        raise OutOfReach(f"cannot be opened ({reason_of(error)})") from None
    if len(data) > LARGEST:
        raise UnreadablePhoto(f"has more than {LARGEST // 2**20} MB: shrink it")
    return data


def reason_of(error: Exception) -> str:
    """Return the first line of what an error says."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0] if str(text) else type(error).__name__
