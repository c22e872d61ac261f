"""How long work says how far it is: one function, called with a stage and two counts.

The library never prints. A shell that wants to show progress passes its own function.
"""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`; a stage ends when `done == total`."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def remark(progress: Progress, text: str) -> None:
    """Say something that is no stage of work: it has nothing to count."""
    progress(text, 0, 0)


def in_words(seconds: float) -> str:
    """Return a time as one reads it: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
