import errno
import os
import socket

import pytest

from stockpot.errors import Busy, sentence_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Busy("Wait."), "Wait."),
        (MemoryError(), "There is too little memory: close other programs and try again."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate memory"),
        (RuntimeError("Failed to allocate memory for requested buffer"), "There is too little memory"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "A file cannot be used (No space left on device): free",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            "a/b cannot be used (Permission denied): check",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"),
            "a/b cannot be used (No such file",
        ),
    ],
)
def test_what_a_person_can_mend_is_one_line(error, words):
    """What happened, with which file, and a remedy that fits."""
    assert words in sentence_of(error) and "\n" not in sentence_of(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        socket.gaierror(-2, "Name or service not known"),
        TimeoutError("timed out"),
        ImportError("x.so: failed to map segment from shared object: Operation not permitted"),
    ],
)
def test_what_is_our_fault_keeps_its_traceback(error):
    """No sentence that leads the wrong way."""
    assert sentence_of(error) == ""
