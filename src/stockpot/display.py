"""Progress on stderr: a bar with the time left on a terminal; elsewhere a line a minute and a finished stage."""

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
    """One line when a stage ends, and one a minute with the time left while it lasts."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[float, int]] = {}  # when and with how much done already
        self.last = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if total == 0:
            typer.echo(stage, err=True)
            return
        now = time.perf_counter()
        start, done_before = self.started.setdefault(stage, (now, done))
        if done == total:
            del self.started[stage]
            count = f"{total} in " if total > 1 else ""
            typer.echo(f"{stage}: {count}{now - start:.1f} s", err=True)
        elif now - max(start, self.last) > 60 and done > done_before:
            self.last = now
            left = (total - done) * (now - start) / (done - done_before)
            typer.echo(f"{stage}: {done} of {total}, {left / 60:.0f} min left", err=True)


class _Bars:
    """One bar a stage, closed when it is full so that messages can follow."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self.bars: Any = None
        self.task: Any = None
        self.stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if total == 0:
            self.console.print(stage, markup=False, highlight=False)
            return
        if stage != self.stage:
            self._open(stage, done, total)
        self.bars.update(self.task, completed=done, total=total)
        if done == total:
            self.bars.stop()
            self.stage = ""

    def _open(self, stage: str, done: int, total: int) -> None:
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
        self.task = self.bars.add_task(stage, total=total, completed=done)
        self.stage = stage
