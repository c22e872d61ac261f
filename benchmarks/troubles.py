"""The real commands in trouble: full disk, no rights, files that go or change, a clock set back, two at once.

    python benchmarks/troubles.py [TROUBLE...] [--commands COMMAND...] [--json]

Each trouble ends in one of two ways: the command does its work all the same, or it says in one line what is wrong.
Then the trouble is over and the same command is given again. `problems` are looked for in between and at the end,
and whether the end is that of a run without trouble, where the trouble has not changed what there is to do. What
caches hold for a photo must be the same in all runs.

Needs Linux, root (for small disks: tmpfs), and the Debian packages strace and faketime.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cases import (
    COMMANDS,
    Bench,
    Command,
    bench_in,
    digest,
    files_below,
    lasting,
    photos_of,
    problems,
    results,
    unsaid,
)

from stockpot import project as disk

PLENTY = "64m"  # of a disk
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGTRAP, 127}  # 127: of the C library
YEAR_BACK = "-400d"
TWO = ("curate", "split", "train", "publish", "collect --from")


@dataclass
class Came:
    """What came of one trouble for one command."""

    trouble: str
    command: str
    tried: int = 0
    told: int = 0  # that ended with a sentence, not with the work done
    sentences: set[str] = field(default_factory=set)
    crashed: int = 0  # that native code ended: where memory ran out
    lost: list[str] = field(default_factory=list)
    differ: set[str] = field(default_factory=set)  # files that differ from an undisturbed run's


class Ground:
    """A bench, and what caches have been seen to hold."""

    def __init__(self, bench: Bench, tries: int) -> None:
        self.bench, self.tries = bench, tries
        self.known: dict[tuple[str, str], bytes] = {}

    def poisoned(self, folder: Path) -> list[str]:
        """Return photos whose features are not those of other runs."""
        rows = cached(folder / "food")
        wrong = [
            f"features of {name[1][:12]} differ"
            for name in rows
            if self.known.get(name, rows[name]) != rows[name]
        ]
        self.known = rows | self.known
        return wrong

    def judge(
        self,
        came: Came,
        folder: Path,
        do: Callable[[], tuple[int, str] | None],
        same: bool = True,
        touched: Path | None = None,
    ) -> None:
        """Let a command get into trouble and, when that is over, go on; note what came of it.

        Args:
            came: is added to.
            folder: where it works.
            do: runs it in trouble, and ends the trouble; None: it did not come to that.
            same: the end must be that of a run without trouble.
            touched: a file that the trouble takes away or changes.
        """
        command, undisturbed = COMMANDS[came.command], self.bench.undisturbed(came.command)
        assert not self.poisoned(self.bench.folder / "undisturbed")
        photos, before = photos_of(folder), lasting(folder)
        if touched:
            photos.pop(digest(touched), None)
            before.pop(str(touched), None)
        ended = do()
        if ended is None:
            return
        came.tried += 1
        where = f"{came.tried}: "
        for again in (False, True):
            code, said = self.bench.run(command, folder) if again else ended
            crashed = code in CRASHES and came.trouble == "little memory"
            came.crashed += crashed
            came.lost += [where + one for one in problems(folder, photos, before) + self.poisoned(folder)]
            came.lost += [where + one for one in ([] if crashed else unsaid(command, code, said))]
            if code > 0 and code != command.code and not again:
                came.told += 1
                came.sentences |= {shape_of(said, folder)}
            done = code == command.code or "holds something already" in said  # `publish` was done before
            if same and again and not done:
                came.lost.append(f"{where}it cannot go on: {said[-500:]}")
            if same and done and (again or not command.drive):  # what is said to be done is done
                now = results(folder)
                came.differ |= {name for name in now | undisturbed if now.get(name) != undisturbed.get(name)}


def cached(project: Path) -> dict[tuple[str, str], bytes]:
    """Return features and maps of every photo, by backbone and sha256."""
    rows: dict[tuple[str, str], bytes] = {}
    for index in project.glob("cache/features/*/index.jsonl"):
        first, *rest = disk.read_lines(index) or [{"shape": [1, 1, 1]}]
        channels, height, width = first["shape"]
        for file, size in (("features.f32", 4 * channels), ("maps.f16", 2 * channels * height * width)):
            data = b""
            with suppress(FileNotFoundError):
                data = (index.parent / file).read_bytes()
            for i, row in enumerate(rest[: len(data) // size]):
                rows[f"{index.parent.name}/{file}", row["sha256"]] = data[i * size : (i + 1) * size]
    return rows


def shape_of(said: str, folder: Path) -> str:
    """Return the last line that was said, without places and numbers."""
    last = (said.strip().splitlines() or ["nothing"])[-1].replace(str(folder), "FOLDER")
    return re.sub(r"\d+", "0", re.sub(r"\.[0-9a-f]{16}", ".TMP", last))[:200]


@contextmanager
def small_disk(bench: Bench) -> Iterator[Path]:
    """Yield a folder on a disk of its own, which can be made larger, smaller and read-only."""
    place = bench.folder / "disk"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, *options: str) -> None:
    """Change a small disk."""
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), place], check=True)


def used(place: Path) -> int:
    """Return how many bytes of a disk are used."""
    status = os.statvfs(place)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def full_disk(ground: Ground, name: str) -> Came:
    """Let a disk be full at different moments of a command; then there is space again."""
    came, command = Came("full disk", name), COMMANDS[name]
    with small_disk(ground.bench) as place:
        folder = ground.bench.copy(command.needs, "disk/copy")
        start = used(place)
        ground.bench.run(command, folder)
        needed = used(place) - start
        for free in np.linspace(0, needed, ground.tries, endpoint=False).astype(int).tolist():
            ground.bench.copy(command.needs, "disk/copy")

            def do(free: int = free) -> tuple[int, str]:
                remount(place, f"size={max(used(place) + free, 4096)}")
                try:
                    return ground.bench.run(command, folder)
                finally:
                    remount(place, f"size={PLENTY}")

            ground.judge(came, folder, do)
    return came


def file_limit(ground: Ground, name: str) -> Came:
    """Let no file grow beyond a size: RLIMIT_FSIZE, as on shared computers."""
    came, command = Came("file size limit", name), COMMANDS[name]
    folder = ground.bench.copy(command.needs, "copy")
    there = {name: path.stat().st_size for name, path in files_below(folder).items()}
    ground.bench.run(command, folder)
    now = {name: path.stat().st_size for name, path in files_below(folder).items()}
    sizes = sorted({size for name, size in now.items() if size and there.get(name) != size})
    for size in [sizes[i] for i in np.linspace(0, len(sizes) - 1, min(ground.tries, len(sizes))).astype(int)]:
        ground.bench.copy(command.needs, "copy")
        words = ["prlimit", f"--fsize={size - 1}"]
        ground.judge(came, folder, lambda words=words: ground.bench.run(command, folder, words))
    return came


def read_only(ground: Ground, name: str) -> Came:
    """Let nothing be written: a disk that may only be read; then folders without the right to write."""
    came, command = Came("read-only", name), COMMANDS[name]
    with small_disk(ground.bench) as place:
        folder = ground.bench.copy(command.needs, "disk/copy")

        def on_a_disk_for_reading() -> tuple[int, str]:
            remount(place, "ro")
            try:
                return ground.bench.run(command, folder)
            finally:
                remount(place, "rw")

        ground.judge(came, folder, on_a_disk_for_reading)
        ground.bench.copy(command.needs, "disk/copy")
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]

        def without_rights() -> tuple[int, str]:
            for each in folders:
                each.chmod(0o555)
            try:  # root obeys rights like everybody without this
                return ground.bench.run(command, folder, ["setpriv", "--bounding-set=-dac_override"])
            finally:
                for each in folders:
                    each.chmod(0o755)

        ground.judge(came, folder, without_rights)
    return came


def stopped(bench: Bench, command: Command, folder: Path, call: str, path: Path | None, when: int) -> Any:
    """Start a command, and return it when it stops after a system call, or None if it never does."""
    trace = bench.folder / "trace"
    trace.write_text("")
    line = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}"]
    paths = (
        [path, path.relative_to(folder)] if path else []
    )  # strace knows a file by the words it is opened with
    line += [word for one in paths for word in ("-P", str(one))]
    line += ["-e", f"inject={call}:signal=SIGSTOP:when={when}"]
    process = bench.begin(command, folder, line)
    while "stopped by SIGSTOP" not in trace.read_text(errors="replace"):
        if process.poll() is not None:
            process.communicate()
            return None
        time.sleep(0.01)
    return process


def go_on(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Let a stopped command go on to its end."""
    (child,) = psutil.Process(process.pid).children()
    while True:
        with suppress(psutil.NoSuchProcess):
            child.resume()  # again and again: a thread may stop only after the first time
        with suppress(subprocess.TimeoutExpired):
            said = "".join(process.communicate(timeout=0.2))
            return process.returncode, said


