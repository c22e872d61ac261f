"""What README and docs name is there: files, headings, scripts, commands and their options."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from typer.main import get_command

from stockpot.cli import app
from stockpot.reporting.points import POINTS

PAGES = {path.name: path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}


def place(name: str) -> Path:
    return ROOT / "README.md" if name == "README.md" else ROOT / "docs" / name


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_pictures_links_and_scripts_are_there(name):
    """No picture, page, heading or script that a page points to is missing."""
    text = PAGES[name]
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https:"):
            continue
        path, _, anchor = target.partition("#")
        there = place(name).parent / path if path else place(name)
        assert there.exists(), target
        assert not anchor or anchor in headings(there.read_text("utf-8")), target
    for script in re.findall(
        r"\b(?:benchmarks|examples|tests|docs)/[\w/]+\.(?:py|sh|ipynb|json|yaml)\b", text
    ):
        assert (ROOT / script).exists(), script


def commands(text: str) -> list[str]:
    """Everything in a page that is a command of ours."""
    blocks = re.findall(
        r"^(?:\$ )?(stockpot .+)$", "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.S)), re.M
    )
    return blocks + re.findall(r"`(stockpot [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_options_exist(name):
    """Every command that a page names is one, with every option that stands beside it."""
    program = get_command(app)
    for line in commands(PAGES[name]):
        first, *words = shlex.split(line.replace("[", " ").replace("]", " "), comments=True)
        assert first == "stockpot"
        if words[0].startswith("-"):
            continue
        command = program.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in words[1:]:
            assert not word.startswith("-") or word.partition("=")[0] in known, (line, word)


def test_options_in_running_text_exist():
    """An option that stands alone in a sentence is one of some command."""
    program = get_command(app)
    known = {o for command in program.commands.values() for p in command.params for o in p.opts}
    others = {
        "--nproc-per-node",
        "--no-python",
        "--max-restarts",
        "--head",
        "--commands",
        "--entrance",
        "--tries",
        "--shutdown-timeout",
        "--only",
        "--writes",
        "--by",
    }  # other programs'
    for name, text in PAGES.items():
        for option in re.findall(r"`(--[a-z][a-z-]+)\b", text):
            assert option in known | others, (name, option)


def test_the_lab_is_the_same_in_both_languages():
    """The same points with the same commands, and those of the script that runs as a test."""
    english, polish = (PAGES[name] for name in ("lab.md", "lab.pl.md"))
    assert commands(english) == commands(polish)
    points = [re.findall(r"^\| (.*?) \|", text, re.M) for text in (english, polish)]
    numbers = [re.findall(r"(?<![\d.])\d(?:\.\d)*(?=[ ,])", " ".join(rows)) for rows in points]
    whole = {point for point in POINTS if point.count(".") < 2}
    assert numbers[0] == numbers[1] and whole - set(numbers[0]) <= {"5", "7", "9"}  # headings
    script = (ROOT / "examples" / "lab.sh").read_text("utf-8")
    assert all(line in script for line in commands(english) if line.startswith("stockpot train"))
