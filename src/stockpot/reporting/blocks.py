"""What the sections of a page are made of: the template draws each kind."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from stockpot.reporting.charts import Spec
from stockpot.reporting.pictures import Picture


class Block(NamedTuple):
    """One thing below a heading."""

    kind: str  # name of the template's macro
    content: dict[str, Any]


Blocks = list[Block]
Figure = tuple[Picture, str]  # a picture and what stands below it


class Section(NamedTuple):
    """A heading and what is below it."""

    anchor: str
    number: str  # on the lab sheet, or nothing
    title: str
    depth: int  # 1: a chapter
    blocks: Blocks


def text(sentence: str, tone: str = "") -> Block:
    """Return a paragraph; its tone is `"quiet"`, `"good"`, `"bad"` or `"key"`."""
    return Block("text", {"text": sentence, "tone": tone})


def heading(title: str) -> Block:
    """Return a small heading within a section."""
    return Block("heading", {"title": title})


def code(lines: str) -> Block:
    """Return code that does what the section tells of."""
    return Block("code", {"lines": lines})


def listing(summary: str, lines: Iterable[str]) -> Blocks:
    """Return a list behind its summary; nothing where it is empty."""
    lines = list(lines)
    return [Block("listing", {"summary": summary, "lines": lines})] if lines else []


def sentences(lines: Iterable[str]) -> Blocks:
    """Return a list of sentences; nothing where there are none."""
    lines = list(lines)
    return [Block("sentences", {"lines": lines})] if lines else []


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, last: Sequence[Any] = (), words: Sequence[int] = ()
) -> Block:
    """Return a table.

    Args:
        head: titles of the columns, or nothing.
        rows: the first cell of each is its heading.
        last: a row of sums.
        words: numbers of the columns that hold words, not figures.
    """
    return Block("table", {"head": head, "rows": list(rows), "last": last, "words": words})


def chart(spec: Spec, label: str) -> Block:
    """Return a chart; its label is read where it cannot be seen."""
    return Block("chart", {"spec": spec, "label": label})


def charts(*blocks: Block) -> Block:
    """Return charts side by side, as far as there is room."""
    return Block("charts", {"blocks": blocks})


def hidden(summary: str, *blocks: Block) -> Block:
    """Return blocks behind a summary: a chart's figures as a table."""
    return Block("hidden", {"summary": summary, "blocks": blocks})


def pictures(figures: Iterable[Figure], style: str = "sheet") -> Block:
    """Return captioned pictures in a grid."""
    return Block("pictures", {"figures": list(figures), "style": style})


def pairs(figures: Iterable[tuple[Figure, Figure]]) -> Block:
    """Return photos, each with its map beside it, under one caption, that of the map."""
    return Block("pairs", {"pairs": list(figures)})


def cards(rows: Iterable[dict[str, Any]]) -> Block:
    """Return boxes of pictures: `anchor`, `figures`, `lines` of each."""
    return Block("cards", {"cards": list(rows)})


def markup(html: str) -> Block:
    """Return HTML that is known to be safe."""
    return Block("markup", {"html": Markup(html)})
