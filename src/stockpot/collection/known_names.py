"""Classes that ready-made models know already: such photos would distort what is measured (the lab's point 1.2).

`known_names.csv` holds the classes of CIFAR-10, CIFAR-100 and ImageNet-1k by their English names (those of the
data sets; ImageNet's are WordNet's lemmas) and by Polish names of our own.
"""

import csv
import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from stockpot.errors import WrongUse

log = logging.getLogger("stockpot")
_LISTS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
_ENDINGS: dict[
    str, dict[str, tuple[str, ...]]
] = {  # of plurals, and what the singular may have in their place
    "english": {"ies": ("y", "ie"), "ves": ("f", "fe"), "es": ("",), "s": ("",), "men": ("man",)},
    "polish": {"y": ("a", ""), "ki": ("ka", "ek"), "i": ("a", ""), "e": ("a", ""), "a": ("o",)},
}


@dataclass(frozen=True)
class KnownClass:
    """A class of a data set that ready-made models are trained on."""

    data: str  # CIFAR-10, CIFAR-100 or ImageNet
    index: int
    name: str  # that matched
    by: Literal["name", "head"]  # the whole name, or its main word alone


def find_known(name: str) -> tuple[KnownClass, ...]:
    """Return the known classes that a name means, or may mean.

    A whole name counts, in the singular or the plural. So does its main word (in English the last one, in
    Polish also the first), which is a question rather than an answer: a solar cell is no cell phone. Words
    inside a name do not count: an apple pie is no apple.
    """
    whole, words = _plain(name), _plain(name).split()
    found: dict[tuple[str, int], KnownClass] = {}
    for by, form, language in (
        ("name", whole, "english"),
        ("name", whole, "polish"),
        *((("head", words[-1], "english"), ("head", words[-1], "polish")) if len(words) > 1 else ()),
        *((("head", words[0], "polish"),) if len(words) > 1 else ()),
    ):
        for singular in _singulars(form, language):
            for data, index, lemma in _lemmas(language).get(singular, ()):
                found.setdefault((data, index), KnownClass(data, index, lemma, by))
    return tuple(found.values())


def imagenet_names() -> dict[int, str]:
    """Return the first English name of every ImageNet class."""
    return {int(row["index"]): row["english"].split("; ")[0] for row in _rows() if row["list"] == "imagenet"}


def check_known(names: Iterable[str], strict: bool = False) -> None:
    """Warn of classes that ready-made models know.

    Args:
        names: of classes.
        strict: refuse those whose whole name is known instead.

    Raises:
        WrongUse: a name is known, and `strict`.
    """
    for name in names:
        if strict and any(one.by == "name" for one in find_known(name)):
            raise WrongUse(f"{describe_known(name)} Choose another class, or leave out --strict.")
        if said := describe_known(name):
            log.warning("%s", said)


def describe_known(name: str) -> str:
    """Say in a sentence which known classes a name means, or may mean; nothing if there are none."""
    known = find_known(name)
    sure = [one for one in known if one.by == "name"]
    return _sentence(name, sure or list(known)) if known else ""


def _sentence(name: str, known: list[KnownClass]) -> str:
    places = ", ".join(f"{one.data} class {one.index} ({one.name})" for one in known)
    if known[0].by == "name":
        return f"{name!r} is {places}: models trained on it know it, which flatters what is measured here."
    return f"{name!r} may be {places}, judged by one word: look whether it is the same thing."


def _rows() -> list[dict[str, str]]:
    text = files("stockpot.collection").joinpath("known_names.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def _lemmas(language: str) -> dict[str, list[tuple[str, int, str]]]:
    """Return list, index and spelling of every name, by its plain form."""
    lemmas: dict[str, list[tuple[str, int, str]]] = {}
    for row in _rows():
        for lemma in row[language].split("; "):
            lemmas.setdefault(_plain(lemma), []).append((_LISTS[row["list"]], int(row["index"]), lemma))
    return lemmas


def _plain(name: str) -> str:
    """Return a name in small letters, words apart by one blank."""
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).casefold().strip()))


def _singulars(name: str, language: str) -> list[str]:
    """Return a name and what it may be in the singular; only the last word changes."""
    forms = [name]
    for ending, singular in _ENDINGS[language].items():
        if name.endswith(ending) and not name.endswith("ss"):
            forms += [name[: -len(ending)] + end for end in singular]
    return forms
