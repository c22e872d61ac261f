"""What was taken out of the photos or moved to another class, so that any step can be undone.

Every step, also one that undoes another, is a list of moves. Its lines are written before its files are moved, and
a last line when all are; a step that was cut short is carried out by whoever opens the journal next. No file is
ever overwritten or deleted.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from stockpot import project as disk
from stockpot.curation.findings import COPIES
from stockpot.errors import FolderError, WrongUse
from stockpot.photos.photo import fingerprint


@dataclass(frozen=True)
class Move:
    """One file that goes to another place."""

    sha256: str  # of its bytes
    source_sha256: str  # of the bytes that were received when it came in
    source: str  # where it is, below the project
    target: str  # where it goes, below the project
    reasons: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    suggested: str = ""  # class that a model saw in it
    by: str = "hand"  # rule, or hand


class _Moved(TypedDict):
    """A line of `curation.jsonl` that tells of a move: a `Move`, its step, and what it undoes."""

    sha256: str
    source_sha256: str
    source: str
    target: str
    reasons: list[str]
    rules: list[str]
    suggested: str
    by: str
    step: int
    undoes: NotRequired[int]
    of: NotRequired[str]


class _Done(TypedDict):
    """The last line of a step, with the sources that did not move."""

    step: int
    done: Literal[True]
    failed: NotRequired[list[str]]


class Journal:
    """`curation.jsonl` of a project, and the moves that it tells of."""

    def __init__(self, project: disk.Project) -> None:
        self.project = project
        self.rows: list[dict[str, Any]] = disk.read_lines(project.journal, _Moved | _Done)

    @property
    def standing(self) -> dict[int, list[dict[str, Any]]]:
        """Moves by step, oldest first, without those that were undone."""
        undone = {(row["undoes"], row["of"]) for row in self._moves if "undoes" in row}
        steps: dict[int, list[dict[str, Any]]] = {}
        for row in self._moves:
            if "undoes" not in row and (row["step"], row["target"]) not in undone:
                steps.setdefault(row["step"], []).append(row)
        return steps

    @property
    def set_aside(self) -> list[dict[str, Any]]:
        """Moves of files that lie in `set-aside/` now."""
        rows = {row["target"]: row for moves in self.standing.values() for row in moves}
        return [
            row for name, row in rows.items() if self._is_aside(row) and (self.project.folder / name).exists()
        ]

    @property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """Moves that say something against a photo, not only that it is there twice, by its sha256.

        One that was taken back since is not held against it any more, even if a copy of it still lies there.
        """
        taken_back = {row["sha256"]: row["step"] for row in self._moves if "undoes" in row}
        found = {}
        for row in self.set_aside:
            second_copy = row["by"] == "rule" and "duplicate" in row["rules"]  # the first is what is judged
            says = not row["rules"] or bool(set(row["rules"]) - COPIES)
            if says and not second_copy and row["step"] > taken_back.get(row["sha256"], 0):
                found[row["sha256"]] = row
        return found

    @property
    def _moves(self) -> list[dict[str, Any]]:
        """All moves, oldest first, without those that failed."""
        failed = {(row["step"], name) for row in self.rows for name in row.get("failed", ())}
        return [row for row in self.rows if "target" in row and (row["step"], row["source"]) not in failed]

    def move(self, moves: Iterable[Move]) -> tuple[int, int]:
        """Carry out a step; return its number, and how many files were moved.

        Raises:
            FolderError: some files could not be moved; all others were, and the step can be undone.
        """
        self.finish()
        return self._step([asdict(move) for move in moves])

    def undo(self, step: int | None = None) -> int:
        """Put back what a step moved, the last one by default; return how many files came back.

        A file that somebody took away or changed since stays as it is; where another one has its place by now, it
        comes back under a name beside it.

        Raises:
            WrongUse: there is no such step that stands, or a later one moved its files again.
            FolderError: some files could not be moved back; all others were.
        """
        self.finish()
        standing = self.standing
        if not standing or (step is not None and step not in standing):
            numbers = ", ".join(map(str, standing)) or "none"
            asked = "no step" if step is None else f"no step {step}"
            raise WrongUse(f"There is {asked} to undo; steps that stand: {numbers}.")
        number = max(standing) if step is None else step
        places = {row["target"] for row in standing[number]}
        again = [k for k, rows in standing.items() if k > number and places & {row["source"] for row in rows}]
        if again:
            raise WrongUse(f"Step {again[0]} moved files of step {number} again: undo {again[0]} first.")
        taken: set[str] = set()
        back = []
        for row in reversed(standing[number]):
            there = free_place(self._place(row["source"]), taken).relative_to(self.project.folder)
            own = {
                "source": self._now(row),
                "target": there.as_posix(),
                "undoes": number,
                "of": row["target"],
            }
            back.append(row | own)
        return self._step(back)[1]

    def finish(self) -> int | None:
        """Carry out what a kill left undone of the last step; return the step that it undoes, if it does.

        Raises:
            FolderError: some files could not be moved.
        """
        if not self.rows or "done" in self.rows[-1]:
            return None
        last = self.rows[-1]
        self._carry_out(last["step"])
        return last.get("undoes")

    def _now(self, row: dict[str, Any]) -> str:
        """Return where the file of a move is by now, if it was moved on and came back under another name."""
        name: str = row["target"]
        for later in self._moves:
            if later["step"] > row["step"] and (later["sha256"], later["source"]) == (row["sha256"], name):
                name = later["target"]
        return name

    def _step(self, rows: list[dict[str, Any]]) -> tuple[int, int]:
        """Write down and carry out a step; return its number and how many files were moved."""
        step = 1 + max((row["step"] for row in self.rows), default=0)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write([row | {"step": step, "time": now} for row in rows])
        return step, self._carry_out(step)

    def _carry_out(self, step: int) -> int:
        """Move the files of a step that are still where they were; return how many were moved."""
        moved, failed, passed_over = 0, {}, []
        for row in self.rows:
            if row["step"] != step or "target" not in row:
                continue
            source, target = self._place(row["source"]), self._place(row["target"])
            try:
                if _is(target, row["sha256"]):
                    continue  # moved already
                if target.exists() or not _is(source, row["sha256"]):
                    if "undoes" not in row:  # somebody was quicker: this is not what was meant
                        passed_over.append(row["source"])
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
            except OSError as error:
                failed[row["source"]] = error.strerror
                continue
            moved += 1
            with suppress(OSError):  # a class without photos is none
                source.parent.rmdir()
        left = [*failed, *passed_over]
        self._write([{"step": step, "done": True} | ({"failed": left} if left else {})])
        if failed:
            name, reason = next(iter(failed.items()))
            raise FolderError(
                f"{len(failed)} files could not be moved, {moved} were; the first: {name} ({reason}). "
                f"Check rights and try again."
            )
        return moved

    def _place(self, name: str) -> Path:
        return self.project.inside(name)

    def _is_aside(self, row: dict[str, Any]) -> bool:
        parts = Path(row["target"]).parts
        return parts[:1] == (self.project.set_aside.name,) and ".." not in parts

    def _write(self, rows: list[dict[str, Any]]) -> None:
        disk.append_lines(self.project.journal, rows)
        self.rows += rows


def _is(path: Path, sha256: str) -> bool:
    """Tell whether a file is there and has these bytes."""
    return path.is_file() and fingerprint(disk.read_bytes(path)) == sha256


def free_place(wanted: Path, taken: set[str]) -> Path:
    """Return a path that no file has, as near to `wanted` as possible, and note it as taken."""
    place, number = wanted, 1
    while place.exists() or str(place).lower() in taken:
        number += 1
        place = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    taken.add(str(place).lower())
    return place
