"""Stopping softly: the first Ctrl-C asks a training to end after this batch, the second one interrupts it."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("stockpot")


@contextmanager
def stop_softly(also: Callable[[], bool] = lambda: False) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, or `also` says so.

    Outside the main thread Ctrl-C is somebody else's.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        log.warning("Stopping after this batch; the epochs that were finished count. Ctrl-C again: at once.")

    if threading.current_thread() is not threading.main_thread():
        yield also
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked or also()
    finally:
        signal.signal(signal.SIGINT, before)
