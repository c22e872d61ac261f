from types import SimpleNamespace

import pytest

from stockpot.errors import WrongUse
from stockpot.explanation.blind import Blind, answer, count_answers, read_answers
from stockpot.project import create_project

NAMES = ("cat", "dog")


def mistake(sha256: str, truth: str, predicted: str) -> SimpleNamespace:
    return SimpleNamespace(
        photo=SimpleNamespace(sha256=sha256, label=truth), explanation=SimpleNamespace(predicted=predicted)
    )


def test_the_first_answer_counts(tmp_path):
    """Right, misled as the network was, and unable to tell; photos that are no mistake any more do not count."""
    project = create_project(tmp_path / "pets")
    assert read_answers(project) == {}
    for sha256, label in (("a", "cat"), ("b", "cat"), ("c", ""), ("gone", "dog")):
        answer(project, sha256, label, NAMES)
    with pytest.raises(WrongUse, match="answered before"):
        answer(project, "a", "dog", NAMES)
    mistakes = [mistake("a", "cat", "dog"), mistake("b", "dog", "cat"), mistake("c", "dog", "cat")]
    counted = count_answers(read_answers(project), mistakes)
    assert counted == Blind(right=1, misled=1, answered=3, asked=3)
    assert count_answers(read_answers(project), [*mistakes, mistake("d", "cat", "dog")]).asked == 4


def test_only_classes_are_answers(tmp_path):
    project = create_project(tmp_path / "pets")
    with pytest.raises(WrongUse, match="no class 'horse'; there are cat, dog"):
        answer(project, "a", "horse", NAMES)
    assert not project.blind.exists()
