"""Everything that can go wrong, as one tree.

::

    StockpotError                 a sentence: what happened, with which value, what to do about it
    ├── WrongUse                  the call cannot mean anything here (the shells exit with 2)
    │   ├── ProjectError          the folder is not a project, or not yet
    │   └── RecipeError           a recipe's field has a value that cannot be carried out
    ├── PhotoError                the photos do not allow what was asked
    │   └── UnreadablePhoto       one file is not a picture that can be decoded
    ├── SearchRefused             no search engine answers
    ├── WeightsError              pretrained weights cannot be had, or are not what they should be
    ├── HubRefused                the hub is not reached, or does not take a model
    ├── ModelError                a model file cannot be read, or differs from what was saved
    ├── RowsLost                  rows in and rows out differ
    ├── WorkersLost               processes that work together died, or one of them cannot go on
    ├── Busy                      another process is writing to the project
    └── FolderError               a folder cannot be written (read-only, full disk)
"""

import errno


class StockpotError(Exception):
    """Base of every error raised on purpose; its text is one line with a remedy."""

    exit_code = 1


class WrongUse(StockpotError):
    """The call cannot mean anything here."""

    exit_code = 2


class ProjectError(WrongUse):
    """The folder is not a project, or not yet."""


class RecipeError(WrongUse):
    """A recipe's field has a value that cannot be carried out."""


class PhotoError(StockpotError):
    """The photos do not allow what was asked."""


class UnreadablePhoto(PhotoError):
    """One file is not a picture that can be decoded."""


class SearchRefused(StockpotError):
    """No search engine answers."""


class WeightsError(StockpotError):
    """Pretrained weights cannot be had, or are not what they should be."""


class HubRefused(StockpotError):
    """The hub is not reached, or does not take a model."""


class ModelError(StockpotError):
    """A model file cannot be read, or differs from what was saved."""


class RowsLost(StockpotError):
    """Rows in and rows out differ."""


class WorkersLost(StockpotError):
    """Processes that work together died, or one of them cannot go on."""


class Busy(StockpotError):
    """Another process is writing to the project."""


class FolderError(StockpotError):
    """A folder cannot be written: it is read-only, or the disk is full."""


_REMEDIES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EACCES: "check rights",
    errno.EPERM: "check rights",
    errno.EROFS: "choose a place that can be written",
}
_NO_MEMORY = ("allocate memory", "bad_alloc", "bad alloc", "failed to map segment", "start new thread")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: libraries say so in errors of their own."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        any(words in said for words in _NO_MEMORY) and "not permitted" not in said
    )


def sentence_of(error: BaseException) -> str:
    """Return what an error means to whoever meets it, in one line; empty: it is a fault of ours."""
    if isinstance(error, StockpotError):
        return str(error)
    if is_out_of_memory(error):
        said = (str(error).splitlines() or [""])[-1][:100]
        return (
            f"There is too little memory{f' ({said})' if said else ''}: close other programs and try again."
        )
    if isinstance(error, OSError) and (error.errno in _REMEDIES or (error.filename and error.strerror)):
        remedy = _REMEDIES.get(error.errno or 0, "look at it and try again")
        return f"{error.filename or 'A file'} cannot be used ({error.strerror}): {remedy}."
    return ""