def vanishing(ground: Ground, name: str) -> Came:
    """Let each file that a command opens be deleted after it was looked at, or opened, for the first time."""
    return _at_openings(ground, Came("a file goes", name), lambda path: path.unlink(missing_ok=True))


def changing(ground: Ground, name: str) -> Came:
    """Let each photo that a command opens become another one after it was looked at, or while it is open."""

    def change(path: Path) -> None:
        others = sorted(file for file in path.parent.iterdir() if file != path and file.suffix == path.suffix)
        if others:
            path.write_bytes(others[0].read_bytes() + path.name.encode())  # decoders stop at a picture's end

    return _at_openings(ground, Came("a photo changes", name), change, r"\.(png|jpg)$")


def _at_openings(ground: Ground, came: Came, disturb: Callable[[Path], None], which: str = "") -> Came:
    command = COMMANDS[came.command]
    if command.drive:
        return came
    folder = ground.bench.copy(command.needs, "copy")
    there, trace = files_below(folder), ground.bench.folder / "trace"
    ground.bench.run(command, folder, ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=openat"])
    opened = set(re.findall(r'openat\(.*?"([^"]+)"', trace.read_text(errors="replace")))
    kinds = {
        re.sub(r"[^/]+\.(png|jpg)$", "PHOTO", name): path  # of all photos of a class one is enough
        for name, path in sorted(there.items())
        if re.search(which, name) and opened & {name, str(path)}
    }
    for path in kinds.values():
        for call in ("newfstatat", "openat"):
            ground.bench.copy(command.needs, "copy")

            def do(path: Path = path, call: str = call) -> tuple[int, str] | None:
                process = stopped(ground.bench, command, folder, call, path, 1)
                if process is None:
                    return None
                disturb(path)
                return go_on(process)

            ground.judge(came, folder, do, same=False, touched=path)
    return came


def faketime() -> Path | None:
    """Return the library that lets a process see another clock, where it is installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def clock_back(ground: Ground, name: str) -> Came:
    """Set the clock back 400 days before a command, and in the middle of it, at each of its first renames."""
    came, command = Came("clock set back", name), COMMANDS[name]
    clock = ground.bench.folder / "clock"
    ours = ground.bench.environment
    fake = {"LD_PRELOAD": str(faketime()), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    fake |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    clock.write_text(YEAR_BACK)
    there = subprocess.run(["date", "+%s"], env=ours | fake, capture_output=True, check=True).stdout
    assert float(there) < time.time() - 300 * 86400, "no other clock: install the Debian package faketime"
    for when in range(ground.tries):
        folder = ground.bench.copy(command.needs, "copy")

        def do(when: int = when, folder: Path = folder) -> tuple[int, str] | None:
            clock.write_text("+0" if when else YEAR_BACK)
            ground.bench.environment = ours | fake
            try:
                if not when or command.drive:
                    return ground.bench.run(command, folder)
                process = stopped(ground.bench, command, folder, "rename", None, when)
                clock.write_text(YEAR_BACK)
                return go_on(process) if process else None
            finally:
                ground.bench.environment = ours

        ground.judge(came, folder, do)
        if command.drive:
            break
    return came


def two_at_once(ground: Ground, name: str) -> Came:
    """Start a command twice at once, and beside each of the others that write to a project that is there."""
    came, command = Came("two at once", name), COMMANDS[name]
    for other in (name, *(one for one in TWO if one != name and name in TWO)):
        both = COMMANDS[other]
        folder = ground.bench.copy("dirty" if name in TWO else command.needs, "copy")

        def do(both: Command = both, folder: Path = folder) -> tuple[int, str]:
            second = ground.bench.begin(both, folder)
            code, said = ground.bench.run(command, folder)
            heard = "".join(second.communicate(timeout=600))
            came.lost += [
                f"{both.words[0]} beside it: {one}" for one in unsaid(both, second.returncode, heard)
            ]
            return code, said

        if not command.drive:
            ground.judge(came, folder, do, same=name not in TWO)
    return came


def little_memory(ground: Ground, name: str) -> Came:
    """Let a command have little memory: RLIMIT_DATA, from 300 MB on, with which scipy can still be imported."""
    came, command = Came("little memory", name), COMMANDS[name]
    for megabytes in np.geomspace(300, 2000, ground.tries).astype(int).tolist():
        folder = ground.bench.copy(command.needs, "copy")
        words = ["prlimit", f"--data={megabytes * 2**20}"]
        ground.judge(
            came, folder, lambda words=words, folder=folder: ground.bench.run(command, folder, words)
        )
    return came


TROUBLES: dict[str, Callable[[Ground, str], Came]] = {
    "full-disk": full_disk,
    "file-limit": file_limit,
    "read-only": read_only,
    "vanishing": vanishing,
    "changing": changing,
    "clock-back": clock_back,
    "two-at-once": two_at_once,
    "little-memory": little_memory,
}


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser()
    options.add_argument("troubles", nargs="*", metavar="TROUBLE", help=", ".join(TROUBLES))
    options.add_argument("--commands", nargs="*", default=list(COMMANDS))
    options.add_argument("--tries", type=int, default=8, help="of each trouble, at most")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it would be ignored
    if not asked.json:
        print("| trouble | command | tried | told in a sentence | crashed | lost | differ |")
        print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, bench_in(Path(folder)) as bench:
        ground = Ground(bench, asked.tries)
        for trouble in asked.troubles or TROUBLES:
            for name in asked.commands:
                print(told(TROUBLES[trouble](ground, name), asked.json), flush=True)


def told(came: Came, as_json: bool) -> str:
    """Return a row of the table, or a line of JSON."""
    if as_json:
        return json.dumps(vars(came), default=sorted)
    lost, differ = ("; ".join(each) or "0" for each in (came.lost, sorted(came.differ)))
    return f"| {came.trouble} | {came.command} | {came.tried} | {came.told} | {came.crashed} | {lost} | {differ} |"


if __name__ == "__main__":
    main()
