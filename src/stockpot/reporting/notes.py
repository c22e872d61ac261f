"""The author's own words: what stands in `notes.md` below a point's number."""

import re
from collections import defaultdict

from markdown_it import MarkdownIt

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.reporting.points import POINTS

ELSEWHERE = ""  # key of the words that stand below no point's number
_HEADING = re.compile(r"##\s+(\d+(?:\.\d+)*)\.?(?!\S)")
_FENCE = re.compile(r" {0,3}(```|~~~)")


def read_notes(project: disk.Project) -> dict[str, str]:
    """Return the words of `notes.md` by the number of the point they are on, as HTML.

    Markup in them is escaped, and pictures are left as links: a report asks nothing of the network.

    Raises:
        ProjectError: the file is no text in UTF-8.
    """
    try:
        written = project.notes.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ProjectError(
            f"{project.notes} is no text in UTF-8 (byte {error.start}): save it as UTF-8."
        ) from None
    parts: dict[str, list[str]] = defaultdict(list)
    place, fenced = ELSEWHERE, False
    for line in written.splitlines():
        fenced ^= bool(_FENCE.match(line))
        found = None if fenced else _HEADING.match(line)
        if found and found[1] in POINTS:
            place = found[1]
        elif line.startswith("## ") and not fenced:
            place = ELSEWHERE
            parts[place].append(line)
        else:
            parts[place].append(line)
    return {number: html for number, lines in parts.items() if (html := _to_html("\n".join(lines)))}


def _to_html(markdown: str) -> str:
    """Return Markdown as HTML; headings become small ones, below the report's own."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h5"
    return str(parser.renderer.render(tokens, parser.options, {})).strip()
