import pytest

from stockpot.errors import ProjectError
from stockpot.project import create_project
from stockpot.reporting.notes import ELSEWHERE, read_notes


@pytest.fixture
def notes(tmp_path):
    project = create_project(tmp_path / "p")

    def read(text: str | bytes) -> dict[str, str]:
        project.notes.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_notes(project)

    return read


def test_words_belong_to_the_heading_above_them(notes):
    """A number alone or with a title; lower headings stay inside; a heading in a code block is code."""
    found = notes("intro\n## 7.3 The map\na\n### deeper\nb\n```\n## 8\n```\n## 9.1.\n\n* c\n## 8\n")
    assert found.keys() == {ELSEWHERE, "7.3", "9.1"}, "a heading with nothing below it has no words"
    assert found["7.3"].startswith("<p>a</p>\n<h5>deeper</h5>") and "## 8" in found["7.3"]
    assert "<li>c</li>" in found["9.1"] and found[ELSEWHERE] == "<p>intro</p>"


def test_code_may_hold_anything(notes):
    """A block of four backticks, text that begins like one, a heading after a blank, a point written twice."""
    found = notes("## 7.3\n````\n```\n## 8\n````\nc\n\n ## 9.1\n```x``` is code\n\n## 9.2\nd\n## 9.2\ne\n")
    assert "## 8" in found["7.3"] and "<p>c</p>" in found["7.3"]
    assert "<code>x</code> is code" in found["9.1"] and found["9.2"] == "<p>d</p>\n<p>e</p>"


def test_markup_is_escaped_and_nothing_is_fetched(notes):
    """HTML is text, a script link is no link, a picture is left as one."""
    html = notes(
        "## 8\n<img src=x onerror=alert(1)> [go](javascript:alert(1)) ![far](http://example.org/a.png)"
    )["8"]
    assert "<img" not in html and 'href="javascript' not in html
    assert '<a href="http://example.org/a.png">far</a>' in html


def test_other_headings_lose_nothing(notes):
    """What is no point of the lab stands elsewhere, with its heading."""
    found = notes("## 8\na\n## Thanks\nto all\n## 12\nb")
    assert found["8"] == "<p>a</p>"
    assert "Thanks" in found[ELSEWHERE] and "to all" in found[ELSEWHERE] and "12" in found[ELSEWHERE]


def test_no_notes_and_no_text(notes, tmp_path):
    """Without a file there are none; bytes that are no text are an error with a remedy; a mark of order is none."""
    assert read_notes(create_project(tmp_path / "q")) == {}
    assert notes(b"\xef\xbb\xbf## 8\nok")["8"] == "<p>ok</p>"
    with pytest.raises(ProjectError, match=r"notes.md is no text in UTF-8 \(byte 5\): save it as UTF-8"):
        notes(b"## 8\n\xff\xfe")
