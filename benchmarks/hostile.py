"""Feed what an enemy could send to every entrance, and count: taken, refused in one line, or a failure.

    python benchmarks/hostile.py [--count 10000] [--seed 0] [--entrance NAME] [--only NUMBER] [--json]

Each entrance is a process with a limit on its memory; an input that takes longer than `SECONDS` ends it and is a
failure; the next ones go on. What is written, renamed, deleted, started or connected to outside the project is a
failure too: Python's audit events tell, and a listing of everything else before and after. Linux only.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

SECONDS = 20.0  # that an input may take
MEGABYTES = 2048  # of address space that an entrance may take on top of what it has when it begins
SHARES = {"photo": 0.36, "folder": 0.06, "journal": 0.12, "run": 0.1, "model": 0.1, "checkpoint": 0.04}
SHARES |= {"weights": 0.03, "manifest": 0.04, "list": 0.02, "engine": 0.02, "service": 0.04, "web": 0.05}
SHARES |= {"download": 0.02}
_STAYS = ("project", "tmp", "cache")  # folders of the sandbox that may change
_CHANGES = {
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
}
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"}


@dataclass
class Counted:
    """What came of an entrance's inputs."""

    inputs: int = 0
    taken: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)  # each with what makes it again
    kinds: dict[str, int] = field(default_factory=dict)  # inputs by the first word of their kind
    seconds: float = 0.0  # of all inputs
    longest: tuple[float, str] = (0.0, "")  # seconds of an input, and its kind
    begins: float = 0.0  # MB of memory before the first input
    most: tuple[float, str] = (0.0, "")  # MB of memory while an input was taken, and its kind


def run(count: int, seed: int, entrances: tuple[str, ...] = tuple(SHARES)) -> dict[str, Counted]:
    """Feed so many inputs in all to some entrances, one entrance after another."""
    total = sum(SHARES[name] for name in entrances)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        return {
            name: feed(name, max(1, round(count * SHARES[name] / total)), seed, Path(folder) / name)
            for name in entrances
        }


def feed(entrance: str, count: int, seed: int, sandbox: Path, first: int = 0) -> Counted:
    """Feed `count` inputs to an entrance, in as many processes as it takes; look at all that it must not touch."""
    for name in (*_STAYS, "outside", "source"):
        (sandbox / name).mkdir(parents=True)
    (sandbox / "outside" / "secret.txt").write_text("SECRET-9f2c")
    before, counted = listing(sandbox), Counted()
    end = first + count
    while first < end:
        first = _one_process(entrance, first, end, seed, sandbox, counted)
    if changed := sorted(set(listing(sandbox).items()) ^ set(before.items())):
        counted.failures.append(f"{entrance}: outside the project changed: {changed}")
    return counted


def listing(sandbox: Path) -> dict[str, str]:
    """Return what is in a sandbox and may not change: every path with the hash of what is there."""
    found = {}
    for path in sorted(sandbox.rglob("*")):
        name = path.relative_to(sandbox).as_posix()
        if name.partition("/")[0] not in (*_STAYS, "source"):
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[name] = f"{path.lstat().st_mode} {hashlib.sha256(data).hexdigest()}"
    return found


def _one_process(entrance: str, first: int, end: int, seed: int, sandbox: Path, counted: Counted) -> int:
    """Feed inputs to one process until it ends; return the number of the next input."""
    command = [sys.executable, __file__, "--child", str(sandbox), "--entrance", entrance, "--seed", str(seed)]
    environment = os.environ | {"TMPDIR": str(sandbox / "tmp"), "XDG_CACHE_HOME": str(sandbox / "cache")}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(sandbox / "cache" / "torch")}
    environment |= {"HOME": str(sandbox / "tmp"), "HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": ""}
    log = sandbox.with_name(f"{entrance}.log")
    with log.open("a") as errors, subprocess.Popen(
        [*command, "--first", str(first), "--count", str(end - first)],
        bufsize=0, stdout=subprocess.PIPE, stderr=errors, env=environment,
    ) as process:  # fmt: skip
        number, patience, kind = first, 180.0, "its start"
        assert process.stdout
        while select.select([process.stdout], [], [], patience)[0] and (line := process.stdout.readline()):
            told = json.loads(line)
            if "kind" in told:
                patience, kind = SECONDS, told["kind"]
            else:
                _count(counted, entrance, number, seed, kind, told)
                number, patience, kind = number + ("outcome" in told), 180.0, "between inputs"
        process.kill()
    if number < end:
        again = f"--entrance {entrance} --seed {seed} --only {number}"
        why = f"ended with {process.wait()}" if kind != "its start" else log.read_text()[-3000:]
        counted.failures.append(f"{again} ({kind}): took more than {SECONDS:g} s, or {why}")
        counted.inputs += 1
        return number + 1 if kind != "its start" else end
    return number


def _count(counted: Counted, entrance: str, number: int, seed: int, kind: str, told: dict[str, Any]) -> None:
    if "outcome" not in told:
        counted.begins = told["begins"]
        return
    counted.inputs += 1
    counted.taken += told["outcome"] == "taken"
    counted.refused += told["outcome"] == "refused"
    if told["outcome"] not in ("taken", "refused"):
        again = f"--entrance {entrance} --seed {seed} --only {number}"
        counted.failures.append(f"{again} ({kind}): {told['outcome']}")
    word = kind.partition(" ")[0]
    counted.kinds[word] = counted.kinds.get(word, 0) + 1
    counted.seconds += told["seconds"]
    counted.longest = max(counted.longest, (told["seconds"], kind))
    counted.most = max(counted.most, (told["megabytes"], kind))


