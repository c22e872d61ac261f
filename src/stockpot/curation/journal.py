"""What was taken out of the photos or moved to another class, so that any step can be undone.

A step's lines are written before its files are moved, and a last line when all are. A step that was cut short is
finished by the next one.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot import project as disk
from stockpot.errors import FolderError, WrongUse


@dataclass(frozen=True)
class Move:
    """One file that goes to another place."""

    sha256: str  # of the file; "" where it could not be read
    source: str  # where it is, below the project
    target: str  # where it goes, below the project
    reasons: tuple[str, ...]
    rules: tuple[str, ...]
    by: str  # rule, or hand


class Journal:
    """`curation.jsonl` of a project, and the moves that it tells of."""

    def __init__(self, project: disk.Project) -> None:
        self.project = project
        self.rows: list[dict[str, Any]] = disk.read_lines(project.journal)

    @property
    def standing(self) -> dict[int, list[dict[str, Any]]]:
        """Moves by step, oldest first, without those that were undone."""
        undone = {row["undoes"] for row in self.rows if "undoes" in row}
        steps: dict[int, list[dict[str, Any]]] = {}
        for row in self.rows:
            if "target" in row and row["step"] not in undone:
                steps.setdefault(row["step"], []).append(row)
        return steps

    @property
    def set_aside(self) -> dict[str, dict[str, Any]]:
        """Rows of files that lie in `set-aside/`, by their sha256."""
        rows = (row for moves in self.standing.values() for row in moves)
        return {
            row["sha256"]: row
            for row in rows
            if row["target"].startswith("set-aside/") and self._is_there(row)
        }

    def move(self, moves: Iterable[Move]) -> int:
        """Carry out a step; return its number.

        Raises:
            FolderError: the project cannot be written; what was not moved is moved by the next step.
        """
        self.finish()
        step = 1 + max((row["step"] for row in self.rows), default=0)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write([{"step": step, **vars(move), "time": now} for move in moves])
        self._carry_out(self.rows_of(step))
        self._write([{"step": step, "done": True}])
        return step

    def undo(self, step: int | None = None) -> int:
        """Put back what a step moved, the last one by default; return how many files came back.

        Raises:
            WrongUse: there is no such step that stands.
            FolderError: the project cannot be written.
        """
        self.finish()
        standing = self.standing
        if not standing or (step is not None and step not in standing):
            numbers = ", ".join(map(str, standing)) or "none"
            raise WrongUse(
                f"There is no step {step or ''} to undo; steps that stand: {numbers}.".replace("  ", " ")
            )
        number = max(standing) if step is None else step
        back = [
            row | {"source": row["target"], "target": row["source"]} for row in reversed(standing[number])
        ]
        own = 1 + max(row["step"] for row in self.rows)
        self._write([{"step": own, "undoes": number}])
        returned = self._carry_out(back)
        self._write([{"step": own, "done": True}])
        return returned

    def finish(self) -> None:
        """Carry out what a kill left undone of the last step."""
        if not self.rows or "done" in self.rows[-1]:
            return
        last = self.rows[-1]
        if "undoes" in last:
            moved = self.rows_of(last["undoes"])
            self._carry_out(
                [row | {"source": row["target"], "target": row["source"]} for row in reversed(moved)]
            )
        else:
            self._carry_out(self.rows_of(last["step"]))
        self._write([{"step": last["step"], "done": True}])

    def rows_of(self, step: int) -> list[dict[str, Any]]:
        """Return the moves of a step."""
        return [row for row in self.rows if row["step"] == step and "target" in row]

    def _carry_out(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Move files that are still where they were; return how many."""
        moved = 0
        for row in rows:
            source, target = (self.project.folder / row[end] for end in ("source", "target"))
            if not source.exists() or target.exists():
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
            except OSError as error:
                raise FolderError(f"{source} cannot be moved ({error.strerror}): check rights.") from None
            moved += 1
        return moved

    def _is_there(self, row: Mapping[str, Any]) -> bool:
        return bool((self.project.folder / row["target"]).exists())

    def _write(self, rows: list[dict[str, Any]]) -> None:
        disk.append_lines(self.project.journal, rows)
        self.rows += rows


def free_place(folder: Path, name: str, taken: set[Path]) -> Path:
    """Return a path in a folder that no file has, as near to `name` as possible."""
    plain = Path(name)
    place, number = folder / name, 1
    while place.exists() or place in taken:
        number += 1
        place = folder / f"{plain.stem}-{number}{plain.suffix}"
    taken.add(place)
    return place
