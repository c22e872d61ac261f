"""The real commands, killed at every rename, unlink, fsync and at random writes; each goes on from the last kill.

    python benchmarks/faults.py [COMMAND...] [--seed 0] [--writes 8] [--json]

strace (Debian package strace; Linux) kills with SIGKILL at the ENTRY of a system call: what was to be renamed is
not renamed, what was to be written is not written. In a copy of a tiny project a run is killed at its first such
call; the next run goes on from there and is killed at its first, or at one more wherever this place was hit before;
until one run ends by itself. strace counts the calls of each thread by themselves: the thread first at that
number is hit. Only calls below the working folder, where the project and what is written lie, count as moments.
After each kill `problems` are looked for; at the end files must be those of an undisturbed run.
"""

import argparse
import hashlib
import http.client
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from stockpot import project as disk
from stockpot.errors import StockpotError
from stockpot.learning.runs import read_runs
from stockpot.model.model_file import read_model
from stockpot.photos.samples import bring_in_samples

TESTS = Path(__file__).resolve().parent.parent / "tests"
CALLS = {
    "rename": ("rename", "renameat", "renameat2", "link", "linkat"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
    "fsync": ("fsync", "fdatasync"),
    "write": ("write", "pwrite64", "writev"),
}
Aim = tuple[tuple[str, ...], int]  # calls, and the number of the one that kills
MAY_DIFFER = {"time", "seconds"}  # fields of JSON that tell of the moment, not of the result
REST = re.compile(r"\.[0-9a-f]{16}\.stockpot-tmp(?:/\.tmp\w+)?")  # where something is not complete
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


@dataclass(frozen=True)
class Command:
    """A command, and the state before it."""

    words: tuple[str, ...]
    needs: str  # which of `STATES`
    drive: Callable[[subprocess.Popen[str], Path], None] | None = None  # what asks a server
    code: int = 0  # that it ends with


class Bench:
    """States, and environment of the commands."""

    def __init__(self, folder: Path, internet: dict[str, str]) -> None:
        self.folder = folder.resolve()
        for name in ("tmp", "states"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {"TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1"}
        self.internet = internet  # of a command that collects; weights come from the real one or its cache

    def copy(self, needs: str, name: str) -> Path:
        """Return a fresh copy of a state."""
        state, copy = self.folder / "states" / needs, self.folder / name
        if not state.exists():
            state.mkdir()
            STATES[needs](state, self)
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(state, copy))

    def stockpot(self, folder: Path, *words: str) -> None:
        """Run a command to its end."""
        command = [sys.executable, "-m", "stockpot", *words, "--quiet"]
        subprocess.run(command, cwd=folder, env=self.environment, check=True, capture_output=True)

    def run(self, command: Command, folder: Path, calls: tuple[str, ...] = (), when: int = 0) -> Ran:
        """Run a command, and kill it at the call of that number, where it gets so far.

        Args:
            command: what to run.
            folder: where.
            calls: names of system calls that are seen, whatever thread makes them; without them strace is not used.
            when: 0 kills never.
        """
        trace = self.folder / "trace"
        trace.write_text("")
        line = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={_any(calls)}"] if calls else []
        line += ["-e", f"inject={_any(calls)}:signal=SIGKILL:when={when}"] if when else []
        line += [sys.executable, "-B", "-m", "stockpot", *command.words]
        environment = self.environment | (self.internet if "collect" in command.words else {})
        process = subprocess.Popen(
            line,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        if command.drive:
            command.drive(process, folder)
        said = "".join(process.communicate(timeout=600))
        lines = trace.read_text(errors="replace").splitlines()
        seen, counts, hit = tuple(_calls(lines, folder)), Counter[tuple[int, str]](), None
        for call in seen if when else ():
            counts[call.thread, call.name] += 1
            if counts[call.thread, call.name] == when:
                hit = call
                break
        died = any("killed by SIGKILL" in line for line in lines)
        assert died == (hit is not None), f"{command.words}: {when} {hit} {said}"
        return Ran(process.returncode, said, seen, hit, died and process.returncode != -signal.SIGKILL)


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


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_below(folder: Path) -> dict[str, Path]:
    """Return all files of a folder by their names in it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def photos_of(folder: Path) -> Counter[str]:
    """Return how often each photo is in the project, by its sha256."""
    roots = [folder / "food" / name for name in ("photos", "set-aside")]
    return Counter(digest(path) for root in roots if root.is_dir() for path in disk.class_entries(root))


def lasting(folder: Path) -> dict[str, str]:
    """Return what no kill may change: photos of the user's own, and runs that are complete."""
    runs = (
        [run.folder for run in read_runs(disk.Project(folder / "food"))]
        if (folder / "food/runs").is_dir()
        else []
    )
    roots = [folder / "source", *runs]
    files = [path for root in roots if root.is_dir() for path in files_below(root).values()]
    passing = re.compile(rf"/checkpoint\w*\.safetensors$|{REST.pattern}")
    return {str(path): digest(path) for path in files if not passing.search(str(path))}


def problems(folder: Path, photos: Counter[str], before: dict[str, str]) -> list[str]:
    """Return what is wrong with what a killed command left.

    Args:
        folder: with the project `food` in it.
        photos: those that were there, at the last look.
        before: what was there and must stay as it is.
    """
    now, found = photos_of(folder), []
    found += [f"photo {name[:12]} is there {now[name]} times" for name in photos if now[name] != photos[name]]
    found += [f"photo {name[:12]} came twice" for name in now.keys() - photos if now[name] != 1]
    for name, value in before.items():
        if not Path(name).exists() or digest(Path(name)) != value:
            found.append(f"{name} is gone or changed")
    for name, path in files_below(folder).items():
        if REST.search(name):
            continue  # not complete, and nobody looks there
        try:
            if path.suffix == ".json":
                disk.read_json(path)
            elif path.suffix == ".jsonl":
                torn = len(path.read_bytes().splitlines()) - len(disk.read_lines(path))
                whole = path.read_bytes().endswith(b"\n") or not path.stat().st_size
                found += [f"{name} has {torn} torn lines"] if torn > (not whole) else []
        except StockpotError as error:
            found.append(f"{name}: {error}")
    try:
        for run in read_runs(disk.Project(folder / "food")) if (folder / "food/runs").is_dir() else []:
            read_model(run.model_path)
        if (folder / "food").is_dir():
            with disk.Project(folder / "food").writing():
                pass
    except StockpotError as error:
        found.append(str(error))
    return found


def rests_in(folder: Path) -> list[str]:
    """Return what killed writers left."""
    return [str(path) for path in folder.rglob("*") if REST.search(path.name)]


def results(folder: Path) -> dict[str, Any]:
    """Return what a command ends with: every file but caches, rests and the lock, without `MAY_DIFFER`."""
    found = {}
    for name, path in files_below(folder).items():
        if "cache" in Path(name).parts or path.name == ".lock" or REST.search(name):
            continue
        data: Any = path.read_bytes()
        if path.suffix == ".json":
            data = _plain(json.loads(data))
        elif path.suffix == ".jsonl":
            data = sorted(json.dumps(_plain(row)) for row in disk.read_lines(path))
        elif path.suffix == ".safetensors" and not name.startswith("food/"):  # pretrain's tells its seconds
            data = _plain_model(data)
        elif path.name == "report.html":  # it tells of times and seconds
            data = re.sub(rb"[0-9][0-9.:e-]*", b"0", data)
        found[name] = data
    return found


def _plain(value: Any) -> Any:
    """Return JSON without what may differ."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key not in MAY_DIFFER}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _plain_model(data: bytes) -> tuple[Any, bytes]:
    """Return metadata without what may differ, and the tensors' bytes, of a safetensors file."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    texts = header.pop("__metadata__")
    with suppress(ValueError):
        texts = {key: _plain(json.loads(text)) for key, text in texts.items()}
    return (header, texts), data[start:]


def chain(
    bench: Bench,
    command: Command,
    found: Found,
    undisturbed: dict[str, Any],
    aims: Iterator[Aim],
) -> None:
    """Kill a command at some calls again and again, each going on from the last, until one ends by itself."""
    folder = bench.copy(command.needs, "copy")
    photos, before, finished = photos_of(folder), lasting(folder), False
    for calls, when in aims:
        ran = bench.run(command, folder, calls, when)
        where = f"{calls[0]} {when} ({ran.hit.path if ran.hit else 'ended'})"
        found.lost += [f"{where}: {problem}" for problem in problems(folder, photos, before)]
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
        ran = bench.run(command, folder)
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


def look(bench: Bench, name: str) -> tuple[Found, dict[str, Any], dict[tuple[str, str], list[int]]]:
    """Run a command undisturbed; return its results, and the numbers of the calls at each place."""
    command = COMMANDS[name]
    folder = bench.copy(command.needs, "copy")
    whole = bench.run(command, folder, tuple(name for names in CALLS.values() for name in names))
    assert whole.code == command.code, whole.said
    counts, numbers = Counter[tuple[int, str]](), {}
    for call in whole.calls:
        counts[call.thread, call.name] += 1
        if call.path:
            numbers.setdefault(call.place, []).append(counts[call.thread, call.name])
    return Found(name), results(folder), numbers


def kill_once(bench: Bench, name: str, when: int) -> Found:
    """Kill a command at its rename of that number, go on, and return what came of it."""
    command, found = COMMANDS[name], Found(name)
    folder = bench.copy(command.needs, "copy")
    whole = bench.run(command, folder)
    assert whole.code == command.code, whole.said
    chain(bench, command, found, results(folder), iter([(CALLS["rename"], when)]))
    return found


def measure(bench: Bench, name: str, writes: int, chance: random.Random) -> Found:
    """Kill a command at all moments and return what came of it."""
    command = COMMANDS[name]
    found, undisturbed, numbers = look(bench, name)
    for kind in ("rename", "fsync"):
        chain(bench, command, found, undisturbed, everywhere(found, CALLS[kind]))
    for place in numbers:  # unlinks, and what chains passed over
        if kind_of(place[0]) != "write" and place not in found.places:
            chain(bench, command, found, undisturbed, toward(found, place, numbers))
    there = [
        (place[0], number) for place in numbers if kind_of(place[0]) == "write" for number in numbers[place]
    ]
    for _ in range(writes):  # chains; most are cut short by a run that ends
        left = writes - found.moments["write"]
        if there and left > 0:
            aims = [((name,), number) for name, number in chance.choices(there, k=left)]
            chain(bench, command, found, undisturbed, iter(aims))
    found.missed = {place for place in numbers if kind_of(place[0]) != "write"} - found.places
    return found


def ask(address: str, method: str, path: str, body: bytes = b"") -> Any:
    """Ask the web app as its own page does."""
    host = address.removeprefix("http://")
    headers = {"Host": host, "Origin": address, "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection(host, timeout=60)) as line:
        line.request(method, path, body or None, headers)
        return json.loads(line.getresponse().read())


def drive(server: subprocess.Popen[str], folder: Path) -> None:
    """Bring a photo in, set another aside, write notes, train: what is not done yet. Then end the server."""
    assert server.stdout
    address = server.stdout.readline().strip()
    with suppress(OSError, http.client.HTTPException, ValueError):  # it was killed
        photo = (folder / "new" / "own.png").read_bytes()
        ask(address, "POST", "/api/collect/photos?label=monocrystalline%20defective&name=own.png", photo)
        state = ask(address, "GET", "/api/review")
        while "waiting" in state:
            time.sleep(0.05)
            state = ask(address, "GET", "/api/review")
        aside = min(file.name for file in disk.class_entries(folder / "source"))
        for key in [one["key"] for one in state["photos"] if one["name"] == aside]:
            ask(address, "POST", "/api/review/decisions", json.dumps({"key": key}).encode())
        notes = ask(address, "GET", "/api/finish")
        told = {"text": "## 8\n\nBright is current.\n", "version": notes["version"]}
        if notes["notes"] != told["text"]:
            ask(address, "POST", "/api/finish/notes", json.dumps(told).encode())
        order = {"recipe": "cifar", "name": "again", "changes": {"epochs": 5}}
        ask(address, "POST", "/api/train", json.dumps(order).encode())
        while server.poll() is None and not (folder / "food/runs/again/evaluation.json").exists():
            time.sleep(0.1)
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGINT)


def _own_photos(folder: Path, bench: Bench) -> None:
    """Six photos of each of four classes, as a user has them."""
    bring_in_samples(folder / "samples", 6)
    shutil.copytree(folder / "samples" / "photos", folder / "source")
    shutil.rmtree(folder / "samples")


def _project(folder: Path, bench: Bench) -> None:
    """The photos in a project."""
    shutil.copytree(bench.copy("source", "copy"), folder, dirs_exist_ok=True)
    bench.stockpot(folder, "collect", "food", "--from", "source")


def _run(folder: Path, bench: Bench) -> None:
    """A complete run, and further photos."""
    shutil.copytree(bench.copy("project", "copy"), folder, dirs_exist_ok=True)
    bench.stockpot(folder, "train", "food", "--backbone", "cifar")
    first = disk.class_entries(folder / "source")[0]
    (folder / "new").mkdir()
    with Image.open(first) as photo:
        photo.rotate(90).save(folder / "new" / "own.png")
        photo.rotate(180).save(folder / "new" / "other.png")


def _dirty(folder: Path, bench: Bench) -> None:
    """Looked through once; then came two copies, a blank photo and what is no photo."""
    shutil.copytree(bench.copy("run", "copy"), folder, dirs_exist_ok=True)
    bench.stockpot(folder, "curate", "food")
    for file in disk.class_entries(folder / "source")[:2]:
        shutil.copy(file, folder / "food/photos" / file.parent.name / f"copy-{file.name}")
    place = folder / "food/photos" / file.parent.name
    (place / "page.jpg").write_text("<html>")
    Image.new("RGB", (100, 100)).save(place / "blank.png")


def _looked(folder: Path, bench: Bench) -> None:
    """Looked through once."""
    shutil.copytree(bench.copy("run", "copy"), folder, dirs_exist_ok=True)
    bench.stockpot(folder, "curate", "food")


def _cifar10(folder: Path, bench: Bench) -> None:
    """300 small pictures in CIFAR-10's layout."""
    chance = np.random.default_rng(0)
    for name, count in (("train", 200), ("test", 100)):
        rows = []
        for label in range(count):
            pixels, stream = chance.integers(0, 256, (32, 32, 3), np.uint8), io.BytesIO()
            pixels[:, :, label % 3] //= 1 + label % 10
            Image.fromarray(pixels).save(stream, "PNG")
            rows.append({"bytes": stream.getvalue(), "path": f"{label}.png"})
        table = pa.table({"img": rows, "label": [label % 10 for label in range(count)]})
        (folder / "data").mkdir(exist_ok=True)
        parquet.write_table(table, folder / "data" / f"{name}.parquet")


STATES: dict[str, Callable[[Path, Bench], None]] = {
    "nothing": lambda folder, bench: None,
    "source": _own_photos,
    "project": _project,
    "run": _run,
    "dirty": _dirty,
    "looked": _looked,
    "cifar10": _cifar10,
}
_SMALL = ("--width", "8", "--channels", "16", "--epochs", "3", "--batch-size", "50", "--learning-rate", "0.1")
COMMANDS = {
    "collect": Command(("collect", "food", "apple pie", "baklava", "--per-class", "4", "-q"), "nothing"),
    "collect --from": Command(("collect", "food", "--from", "new", "--label", "new", "-q"), "run"),
    "curate": Command(("curate", "food", "--auto", "-q"), "dirty"),
    "split": Command(("split", "food", "-q"), "project"),
    "study": Command(("study", "food", "--photos", "source", "--recipes", "cifar", "-q"), "source"),
    "train": Command(("train", "food", "--recipe", "from-scratch", "--epochs", "2", "-q"), "run"),
    "pretrain": Command(
        ("pretrain", "cifar10", "--data", "data", "--out", "small.safetensors", *_SMALL, "-q"), "cifar10"
    ),
    "predict": Command(
        ("predict", "food", "new", "source", "--output", "answers.csv", "--sort-into", "sorted", "-q"), "run"
    ),
    "publish": Command(("publish", "food", "--to", "published", "-q"), "run"),
    "web": Command(("web", "food", "--port", "0"), "looked", drive, 130),
}


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """Yield what commands run in, with a local internet whose every query finds four photos."""
    sys.path.insert(0, str(TESTS))
    from standin.engines import THUMBNAILS, Engines, row, thumbnail
    from standin.server import Answer, StandIn

    engines = Engines(lambda query: [row(f"{query} {i}") for i in range(4)])
    hosts = {
        "duckduckgo.com": engines.duckduckgo,
        THUMBNAILS: thumbnail,
        "*": lambda _: Answer(b"nobody", 404),
    }
    standin = StandIn(folder, hosts)
    try:
        yield Bench(folder, standin.environment)
    finally:
        standin.close()


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser()
    options.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
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
            print(told(measure(bench, name, asked.writes, random.Random(asked.seed)), asked.json), flush=True)


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
