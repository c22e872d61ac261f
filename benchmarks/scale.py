"""`predict` on a Ray cluster of one computer beside plain `predict`: photos a second, as a table.

    python benchmarks/scale.py MODEL PHOTOS [COUNT...]

Names of the photos in a folder are repeated until there are so many. The runs of a count take turns.
"""

import json
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from stockpot.learning.models import list_files


def main(model: str, photos: str, *counts: str) -> None:
    """Print a table with a row a count."""
    files = [str(file.absolute()) for file in list_files([photos])]
    print("| photos | plain `predict` | 1 worker | 2 workers |", "|---|---|---|---|", sep="\n")
    for count in map(int, counts or ("1000", "10000")):
        with tempfile.TemporaryDirectory() as folder:
            names = list(islice(cycle(files), count))
            seconds = [_plain(model, names), *(_cluster(model, names, Path(folder), n) for n in (1, 2))]
        cells = " | ".join(f"{count / each:.0f} a second ({each:.1f} s)" for each in seconds)
        print(f"| {count:,} | {cells} |", flush=True)


def _plain(model: str, names: list[str]) -> float:
    """Return the seconds of one process that opens the model once, start included."""
    code = (
        "import sys; from stockpot.learning.models import predict\n"
        "print(sum(1 for _ in predict(sys.argv[1], sys.stdin.read().splitlines())))"
    )
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, model],
        input="\n".join(names),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def _cluster(model: str, names: list[str], folder: Path, workers: int) -> float:
    """Return the seconds of the command, Ray's start and end included."""
    manifest = folder / "photos.parquet"
    parquet.write_table(pa.table({"uri": names}), manifest)
    command = [sys.executable, "-m", "stockpot", "predict", model, "--on", "local", "--manifest", manifest]
    command += ["--output", folder / f"answers-{workers}", "--workers", str(workers), "--json", "--quiet"]
    started = time.perf_counter()
    said = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["rows"] == len(names)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(*sys.argv[1:])
