"""The points of the lab sheet: their numbers, and what each must contain."""

from typing import Literal

Mark = Literal["how", "picture", "curves", "question"]

POINTS: dict[str, tuple[Mark, ...]] = {  # the title is the text `points.<number>`
    "1": (),
    "1.1": (),
    "1.2": (),
    "1.3": (),
    "2": (),
    "2.1": ("how",),
    "2.2": (),
    "2.3": ("how",),
    "2.4": ("picture",),
    "3": ("curves",),
    "3.1": (),
    "4": (),
    "4.1": (),
    "4.2": ("how",),
    "4.3": (),
    "4.4": ("how",),
    "4.5": ("how",),
    "4.6": ("curves",),
    "5": (),
    "5.1": (),
    "5.2": (),
    "5.2.3": (),
    "5.2.4": (),
    "5.2.5": ("how",),
    "5.3": ("curves",),
    "5.4": (),
    "5.4.1": ("how",),
    "5.4.2": ("how",),
    "5.4.3": (),
    "5.4.4": ("curves",),
    "6": (),
    "7": (),
    "7.1": ("how", "picture"),
    "7.2": ("how",),
    "7.3": ("picture", "question"),
    "8": ("picture", "question"),
    "9": (),
    "9.1": ("picture", "question"),
    "9.2": ("picture", "question"),
}
"""By number. How: the key classes or functions, or the short code; picture; curves: loss and accuracy by epoch;
question: it is asked of a person, whose words are in `notes.md`."""


def depth(number: str) -> int:
    """Return how deep a point lies: 1 for `5`, 3 for `5.2.5`."""
    return number.count(".") + 1
