import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

from PIL import Image

from stockpot.explanation.explanation import explain
from stockpot.learning.comparison import compare
from stockpot.tables import html_table


class Reader(HTMLParser):
    """Reads a table as a browser does: cells row by row, and the sentences below."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.notes: list[str] = []
        self.feed(html)
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag, attrs):
        """Open a row, a cell or a sentence."""
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag == "p":
            self.notes.append("")

    def handle_endtag(self, tag):
        """Close what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Fill the cell or the sentence."""
        if "p" in self.open:
            self.notes[-1] += data
        elif self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


HOSTILE = '<script>alert("a & b")</script>'


def test_names_stay_names():
    """Whatever a folder is called, it is shown as it is and never becomes markup."""
    html = html_table(HOSTILE, (HOSTILE, "n"), [(HOSTILE, HOSTILE)], [HOSTILE])
    assert "<script" not in html
    read = Reader(html)
    assert read.rows == [[HOSTILE, "n"], [HOSTILE, HOSTILE]] and read.notes == [HOSTILE]


def test_figures_stand_on_the_right():
    """So that they can be compared; words stand on the left, as do the names of rows even where these are years."""
    html = html_table("by year", ("year", "n", "remark"), [("2025", "12", "few"), ("2026", "+1,200", "")])
    assert re.findall(r">([^<]+)</t[hd]>", html) == [
        "year",
        "n",
        "remark",
        "2025",
        "12",
        "few",
        "2026",
        "+1,200",
    ]
    sides = re.findall(r"<t[hd].*?text-align: (\w+)", html)
    assert sides == ["left", "right", "left"] * 3


def test_a_notebook_shows_a_run(solar):
    """Recipe, accuracy with its interval and n, loss and epochs; an epoch that was chosen is marked and said."""
    run = solar.run
    read = Reader(run._repr_html_())
    low, high = run.evaluation.interval
    shown = dict(zip(*read.rows, strict=True))
    assert shown["recipe"] == "linear-probe: xception"
    assert (
        shown["accuracy"] == f"{run.evaluation.accuracy:.1%}"
        and shown["loss"] == f"{run.evaluation.loss:.3f}"
    )
    assert shown["95 % interval"] == f"{low:.1%} to {high:.1%}"
    assert shown["validation photos"] == str(run.evaluation.n) and shown["epoch"] == "30 of 30"
    assert read.notes == []
    chosen = Reader(replace(run, recipe=run.recipe | {"keep": "best"})._repr_html_())
    assert "%*" in chosen.rows[1][2] and "flatters" in chosen.notes[0]


def test_a_notebook_shows_a_comparison(solar):
    """Line for line what the terminal prints, remarks included."""
    comparison = compare(solar.project)
    read = Reader(comparison._repr_html_())
    header, *lines = str(comparison).splitlines()
    assert " ".join(read.rows[0]) == re.sub(r" +", " ", header)
    for row, line in zip(read.rows[1:], lines, strict=False):
        assert re.sub(r"\s+", "", "".join(row)) == re.sub(r"\s+", "", line)
    assert read.notes == lines[len(read.rows) - 1 :] and read.notes


def test_a_notebook_shows_a_split(solar):
    """Photos by class and side; what was left out is said."""
    sides = solar.split
    read = Reader(sides._repr_html_())
    assert [row[0] for row in read.rows] == ["class", *sides.class_names, "all"]
    counts = [list(map(int, row[1:])) for row in read.rows[1:]]
    assert counts[-1] == [len(sides.training), len(sides.validation)]
    assert [sum(column) for column in zip(*counts[:-1], strict=True)] == counts[-1]
    assert read.notes == []
    doubled = replace(sides, repeated=((sides.training[0], sides.training[1]),))
    assert Reader(doubled._repr_html_()).notes == ["left out: 0 files refused, 1 photos skipped"]


def test_a_notebook_shows_an_explanation(solar):
    """As its picture: the photo, the map on it, the legend."""
    answer = explain(solar.run, solar.split.validation[0].path)
    with Image.open(BytesIO(answer._repr_png_())) as shown:
        assert shown.format == "PNG" and shown.tobytes() == answer.picture().tobytes()


def test_a_run_with_a_hostile_name_is_harmless(solar):
    """Names of classes and runs come from folders, which anyone may have named."""
    run = replace(solar.run, name=HOSTILE)
    sides = replace(solar.split, class_names=(HOSTILE,))
    comparison = replace(compare(solar.project), majority=(HOSTILE, 0.5))
    for shown in (run, sides, comparison):
        assert "<script" not in shown._repr_html_()
