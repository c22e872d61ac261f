import csv
import logging
from collections import Counter
from importlib.resources import files

import pytest

from stockpot.collection.known_names import check_known, find_known
from stockpot.errors import WrongUse

DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}


def matches(name):
    return {(one.data, one.index, one.by) for one in find_known(name)}


@pytest.mark.parametrize(
    "name", ["apple pie", "baby back ribs", "baklava", "green curry", "carrot cake", "pierogi"]
)
def test_new_classes_match_nothing(name):
    """A word inside a name is not the thing: an apple pie is no apple."""
    assert not find_known(name)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("spaghetti carbonara", ("ImageNet", 959, "name")),
        ("golden retrievers", ("ImageNet", 207, "name")),
        ("Golden_Retriever", ("ImageNet", 207, "name")),
        ("truskawka", ("ImageNet", 949, "name")),
        ("truskawki", ("ImageNet", 949, "name")),
        ("solar cell", ("ImageNet", 487, "head")),
        ("aquarium fish", ("CIFAR-100", 1, "name")),
        ("jabłka", ("CIFAR-100", 0, "name")),
        ("butterflies", ("CIFAR-100", 14, "name")),
        ("frogs", ("CIFAR-10", 6, "name")),
        ("samolot", ("CIFAR-10", 0, "name")),
        ("rower górski", ("ImageNet", 671, "name")),
    ],
)
def test_known_classes_match(name, match):
    """By the whole name or by the main word, singular or plural, English or Polish."""
    assert match in matches(name)


def test_every_class_has_its_names():
    """1,110 classes, each once, with English and Polish names and no definitions."""
    text = files("stockpot.collection").joinpath("known_names.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert Counter(row["list"] for row in rows) == {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
    assert len({(row["list"], row["index"]) for row in rows}) == 1110
    for row in rows:
        for language in ("english", "polish"):
            names = row[language].split("; ")
            assert all(name and name == name.strip() for name in names), row
            assert len(set(names)) == len(names), row
            for name in names:
                found = {(one.data, one.index) for one in find_known(name)}
                assert (DATA[row["list"]], int(row["index"])) in found, (name, row)
    polish = Counter(name for row in rows for name in row["polish"].split("; "))
    assert max(polish.values()) <= 4, polish.most_common(3)


def test_known_classes_are_warned_of_or_refused(caplog):
    """The whole name is refused if asked for; a word alone is a question in any case."""
    with caplog.at_level(logging.WARNING):
        check_known(["golden retriever", "baklava"])
        check_known(["solar cell"], strict=True)
    assert "'golden retriever' is ImageNet class 207 (golden retriever)" in caplog.messages[0]
    assert "'solar cell' may be ImageNet class 487 (cell), judged by one word" in caplog.messages[1]
    assert len(caplog.messages) == 2
    with pytest.raises(WrongUse, match="ImageNet class 949 .*leave out --strict"):
        check_known(["baklava", "strawberries"], strict=True)
