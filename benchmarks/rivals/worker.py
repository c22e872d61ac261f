"""A way of working as a process of its own that is told what to do, line by line, so that ways can take turns.

A line of JSON names a task and its arguments; the answer is a line of JSON with the task's figures, its seconds
unless it gave them itself, and the largest anonymous memory of the process while it ran (Linux: /proc). Only the
standard library: each way has its own environment.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(tasks: dict[str, Callable[..., dict[str, Any] | None]]) -> None:
    """Carry out what is asked for until there is nothing more to read."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        memory = _Peak()
        started = time.perf_counter()
        figures = tasks[asked.pop("task")](**asked) or {}
        figures.setdefault("seconds", time.perf_counter() - started)
        answers.write(json.dumps(figures | {"megabytes": memory.stop()}) + "\n")
        answers.flush()


class _Peak:
    """The largest anonymous memory of this process, looked at twenty times a second."""

    def __init__(self) -> None:
        self.highest = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)  # a task that fails ends the process
        self.thread.start()

    def _watch(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            self.highest = max(self.highest, float(status.split("RssAnon:")[1].split()[0]) / 1024)
            if self.ended.wait(0.05):
                return

    def stop(self) -> int:
        """Return it in megabytes."""
        self.ended.set()
        self.thread.join()
        return round(self.highest)
