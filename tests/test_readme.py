"""README's commands and code run as they stand, on photos laid out as README says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from typer.main import get_command

from stockpot.cli import app

README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def kitchen(tmp_path, cells_by_class) -> Path:
    """A working folder with README's names in it."""
    for folder, part in (("my-photos", slice(0, 6)), ("my-test-photos", slice(6, 8))):
        for label, files in cells_by_class.items():
            (tmp_path / folder / label).mkdir(parents=True)
            for file in files[part]:
                shutil.copy(file, tmp_path / folder / label)
    shutil.copy(cells_by_class["polycrystalline defective"][20], tmp_path / "dinner.jpg")
    return tmp_path


def test_commands_and_code_run(kitchen):
    """First the console block, then the Python block, in a folder like the reader's."""
    (console,) = re.findall(r"```console\n(.*?)```", README, re.S)
    commands = [line.removeprefix("$ ") for line in console.splitlines()]
    assert len(commands) == 7
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "stockpot"
        subprocess.run([sys.executable, "-m", "stockpot", *arguments], cwd=kitchen, check=True)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    subprocess.run([sys.executable, "-c", code], cwd=kitchen, check=True, env=os.environ)
    for made in ("food/report.html", "why/dinner-why.png", "why.png"):
        assert (kitchen / made).exists()


def test_every_command_is_in_the_table():
    """README names what the command line has, and nothing else."""
    table = set(re.findall(r"^\| `stockpot (\w+)", README, re.M))
    assert table == set(get_command(app).commands)


def test_readme_starts_with_the_two_commands():
    """Before anything else that can be typed."""
    first = re.search(r"```\n(.*?)```", README, re.S).group(1)
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in ("demo", "test"))
