"""A table as a notebook shows it: no styles but alignment, so that light and dark themes both suit it."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """Return a table as HTML; every text is escaped.

    Args:
        title: above it.
        header: what the columns are called.
        rows: as many cells as the header has; the first names the row.
        notes: sentences below it.
    """
    caption = f'<caption style="text-align: left"><b>{escape(title)}</b></caption>'
    head = f"<thead><tr>{_named(header, 'col')}</tr></thead>"
    body = "".join(f"<tr>{_named(row[:1], 'row')}{_figures(row[1:])}</tr>" for row in rows)
    below = "".join(f"<p><small>{escape(note)}</small></p>" for note in notes)
    return f"<table>{caption}{head}<tbody>{body}</tbody></table>{below}"


def _named(names: Sequence[str], scope: str) -> str:
    sides = ["left", *["right"] * (len(names) - 1)]
    return "".join(
        f'<th scope="{scope}" style="text-align: {side}">{escape(name)}</th>'
        for name, side in zip(names, sides, strict=True)
    )


def _figures(cells: Sequence[str]) -> str:
    return "".join(f'<td style="text-align: right">{escape(cell)}</td>' for cell in cells)
