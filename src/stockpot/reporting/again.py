"""What was done to a project, as calls and as commands that do it again, as far as the folder remembers it."""

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stockpot import project as disk
from stockpot.curation.findings import identify
from stockpot.curation.journal import Journal
from stockpot.learning.runs import Run, read_runs, started_from
from stockpot.photos.intake import Origin, read_origins
from stockpot.photos.splits import read_split
from stockpot.reporting.calls import changed_fields, is_own, literal, training_call


@dataclass(frozen=True)
class Step:
    """One thing that was done."""

    call: str  # in Python, after `import stockpot`
    command: str


def python_lines(project: disk.Project) -> str:
    """Return the calls."""
    return "\n".join(["import stockpot", *(step.call for step in steps(project))])


def commands(project: disk.Project) -> str:
    """Return the commands."""
    return "\n".join(step.command for step in steps(project))


def steps(project: disk.Project) -> Iterator[Step]:
    """Yield what was done, from an empty folder on.

    How many photos of a class were wanted is not remembered: it is as many as came.
    """
    name = project.folder.resolve().name
    yield from _collecting(project, name)
    aside, moved = _decisions(project)
    if aside or moved:
        words = ["stockpot", "curate", name, *(["--set-aside", ",".join(aside)] if aside else [])]
        for key, label in moved.items():
            words += ["--move", f"{key}={label}"]
        call = f"stockpot.curate({literal(name)}, set_aside={literal(aside)}, move={literal(moved)})"
        yield Step(call, shlex.join(words))
    if chosen := read_split(project):
        share, seed = f"{chosen['validation']:g}", f"{chosen['seed']}"
        words = ["stockpot", "split", name, "--validation", share, "--seed", seed]
        yield Step(f"stockpot.split({literal(name)}, validation={share}, seed={seed})", shlex.join(words))
    for run, before in _runs(project):
        yield Step(training_call(run, before, name), _training_command(run, name, before))
    yield Step(f"stockpot.write_report({literal(name)})", shlex.join(["stockpot", "report", name]))


def _collecting(project: disk.Project, name: str) -> Iterator[Step]:
    """Yield a step for every way in which photos came from an engine, and one for all others."""
    rows = read_origins(project)
    searches: dict[tuple[str, str, bool], list[Origin]] = {}
    for row in rows:
        if "engine" in row and "query" in row:
            asked = row["engine"], row.get("asked_licence", "any"), row.get("originals", False)
            searches.setdefault(asked, []).append(row)
    for (engine, license, originals), found in searches.items():
        yield _search(name, engine, license, originals, found)
    came = {row["sha256"][:12] for rows in searches.values() for row in rows}  # and are named so
    files = (file for room in (project.photos, project.set_aside) for file in room.glob("*/*"))
    own = sum(file.stem[:12] not in came and not disk.is_hidden(file.name) for file in files)
    if own:
        call = f'stockpot.bring_own({literal(name)}, "FOLDER")'
        words = f"{shlex.join(['stockpot', 'collect', name])} --from FOLDER"
        note = f"  # {own} photos of your own, in a folder a class"
        yield Step(call + note, words + note)


def _search(name: str, engine: str, license: str, originals: bool, rows: list[Origin]) -> Step:
    queries: dict[str, list[str]] = {}
    for row in rows:
        label = row["file"].rpartition("/")[0]
        further = queries.setdefault(label, [])
        if row["query"] not in (label, *further):
            further.append(row["query"])
    per_class = max(Counter(row["file"].rpartition("/")[0] for row in rows).values())
    words = ["stockpot", "collect", name, *queries, "--per-class", f"{per_class}", "--engine", engine]
    call = f"{literal(name)}, {literal(queries)}, per_class={per_class}, engine={literal(engine)}"
    if license != "any":
        words, call = [*words, "--license", license], f"{call}, license={literal(license)}"
    if originals:
        words, call = [*words, "--originals"], f"{call}, originals=True"
    for label, further in queries.items():
        words += ["--query", f"{label}={','.join(further)}"] if further else []
    return Step(f"stockpot.collect({call})", shlex.join(words))


def _training_command(run: Run, name: str, before: Run | None) -> str:
    if is_own(run.recipe):
        return f"# {run.name}: a network of your own is trained from Python"
    made, fields = changed_fields(run, before)
    words = ["stockpot", "train", name, "--recipe", made, "--name", run.name]
    for field, value in fields.items():
        start = started_from(run.recipe) if field == "start" else ""
        words += [f"--{field.replace('_', '-')}", f"{name}/runs/{start}" if start else f"{value}"]
    return shlex.join(words)


def _decisions(project: disk.Project) -> tuple[list[str], dict[str, str]]:
    """Return what was set aside and what was moved to which class, by what a command calls it."""
    came_from: dict[str, dict[str, Any]] = {}  # by where a file is now: the first of its moves
    for moves in Journal(project).standing.values():
        for row in moves:
            came_from[row["target"]] = came_from.pop(row["source"], row)
    aside, moved = [], {}
    for target, first in came_from.items():
        key = identify(project.folder / first["source"], first["sha256"])
        place = project.folder / target
        if project.set_aside in place.parents:
            aside.append(key)
        elif place.parent.name != (project.folder / first["source"]).parent.name:
            moved[key] = place.parent.name
    return aside, moved


def _runs(project: disk.Project) -> list[tuple[Run, Run | None]]:
    """Return runs with the one that each went on from, those that others need first."""
    runs = read_runs(project)
    before = {run.name: next((one for one in runs if run.goes_on_from(one)), None) for run in runs}

    def depth(run: Run) -> int:
        one = before[run.name]
        return 1 + depth(one) if one else 0

    return [(run, before[run.name]) for run in sorted(runs, key=depth)]
