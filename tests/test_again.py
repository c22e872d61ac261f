import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import stockpot
from stockpot.cli import app
from stockpot.curation.review import Review
from stockpot.learning.recipes import Recipe
from stockpot.project import open_project
from stockpot.reporting.again import commands, python_lines


@pytest.fixture
def project(lab, tmp_path):
    """Solar cells with several runs, of which one was set aside, one moved, and one moved and then set aside."""
    shutil.copytree(lab.study.project, tmp_path / "solar cells")
    review = Review(tmp_path / "solar cells")
    first, second, third, fourth = list(review.head.names)[:4]
    other = next(name for name in review.class_names if name != review.photos[second].photo.label)
    review.decide(first)
    review.decide(second, other)
    review.decide(third, next(n for n in review.class_names if n != review.photos[third].photo.label))
    review.decide(third)
    review.decide(fourth)
    review.undo()
    return open_project(tmp_path / "solar cells")


def files(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob(pattern)}


def test_the_lines_do_again_what_was_done(project, lab, tmp_path, monkeypatch):
    """The calls, run on the photos as they were, leave the same photos in every class, and name every recipe."""
    lines = python_lines(project).splitlines()
    assert lines[0] == "import stockpot" and lines[-1] == 'stockpot.write_report("solar cells")'
    recipes = {}

    def train(folder, recipe, name=None):
        recipes[name or recipe.usual_name] = recipe.to_json()
        return next(run for run in lab.study.runs if run.name == (name or recipe.usual_name))

    again = tmp_path / "again"
    shutil.copytree(lab.study.project, again / "solar cells", ignore=shutil.ignore_patterns("set-aside"))
    monkeypatch.chdir(again)
    names = {
        "stockpot": SimpleNamespace(curate=stockpot.curate, split=stockpot.split, train=train, Recipe=Recipe)
    }
    assert any(line.startswith("stockpot.bring_own") for line in lines)
    for line in lines[1:-1]:
        if not line.startswith("stockpot.bring_own"):
            exec(line, names)
    assert files(again / "solar cells", "photos/*/*") == files(project.folder, "photos/*/*")
    aside = files(project.folder, "set-aside/*/*")
    assert {Path(one).name for one in files(again / "solar cells", "set-aside/*/*")} == {
        Path(one).name for one in aside
    }
    assert recipes == {run.name: run.recipe for run in lab.study.runs}


def test_the_commands_are_understood(project, lab, tmp_path, monkeypatch):
    """Every command parses; those of trainings find the runs that are there, so that nothing is trained."""
    monkeypatch.chdir(project.folder.parent)
    lines = [shlex.split(line, comments=True) for line in commands(project).splitlines()]
    assert all(line[0] == "stockpot" for line in lines) and lines[-1] == ["stockpot", "report", "solar cells"]
    shutil.copytree(lab.study.project, tmp_path / "again" / "solar cells")
    monkeypatch.chdir(tmp_path / "again")
    trained = [line for line in lines if line[1] == "train"]
    assert len(trained) == len(lab.study.runs)
    for line in (one for one in lines if one[1] in ("split", "train")):
        done = CliRunner().invoke(app, line[1:])
        assert done.exit_code == 0, (line, done.output)
    runs = {run.name for run in stockpot.look_at_status("solar cells").runs}
    assert runs == {run.name for run in lab.study.runs}
