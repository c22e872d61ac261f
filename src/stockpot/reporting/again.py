"""What was done to a project, as the calls and the commands that do it again."""

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from stockpot import project as disk
from stockpot.curation.findings import identify
from stockpot.curation.journal import Journal
from stockpot.learning.runs import Run, read_runs, started_from
from stockpot.reporting.calls import changed_fields, is_own, literal, training_call


@dataclass(frozen=True)
class _Search:
    """What one engine was asked for."""

    engine: str
    queries: dict[str, list[str]]  # further ones by class
    per_class: int


def python_lines(project: disk.Project) -> str:
    """Return the calls that do again what was done, from an empty folder on."""
    name = literal(_name(project))
    searches, own = _searches(project)
    aside, moved = _decisions(project)
    lines = ["import stockpot"]
    for one in searches:
        lines.append(
            f"stockpot.collect({name}, {literal(one.queries)}, per_class={one.per_class}, "
            f"engine={literal(one.engine)})"
        )
    if own:
        lines.append(f'stockpot.bring_own({name}, "FOLDER")  # {own} photos of your own')
    if aside or moved:
        lines.append(f"stockpot.curate({name}, set_aside={literal(aside)}, move={literal(moved)})")
    if chosen := _split(project):
        lines.append(f"stockpot.split({name}, validation={chosen['validation']:g}, seed={chosen['seed']})")
    for run, before in _runs(project):
        lines.append(training_call(run, before, _name(project)))
    return "\n".join([*lines, f"stockpot.write_report({name})"])


def commands(project: disk.Project) -> str:
    """Return the commands that do again what was done, from an empty folder on."""
    name = shlex.quote(_name(project))
    searches, own = _searches(project)
    aside, moved = _decisions(project)
    lines = []
    for one in searches:
        words = ["stockpot", "collect", _name(project), *one.queries, "--per-class", f"{one.per_class}"]
        words += ["--engine", one.engine]
        for label, more in one.queries.items():
            words += ["--query", f"{label}={','.join(more)}"] if more else []
        lines.append(shlex.join(words))
    if own:
        lines.append(f"stockpot collect {name} --from FOLDER  # {own} photos of your own")
    if aside or moved:
        words = ["stockpot", "curate", _name(project)]
        words += ["--set-aside", ",".join(aside)] if aside else []
        for key, label in moved.items():
            words += ["--move", f"{key}={label}"]
        lines.append(shlex.join(words))
    if chosen := _split(project):
        lines.append(f"stockpot split {name} --validation {chosen['validation']:g} --seed {chosen['seed']}")
    lines += [_training_command(run, before, _name(project)) for run, before in _runs(project)]
    return "\n".join([*lines, f"stockpot report {name}"])


def _training_command(run: Run, before: Run | None, project: str) -> str:
    if is_own(run.recipe):
        return f"# {run.name}: a network of your own is trained from Python"
    made, fields = changed_fields(run, before)
    words = ["stockpot", "train", project, "--recipe", made, "--name", run.name]
    for field, value in fields.items():
        if field == "start" and (start := started_from(run.recipe)):
            value = f"{project}/runs/{start}"
        words += [f"--{field.replace('_', '-')}", f"{value}"]
    return shlex.join(words)


def _name(project: disk.Project) -> str:
    return project.folder.resolve().name


def _searches(project: disk.Project) -> tuple[list[_Search], int]:
    """Return what engines were asked for, and how many photos came otherwise."""
    rows = disk.read_lines(project.provenance)
    counts: dict[str, Counter[str]] = {}
    queries: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if "engine" in row:
            label = row["file"].rpartition("/")[0]
            counts.setdefault(row["engine"], Counter())[label] += 1
            asked = queries.setdefault(row["engine"], {}).setdefault(label, [])
            if row["query"] not in (label, *asked):
                asked.append(row["query"])
    found = [_Search(engine, queries[engine], max(count.values())) for engine, count in counts.items()]
    return found, sum("engine" not in row for row in rows)


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


def _split(project: disk.Project) -> dict[str, Any] | None:
    found: dict[str, Any] | None = disk.read_json(project.split_file)
    return found


def _runs(project: disk.Project) -> list[tuple[Run, Run | None]]:
    """Return runs with the one that each went on from, those that others need first."""
    runs = read_runs(project)
    before = {run.name: next((one for one in runs if run.goes_on_from(one)), None) for run in runs}

    def depth(run: Run) -> int:
        one = before[run.name]
        return 1 + depth(one) if one else 0

    return [(run, before[run.name]) for run in sorted(runs, key=depth)]
