"""A table as a notebook shows it: no styles but alignment, so that light and dark themes both suit it."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """Return a table as HTML; every text is escaped, figures stand on the right.

    Args:
        title: above it.
        header: what the columns are called.
        rows: as many cells as the header has; the first names the row.
        notes: sentences below it.
    """
    sides = ["left", *map(_side, list(zip(*rows, strict=True))[1:])]
    caption = f'<caption style="text-align: left"><b>{escape(title)}</b></caption>'
    head = "".join(_cell("th", "col", *each) for each in zip(header, sides, strict=True))
    body = "".join(_row(row, sides) for row in rows)
    below = "".join(f"<p><small>{escape(note)}</small></p>" for note in notes)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _side(column: Sequence[str]) -> str:
    """Return where a column's cells stand: on the right if all of them are figures."""
    return "right" if all(cell[:1] in "+-0123456789" for cell in column) else "left"


def _row(row: Sequence[str], sides: Sequence[str]) -> str:
    name, *cells = zip(row, sides, strict=True)
    return f"<tr>{_cell('th', 'row', *name)}{''.join(_cell('td', '', *cell) for cell in cells)}</tr>"


def _cell(tag: str, scope: str, text: str, side: str) -> str:
    of = f' scope="{scope}"' if scope else ""
    return f'<{tag}{of} style="text-align: {side}">{escape(text)}</{tag}>'
