"""The real commands, disturbed at every rename, unlink, fsync and at random writes; each goes on from there.

    python benchmarks/faults.py [COMMAND...] [--by kill] [--seed 0] [--writes 8] [--json]

strace (Debian package strace; Linux) does it at the ENTRY of a system call. With `kill` the process dies of
SIGKILL, and what was to be renamed is not renamed; `interrupt` is Ctrl-C; with `full` and `broken` the call fails
as on a disk that is full or broken. In a copy of a tiny project a run is disturbed at its first such call; the
next run goes on from there and is disturbed at its first, or at one more wherever this place was hit before;
until one run ends without. strace counts the calls of each thread by themselves: the thread first at that number
is hit. Only calls below the working folder, where the project and what is written lie, count as moments. After
each `problems` are looked for, and whether a process that is alive says what happened; at the end files must be
those of an undisturbed run.
"""

import argparse
import json
import random
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases import (
    COMMANDS,
    REST,
    Bench,
    Command,
    bench_in,
    lasting,
    photos_of,
    problems,
    rests_in,
    results,
    unsaid,
)

CALLS = {
    "rename": ("rename", "renameat", "renameat2", "link", "linkat"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
    "fsync": ("fsync", "fdatasync"),
    "write": ("write", "pwrite64", "writev"),
}
Aim = tuple[tuple[str, ...], int]  # calls, and the number of the one that kills
HOW = {  # what strace injects, and what its trace says then
    "kill": ("signal=SIGKILL", "killed by SIGKILL"),
    "interrupt": ("signal=SIGINT", "--- SIGINT"),
    "full": ("error=ENOSPC", "(INJECTED)"),
    "broken": ("error=EIO", "(INJECTED)"),
}
LINE = re.compile(r"(\d+) +(\w+)\((.*)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
OPENED = re.compile(r"(?:\d+|AT_FDCWD)<(/[^>]*)>")


@dataclass(frozen=True)
class Call:
    """A system call that strace saw."""

    thread: int
    name: str
    path: str  # below the working folder; empty: elsewhere

    @property
    def place(self) -> tuple[str, str]:
        """What tells moments apart; all photos of a class are one place."""
        return self.name, re.sub(r"[^/]+\.(png|jpg)\b", "PHOTO", self.file)

    @property
    def file(self) -> str:
        """The path without what is drawn anew in every run."""
        return REST.sub("TMP", self.path)


@dataclass(frozen=True)
class Ran:
    """What came of one run."""

    code: int  # -9: SIGKILL
    said: str
    calls: tuple[Call, ...]
    hit: Call | None  # where it was killed
    child: bool  # a process that it started died, not itself


@dataclass
class Found:
    """What came of one command."""

    command: str
    moments: Counter[str] = field(default_factory=Counter)  # by kind of call
    places: set[tuple[str, str]] = field(default_factory=set)
    files: set[str] = field(default_factory=set)  # that were hit
    elsewhere: int = 0  # kills at calls outside the working folder: not counted as moments
    children: int = 0  # kills of a process that the command had started
    lost: list[str] = field(default_factory=list)
    rests: int = 0  # the most temporary files that lay there after a kill
    rests_at_the_end: int = 0
    ends: int = 0  # runs that ended by themselves, and were compared
    differ: set[str] = field(default_factory=set)  # files that differ from an undisturbed run's
    missed: set[tuple[str, str]] = field(default_factory=set)  # places of an undisturbed run never hit


def run(
    bench: Bench, command: Command, folder: Path, calls: tuple[str, ...] = (), when: int = 0, by: str = "kill"
) -> Ran:
    """Run a command, and disturb it at the call of that number, where it gets so far.

    Args:
        bench: where all is.
        command: what to run.
        folder: where.
        calls: names of system calls that are seen, whatever thread makes them; without them strace is not used.
        when: 0 disturbs never.
        by: one of `HOW`.
    """
    trace = bench.folder / "trace"
    trace.write_text("")
    line = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={_any(calls)}"] if calls else []
    injected, mark = HOW[by]
    line += ["-e", f"inject={_any(calls)}:{injected}:when={when}"] if when else []
    code, said = bench.run(command, folder, line)
    lines = trace.read_text(errors="replace").splitlines()
    seen, counts, hit = tuple(_calls(lines, folder)), Counter[tuple[int, str]](), None
    for call in seen if when else ():
        counts[call.thread, call.name] += 1
        if counts[call.thread, call.name] == when:
            hit = call
            break
    disturbed = any(mark in line for line in lines)
    assert disturbed == (hit is not None) or (by == "interrupt" and disturbed), (
        f"{command} {when} {hit} {said}"
    )
    return Ran(code, said, seen, hit, by == "kill" and disturbed and code != -signal.SIGKILL)


def _any(calls: tuple[str, ...]) -> str:
    """Return calls as strace takes them, with `?` for those that some processors lack."""
    return ",".join(f"?{name}" for name in calls)


def _calls(lines: list[str], folder: Path) -> Iterator[Call]:
    for line in lines:
        if match := LINE.match(line):
            thread, name, rest = match.groups()
            opened = OPENED.findall(rest)
            path = Path(opened[-1]) if opened else folder
            if name not in CALLS["fsync"] + CALLS["write"]:
                path = (path if "at" in name else folder) / QUOTED.findall(rest)[-1]
            elif not opened:
                path = Path("/")
            inside = path.is_relative_to(folder)
            yield Call(int(thread), name, path.relative_to(folder).as_posix() if inside else "")


def kind_of(call: str) -> str:
    """Return the kind of a system call."""
    return next(kind for kind, names in CALLS.items() if call in names)


def chain(
    bench: Bench,
    command: Command,
    found: Found,
    undisturbed: dict[str, Any],
    aims: Iterator[Aim],
    by: str = "kill",
) -> None:
    """Disturb a command at some calls again and again, each going on from the last, until one ends by itself."""
    folder = bench.copy(command.needs, "copy")
    photos, before, finished = photos_of(folder), lasting(folder), False
    for calls, when in aims:
        ran = run(bench, command, folder, calls, when, by)
        where = f"{calls[0]} {when} ({ran.hit.path if ran.hit else 'ended'})"
        wrong = problems(folder, photos, before) + (
            unsaid(command, ran.code, ran.said) if by != "kill" else []
        )
        found.lost += [f"{where}: {problem}" for problem in wrong]
        photos, before = photos | photos_of(folder), before | lasting(folder)
        found.rests = max(found.rests, len(rests_in(folder)))
        if ran.hit is None:
            break
        finished = results(folder) == undisturbed
        found.children += ran.child
        found.elsewhere += not ran.hit.path
        found.moments[kind_of(ran.hit.name)] += bool(ran.hit.path)
        if ran.hit.path:
            found.places.add(ran.hit.place)
            found.files.add(ran.hit.file)
    else:
        ran = run(bench, command, folder)
        found.lost += problems(folder, photos, before)
    if ran.code != command.code and not finished:  # `publish` refuses a folder that is complete already
        found.lost.append(f"it cannot go on: {ran.said[-300:]}")
    found.ends += 1
    found.rests_at_the_end = max(found.rests_at_the_end, len(rests_in(folder)))
    now = results(folder)
    found.differ |= {name for name in now | undisturbed if now.get(name) != undisturbed.get(name)}


def everywhere(found: Found, calls: tuple[str, ...]) -> Iterator[Aim]:
    """Aim at the first of some calls, or one later wherever the place of the last kill was hit before."""
    when, known = 1, -1
    while True:
        yield calls, when
        when, known = when + (len(found.places) == known), len(found.places)


def toward(found: Found, place: tuple[str, str], numbers: dict[tuple[str, str], list[int]]) -> Iterator[Aim]:
    """Aim at one place: at its number, or, where another thread is there first, after all that can be kept is."""
    renames = [number for (name, _), some in numbers.items() if name == "rename" for number in some]
    again = range(1, min(numbers[place][0], 12) + 1)
    for aim in (
        (place[:1], numbers[place][0]),
        (("rename",), max(renames)),
        *((place[:1], k) for k in again),
    ):
        if place not in found.places:
            yield aim


def look(bench: Bench, name: str) -> tuple[Found, dict[tuple[str, str], list[int]]]:
    """Run a command undisturbed; return the numbers of the calls at each place."""
    command = COMMANDS[name]
    folder = bench.copy(command.needs, "copy")
    whole = run(bench, command, folder, tuple(name for names in CALLS.values() for name in names))
    assert whole.code == command.code, whole.said
    counts, numbers = Counter[tuple[int, str]](), {}
    for call in whole.calls:
        counts[call.thread, call.name] += 1
        if call.path:
            numbers.setdefault(call.place, []).append(counts[call.thread, call.name])
    return Found(name), numbers


def once(bench: Bench, name: str, by: str, when: int) -> Found:
    """Disturb a command at its rename of that number, go on, and return what came of it."""
    found = Found(name)
    chain(bench, COMMANDS[name], found, bench.undisturbed(name), iter([(CALLS["rename"], when)]), by)
    return found


def measure(bench: Bench, name: str, by: str, writes: int, chance: random.Random) -> Found:
    """Disturb a command at all moments and return what came of it."""
    command = COMMANDS[name]
    (found, numbers), undisturbed = look(bench, name), bench.undisturbed(name)
    for kind in ("rename", "fsync"):
        chain(bench, command, found, undisturbed, everywhere(found, CALLS[kind]), by)
    for place in numbers:  # unlinks, and what chains passed over
        if kind_of(place[0]) != "write" and place not in found.places:
            chain(bench, command, found, undisturbed, toward(found, place, numbers), by)
    there = [
        (place[0], number) for place in numbers if kind_of(place[0]) == "write" for number in numbers[place]
    ]
    for _ in range(writes):  # chains; most are cut short by a run that ends
        left = writes - found.moments["write"]
        if there and left > 0:
            aims = [((name,), number) for name, number in chance.choices(there, k=left)]
            chain(bench, command, found, undisturbed, iter(aims), by)
    found.missed = {place for place in numbers if kind_of(place[0]) != "write"} - found.places
    return found


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser()
    options.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    options.add_argument("--by", choices=list(HOW), default="kill")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--writes", type=int, default=8, help="random writes a command")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # in the background of a shell it would be ignored
    if not asked.json:
        print("| command | moments: rename, unlink, fsync, write | files | lost | ends | differ | rests |")
        print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, bench_in(Path(folder)) as bench:
        for name in asked.commands or COMMANDS:
            found = measure(bench, name, asked.by, asked.writes, random.Random(asked.seed))
            print(told(found, asked.json), flush=True)


def told(found: Found, as_json: bool) -> str:
    """Return a row of the table, or a line of JSON."""
    if as_json:
        return json.dumps(
            vars(found), default=lambda value: sorted(value) if isinstance(value, set) else dict(value)
        )
    kinds = ", ".join(str(found.moments[kind]) for kind in CALLS)
    lost, differ = ("; ".join(each) or "0" for each in (found.lost, sorted(found.differ)))
    rests = f"{found.rests}, {found.rests_at_the_end} at the end"
    moments = f"{found.moments.total()}: {kinds}"
    return (
        f"| {found.command} | {moments} | {len(found.files)} | {lost} | {found.ends} | {differ} | {rests} |"
    )


if __name__ == "__main__":
    main()
