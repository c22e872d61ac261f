"""A person's look at photos without their labels: could anybody tell what a network got wrong?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from stockpot import project as disk
from stockpot.errors import WrongUse
from stockpot.explanation.mistakes import Mistake


class _Seen(TypedDict):
    """A line of `blind.jsonl`."""

    sha256: str
    label: str


UNKNOWN = ""  # the answer of who cannot tell


@dataclass(frozen=True)
class Blind:
    """What a person saw in a run's mistakes."""

    right: int  # named the true class
    misled: int  # named the class that the model gave
    answered: int
    asked: int  # mistakes of the run

    @property
    def complete(self) -> bool:
        """Tell whether all mistakes were looked at."""
        return self.answered == self.asked


def read_answers(project: disk.Project) -> dict[str, str]:
    """Return by sha256 the class that a person saw at first; later answers are not blind any more."""
    answers: dict[str, str] = {}
    for row in disk.read_lines(project.blind, _Seen):
        answers.setdefault(row["sha256"], row["label"])
    return answers


def answer(project: disk.Project, sha256: str, label: str, class_names: Sequence[str]) -> None:
    """Keep what a person saw in a photo.

    Raises:
        WrongUse: there is no such class, or the photo was answered before.
        Busy, FolderError: the project cannot be written.
    """
    if label not in (*class_names, UNKNOWN):
        raise WrongUse(f"There is no class {label!r}; there are {', '.join(class_names)}.")
    with project.writing():
        if sha256 in read_answers(project):
            raise WrongUse("This photo was answered before: the first answer counts.")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        disk.append_lines(project.blind, [{"sha256": sha256, "label": label, "time": now}])


def count_answers(answers: dict[str, str], mistakes: Sequence[Mistake]) -> Blind:
    """Return what a person saw in the mistakes of a run."""
    seen = [(answers[one.photo.sha256], one) for one in mistakes if one.photo.sha256 in answers]
    return Blind(
        right=sum(label == one.photo.label for label, one in seen),
        misled=sum(label == one.explanation.predicted for label, one in seen),
        answered=len(seen),
        asked=len(mistakes),
    )