def child(entrance: str, sandbox: Path, first: int, count: int, seed: int) -> None:
    """Feed inputs to an entrance, and say of each on stdout, before and after, what it is and what came of it."""
    import hostile_entrances
    import hostile_network

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    entrances = hostile_entrances.ENTRANCES | hostile_network.ENTRANCES
    inputs = entrances[entrance](sandbox, random.Random(f"{seed} {entrance}"))
    next(inputs)  # prepares
    resource.setrlimit(resource.RLIMIT_AS, (_in_use() + MEGABYTES * 2**20,) * 2)
    peak = os.open("/proc/self/clear_refs", os.O_WRONLY)
    breaches = watched(sandbox)
    print(json.dumps({"begins": _peak()}), file=out)
    for kind, take in islice(inputs, first, first + count):
        print(json.dumps({"kind": kind}), file=out)
        os.pwrite(peak, b"5", 0)  # forgets it
        started = time.perf_counter()
        outcome = outcome_of(take)
        seconds = time.perf_counter() - started
        if breaches:
            outcome = f"touched {breaches[:3]}"
            breaches.clear()
        print(json.dumps({"outcome": outcome, "seconds": seconds, "megabytes": _peak()}), file=out)
    out.flush()
    os._exit(0)  # servers and their threads end with it


def outcome_of(take: Any) -> str:
    """Return `taken`, `refused`, or what went wrong."""
    from stockpot.errors import StockpotError

    try:
        return take() or "taken"
    except StockpotError as error:
        return (
            "refused"
            if str(error) and len(str(error)) < 100_000
            else f"says nothing useful: {str(error)[:99]!r}"
        )
    except BaseException as error:  # noqa: BLE001 - whatever else there is, is a failure
        trace, last = error.__traceback__, ""
        while trace:
            if "stockpot" in trace.tb_frame.f_code.co_filename:
                last = f"{trace.tb_frame.f_code.co_filename.rpartition('stockpot/')[2]}:{trace.tb_lineno}"
            trace = trace.tb_next
        return f"{type(error).__name__} at {last}: {str(error)[:200]}"


def watched(sandbox: Path) -> list[str]:
    """Return a list of what is changed, started or reached outside the project from now on."""
    breaches: list[str] = []
    rooms = [sandbox.resolve() / name for name in (*_STAYS, "source")]
    allowed = (*map(str, rooms), "/dev/null", "/dev/shm", "/dev/tty", "/proc/self/task")

    def hook(event: str, said: tuple[Any, ...]) -> None:
        if event in _STARTS:
            breaches.append(f"{event} {said[:2]}")
        elif event == "socket.connect" and str(said[1][0]) not in ("127.0.0.1", "::1"):
            breaches.append(f"{event} {said[1]}")
        elif event == "open" and not isinstance(said[0], int):
            if _writes(*said[1:]):
                look(event, Path(os.fsdecode(said[0])).resolve())
        elif event in _CHANGES:
            twice = event in ("os.rename", "os.link")
            folders = said[2:4] if twice else said[-1:]
            names = said[1:2] if event == "os.symlink" else said[: 1 + twice]
            for path, folder in zip(names, folders, strict=True):
                beside = Path(f"/proc/self/fd/{folder}") if folder != -1 else Path()
                place = beside / os.fsdecode(path)
                look(event, place.parent.resolve() / place.name)  # a link is changed, not what it leads to

    def look(event: str, place: Path) -> None:
        if not f"{place}".startswith(allowed):
            breaches.append(f"{event} {place}")

    sys.addaudithook(hook)
    return breaches


def _writes(mode: Any, flags: Any) -> bool:
    return bool(set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR))


def _in_use() -> int:
    """Return how many bytes of address space this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _peak() -> float:
    """Return the MB of memory that this process had at most since that was last forgotten."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Run, and print a table or JSON; exit with 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--entrance", choices=SHARES)
    parser.add_argument("--only", type=int, help="the number of a single input")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.child:
        child(said.entrance, said.child, said.first, said.count, said.seed)
    if said.only is not None:
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            found = {said.entrance: feed(said.entrance, 1, said.seed, Path(folder) / "one", said.only)}
    else:
        found = run(said.count, said.seed, (said.entrance,) if said.entrance else tuple(SHARES))
    if said.json:
        print(json.dumps({name: asdict(one) for name, one in found.items()}, indent=1))
    else:
        print(table(found))
    sys.exit(any(one.failures for one in found.values()))


def table(found: dict[str, Counted]) -> str:
    """Return what came of all entrances as a table, and every failure."""
    lines = ["| entrance | inputs | taken | refused | failed | longest | memory before, and at most |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        figures = f"{one.inputs:,} | {one.taken:,} | {one.refused:,} | {len(one.failures)}"
        longest = f"{one.longest[0]:.1f} s ({one.longest[1]})"
        lines.append(
            f"| {name} | {figures} | {longest} | {one.begins:.0f}, {one.most[0]:.0f} MB ({one.most[1]}) |"
        )
    lines.append(f"{sum(one.inputs for one in found.values()):,} inputs")
    return "\n".join([*lines, *(failure for one in found.values() for failure in one.failures)])


if __name__ == "__main__":
    main()
