"""Ways of working, each in a process and an environment of its own, so that they can take turns."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KERAS = ("tensorflow-cpu==2.21.0", "keras==3.15.1", "pillow")
FASTAI = ("fastai==2.8.12", "grad-cam==1.5.5")


class Way:
    """One way of working, as `worker.serve` answers for it."""

    def __init__(self, python: Path, name: str, log: Path) -> None:
        self.log = log
        with log.open("w") as messages:
            self.process = subprocess.Popen(
                [python, HERE / f"{name}.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
            )

    def __call__(self, task: str, **arguments: object) -> dict[str, Any]:
        """Return the figures of a task."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{task} failed: see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def environment(folder: Path, packages: tuple[str, ...], ours_too: bool = False) -> Path:
    """Return the interpreter of an environment with some packages, made now if it is not there."""
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists() or ready.read_text() != "\n".join(packages):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        if ours_too:
            here = next(path for path in sys.path if path.endswith("site-packages"))
            there = next(folder.glob("lib/*/site-packages"))
            (there / "ours.pth").write_text(f"{here}\n")
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, stdout=sys.stderr)
        ready.write_text("\n".join(packages))
    return python
