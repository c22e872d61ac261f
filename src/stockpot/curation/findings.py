"""What should perhaps not be among the photos, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.photos.photo import Photo, fingerprint, short_name

BY_PREDICTION = frozenset({"off topic", "wrong label"})  # rules that look at what a model makes of a photo
COPIES = frozenset({"duplicate", "two classes", "near duplicate"})  # rules that do not say which one is wrong


@dataclass(frozen=True)
class Finding:
    """One reason against one file."""

    path: Path
    sha256: str  # of the file
    rule: str  # unreadable, too small, blank, set aside before, duplicate, two classes, near duplicate,
    # off topic or wrong label
    reason: str  # in words
    strength: float  # 0 to 1; the higher, the surer
    certain: bool = False  # needs no person
    suggested: str = ""  # another class that it may belong to

    @property
    def identifier(self) -> str:
        """The file as a command names it: eight hexadecimal digits of its place and bytes."""
        return identify(self.path, self.sha256)

    @property
    def name(self) -> str:
        """Class and file name."""
        return short_name(self.path)

    @property
    def action(self) -> str:
        """What is proposed: move to another class, or set aside."""
        return f"move to {self.suggested}" if self.suggested else "set aside"


def identify(path: Path, sha256: str) -> str:
    """Return what a command calls a file; another file, or other bytes in its place, are called otherwise."""
    return fingerprint(f"{short_name(path)}\0{sha256}".encode("utf-8", "surrogatepass"))[:8]


def keep_findings(project: disk.Project, findings: Sequence[Finding]) -> None:
    """Write down what there is against photos, for the report.

    Raises:
        FolderError: the project cannot be written.
    """
    rows = [
        {"sha256": one.sha256, "label": one.path.parent.name, "rule": one.rule, "reason": one.reason}
        for one in findings
    ]
    disk.write_json(project.findings, rows)


def read_reasons(project: disk.Project, photo: Photo) -> list[str]:
    """Return what a model had against a photo in its class when curation last looked; nothing if it never did."""
    try:
        rows = disk.read_json(project.findings) or []
        return [
            str(row["reason"])
            for row in rows
            if (row["sha256"], row["label"]) == (photo.sha256, photo.label) and row["rule"] in BY_PREDICTION
        ]
    except (ProjectError, TypeError, KeyError):  # damaged, or of another version: looking again is cheap
        return []
