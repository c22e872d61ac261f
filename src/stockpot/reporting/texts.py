"""The sentences of a language, and how it writes numbers.

A sentence names what is filled in, and how: `{accuracy:.1%}` is a share, `{n}` a whole number, and
`{n:photo|photos}` the word that fits a number. Decimal sign, thousands and percent are the language's own.
"""

import re
import string
import tomllib
from importlib.resources import files
from typing import Any

from stockpot.errors import WrongUse

LANGUAGES = ("en", "pl")


def _english(n: int) -> int:
    return 0 if n == 1 else 1


def _polish(n: int) -> int:
    if n == 1:
        return 0
    return 1 if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else 2


_FORMS = {"en": _english, "pl": _polish}  # which of a word's forms goes with a number


class Texts(string.Formatter):
    """Fills in the sentences of one language."""

    def __init__(self, language: str) -> None:
        source = files("stockpot.reporting") / "texts" / f"{language}.toml"
        self.language = language
        self.sentences: dict[str, dict[str, Any]] = tomllib.loads(source.read_text("utf-8"))
        signs = self.sentences["numbers"]
        self._signs = {".": signs["decimal"], ",": signs["thousands"], "%": signs["percent"]}

    def __call__(self, key: str, **values: object) -> str:
        """Return a sentence, filled in.

        Args:
            key: section and name, `"training.gap"`.
            values: what it names; a float needs a format there.
        """
        section, _, name = key.partition(".")
        return self.vformat(self.sentences[section][name], (), values)

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return a value as its sentence wants it."""
        if "|" in format_spec:
            return format_spec.split("|")[_FORMS[self.language](int(value))]
        if isinstance(value, int | float):
            return self.number(value, format_spec or ("," if isinstance(value, int) else ""))
        return str(super().format_field(value, format_spec))

    def number(self, value: float, spec: str) -> str:
        """Return a number in Python's format `spec`, with the language's signs."""
        if value == 0 and spec.endswith("e"):
            return "0"
        return re.sub(r"[.,%]", lambda sign: self._signs[sign[0]], format(value, spec))

    def stage(self, name: str) -> str:
        """Return what a stage of work is called; in its own words where there is no translation."""
        return str(self.sentences["stages"].get(name, name))

    def percent(self, share: float) -> str:
        """Return a share as a figure that no line break parts from its sign."""
        return self.number(share, ".1%")

    def interval(self, interval: tuple[float, float]) -> str:
        """Return the ends of an interval of shares."""
        return " \u2013 ".join(map(self.percent, interval))


def texts(language: str) -> Texts:
    """Return the sentences of a language.

    Raises:
        WrongUse: there are none.
    """
    if language not in LANGUAGES:
        raise WrongUse(f"language is {language!r}; choose one of: {', '.join(LANGUAGES)}.")
    return Texts(language)
