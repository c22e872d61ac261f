"""Progress on stderr: a bar with the time left on a terminal, one line a finished stage elsewhere."""

import atexit
import time
from typing import Any

import typer

from stockpot.progress import Progress, silent


def show_progress(quiet: bool) -> Progress:
    """Return a progress function for stderr."""
    if quiet:
        return silent
    from rich.console import Console

    console = Console(stderr=True)
    return _Bars(console) if console.is_terminal else _Lines()


class _Lines:
    """One line when a stage ends."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        started = self.started.setdefault(stage, time.perf_counter())
        if done == total:
            seconds = time.perf_counter() - self.started.pop(stage, started)
            count = f"{total} in " if total > 1 else ""
            typer.echo(f"{stage}: {count}{seconds:.1f} s", err=True)


class _Bars:
    """One bar a stage, closed when it is full so that messages can follow."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self.bars: Any = None
        self.task: Any = None
        self.stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self._open(stage, total)
        self.bars.update(self.task, completed=done, total=total)
        if done == total:
            self.bars.stop()
            self.stage = ""

    def _open(self, stage: str, total: int) -> None:
        from rich import progress

        if self.bars is not None:
            self.bars.stop()
        self.bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn() if total > 1 else progress.SpinnerColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=self.console,
        )
        self.bars.start()
        atexit.register(self.bars.stop)  # also after an error: the cursor must come back
        self.task = self.bars.add_task(stage, total=total)
        self.stage = stage
