"""The author's own words: what stands in `notes.md` below a point's number."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator

from markdown_it import MarkdownIt

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.reporting.points import POINTS

ELSEWHERE = ""  # key of the words that stand below no point's number
_NUMBER = re.compile(r"(\d+(?:\.\d+)*)\.?(?!\S)")
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


def read_notes(project: disk.Project) -> dict[str, str]:
    """Return the words of `notes.md` by the number of the point they are on, as HTML.

    Markup in them is escaped, and pictures are left as links: a report asks nothing of the network.

    Raises:
        ProjectError: the file is no text in UTF-8.
    """
    try:
        written = disk.read_bytes(project.notes).decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ProjectError(
            f"{project.notes} is no text in UTF-8 (byte {error.start}): save it as UTF-8."
        ) from None
    lines = written.splitlines()
    parts: dict[str, list[str]] = defaultdict(list)
    place, start = ELSEWHERE, 0
    for number, at in [*_headings(written), (ELSEWHERE, len(lines))]:
        parts[place] += [*lines[start:at], ""]
        place, start = number, at + bool(number)
    return {number: html for number, words in parts.items() if (html := _to_html("\n".join(words)))}


def _headings(written: str) -> Iterator[tuple[str, int]]:
    """Yield the number and the line of every heading of the second level; no number where it is no point."""
    tokens = _PARSER.parse(written)
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2" and token.level == 0 and token.map:
            found = _NUMBER.match(inline.content)
            yield found[1] if found and found[1] in POINTS else ELSEWHERE, token.map[0]


def _to_html(markdown: str) -> str:
    """Return Markdown as HTML; headings become small ones, below the report's own."""
    tokens = _PARSER.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h5"
    return str(_PARSER.renderer.render(tokens, _PARSER.options, {})).strip()
