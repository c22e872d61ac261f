"""How long work says how far it is: one function, called with a stage and two counts.

The library never prints. A shell that wants to show progress passes its own function.
"""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`; a stage ends when `done == total`."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""
