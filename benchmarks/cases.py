"""Tiny projects, the commands that `faults.py` and `troubles.py` disturb, and what must be true afterwards."""

import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
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
MAY_DIFFER = {"time", "seconds"}  # fields of JSON that tell of the moment, not of the result
REST = re.compile(r"\.[0-9a-f]{16}\.stockpot-tmp(?:/\.tmp\w+)?")  # where something is not complete


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
        self._ends: dict[str, dict[str, Any]] = {}

    def copy(self, needs: str, name: str) -> Path:
        """Return a fresh copy of a state."""
        state, copy = self.folder / "states" / needs, self.folder / name
        if not state.exists():
            making = state.with_name(f"{needs}, not complete")
            making.mkdir()
            STATES[needs](making, self)
            making.rename(state)
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(state, copy))

    def undisturbed(self, name: str) -> dict[str, Any]:
        """Return the results of one of `COMMANDS`, which is run once."""
        if name not in self._ends:
            command, folder = COMMANDS[name], self.copy(COMMANDS[name].needs, "undisturbed")
            code, said = self.run(command, folder)
            assert code == command.code, said
            self._ends[name] = results(folder)
        return self._ends[name]

    def stockpot(self, folder: Path, *words: str) -> None:
        """Run a command to its end."""
        command = [sys.executable, "-m", "stockpot", *words, "--quiet"]
        subprocess.run(command, cwd=folder, env=self.environment, check=True, capture_output=True)

    def run(self, command: Command, folder: Path, before: Sequence[str] = ()) -> tuple[int, str]:
        """Run a command in a folder, whatever comes of it; return its code, and what it said.

        Args:
            command: what to run.
            folder: where.
            before: words that come before it on the command line.
        """
        process = self.begin(command, folder, before)
        if command.drive:
            command.drive(process, folder)
        said = "".join(process.communicate(timeout=600))
        return process.returncode, said

    def begin(self, command: Command, folder: Path, before: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """Start a command in a folder."""
        return subprocess.Popen(
            [*before, sys.executable, "-B", "-m", "stockpot", *command.words],
            cwd=folder,
            env=self.environment | (self.internet if "collect" in command.words else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )


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


def unsaid(command: Command, code: int, said: str) -> list[str]:
    """Return what is wrong with how a disturbed command ended: it has done its work, or says why not in a line."""
    last = said.strip().splitlines()[-1:]
    well = code == command.code or (
        code in (1, 2, 130) and last and last[0].startswith(("Error: ", "Stopped."))
    )
    return [] if well and "Traceback" not in said else [f"it ended with {code}: {said[-1500:]}"]


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


def ask(address: str, method: str, path: str, body: bytes = b"") -> Any:
    """Ask the web app as its own page does."""
    host = address.removeprefix("http://")
    headers = {"Host": host, "Origin": address, "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection(host, timeout=60)) as line:
        line.request(method, path, body or None, headers)
        return json.loads(line.getresponse().read())


def _done(address: str) -> Any:
    """Wait until the web app does nothing; return what it said of the last thing that it did."""
    while True:
        with closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)) as line:
            line.request("GET", "/api/work")
            event = next((one for one in line.getresponse() if one.startswith(b"data:")), b"data:{}")
            work = json.loads(event.removeprefix(b"data:"))
        if not work["running"]:
            return work
        time.sleep(0.05)


def drive(server: subprocess.Popen[str], folder: Path) -> None:
    """Bring a photo in, set another aside, write notes, train: what is not done yet. Then end the server."""
    assert server.stdout
    address = server.stdout.readline().strip()
    with suppress(
        OSError, http.client.HTTPException, ValueError, KeyError
    ):  # it was killed, or is in trouble
        photo = (folder / "new" / "own.png").read_bytes()
        ask(address, "POST", "/api/collect/photos?label=monocrystalline%20defective&name=own.png", photo)
        state = ask(address, "GET", "/api/review")
        while "waiting" in state and not _done(address)["error"]:
            state = ask(address, "GET", "/api/review")
        aside = min(file.name for file in disk.class_entries(folder / "source"))
        for key in [one["key"] for one in state.get("photos", []) if one["name"] == aside]:
            ask(address, "POST", "/api/review/decisions", json.dumps({"key": key}).encode())
        notes = ask(address, "GET", "/api/finish")
        told = {"text": "## 8\n\nBright is current.\n", "version": notes["version"]}
        if notes["notes"] != told["text"]:
            ask(address, "POST", "/api/finish/notes", json.dumps(told).encode())
        order = {"recipe": "cifar", "name": "again", "changes": {"epochs": 5}}
        ask(address, "POST", "/api/train", json.dumps(order).encode())
        _done(address)
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
