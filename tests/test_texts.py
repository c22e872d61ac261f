import string

import pytest

from stockpot.errors import WrongUse
from stockpot.reporting.points import POINTS
from stockpot.reporting.texts import LANGUAGES, texts


def fields(sentence: str) -> dict[str, set[str]]:
    """What a sentence fills in, and how; words that fit a number by how many forms they have."""
    found: dict[str, set[str]] = {}
    for _, name, spec, _ in string.Formatter().parse(sentence):
        if name is not None:
            found.setdefault(name, set()).add("words" if "|" in spec else spec)
    return found


def test_all_languages_say_the_same():
    """The same sentences, which fill in the same values in the same way."""
    english = texts("en").sentences
    for language in LANGUAGES:
        other = texts(language).sentences
        assert {s: set(english[s]) for s in english} == {s: set(other[s]) for s in other}
        for section in english:
            for name, sentence in english[section].items():
                ours, theirs = fields(sentence), fields(other[section][name])
                assert ours.keys() == theirs.keys(), f"{language} {section}.{name}"
                for value in ours:
                    assert ours[value] - {"words", ""} == theirs[value] - {"words", ""}, f"{section}.{name}"


def test_words_have_as_many_forms_as_the_language():
    """Two in English, three in Polish."""
    for language, forms in (("en", 2), ("pl", 3)):
        for section in texts(language).sentences.values():
            for sentence in section.values():
                for _, _, spec, _ in string.Formatter().parse(sentence):
                    assert not spec or "|" not in spec or spec.count("|") == forms - 1, sentence


def test_every_point_has_a_title():
    """In every language."""
    assert all(texts(language).sentences["points"].keys() == POINTS.keys() for language in LANGUAGES)


@pytest.mark.parametrize(
    ("language", "spec", "value", "written"),
    [
        ("en", ",", 1234567, "1,234,567"),
        ("pl", ",", 1234567, "1\xa0234\xa0567"),
        ("en", ".1%", 0.874, "87.4\xa0%"),
        ("pl", ".1%", 0.874, "87,4%"),
        ("en", "+.2f", -1234.5, "-1234.50"),
        ("pl", "+.2f", 0.5, "+0,50"),
        ("pl", ".1e", 1.3e-5, "1,3e-05"),
        ("en", ".1e", 0.0, "0"),
    ],
)
def test_numbers_are_written_as_in_the_language(language, spec, value, written):
    """Decimal sign, thousands and percent."""
    assert texts(language).number(value, spec) == written


def test_words_fit_their_number():
    """One, two to four but not twelve to fourteen, and the rest, in Polish; one and the rest in English."""
    polish, english = texts("pl"), texts("en")
    forms = {
        n: polish.format("{n:zdjęcie|zdjęcia|zdjęć}", n=n) for n in (1, 2, 4, 5, 11, 12, 14, 21, 22, 112)
    }
    assert [n for n, form in forms.items() if form == "zdjęcie"] == [1]
    assert [n for n, form in forms.items() if form == "zdjęcia"] == [2, 4, 22]
    assert [english.format("{n:photo|photos}", n=n) for n in (0, 1, 2)] == ["photos", "photo", "photos"]


def test_names_are_never_read_as_patterns():
    """A class may be called as it likes."""
    assert "{n:.1f} 5 % 1,000" in texts("pl")("maps.predicted", label="{n:.1f} 5 % 1,000", probability=0.5)


def test_an_unknown_language_is_refused():
    """With those that there are."""
    with pytest.raises(WrongUse, match="language is 'klingon'; choose one of: en, pl"):
        texts("klingon")
