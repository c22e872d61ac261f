"""How many photos a second a service answers, and how long each waits, beside `predict` on the same files.

    python benchmarks/serving.py MODEL FOLDER [ROUNDS]

A round is offline, then 1, 8 and 32 clients, each of which sends one photo after the other on one connection;
service and clients share this computer. Prints medians over the rounds.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np

from stockpot.learning.models import list_files, load_model

CLIENTS = (1, 8, 32)
OFFLINE = """
import sys, time
from stockpot.learning.models import list_files, load_model
predictor, files = load_model(sys.argv[1]), list_files([sys.argv[2]])
list(predictor.predict(files[:8]))
started = time.perf_counter()
labels = [one.label for one in predictor.predict(files)]
print(len(labels) / (time.perf_counter() - started))
"""


@contextmanager
def served(model: str) -> Iterator[str]:
    """Yield the address of a service in a process of its own."""
    command = [sys.executable, "-m", "stockpot", "serve", model, "--port", "0", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield urlsplit(process.stdout.readline().strip()).netloc
    finally:
        process.terminate()
        process.wait(60)


def ask(address: str, files: list[Path], clients: int) -> tuple[float, list[float], list[str]]:
    """Return photos a second, the seconds that each took, and the labels, of some clients together."""
    waiting = iter(enumerate(files))
    lock = threading.Lock()
    seconds, labels = [0.0] * len(files), [""] * len(files)

    def client() -> None:
        connection = http.client.HTTPConnection(address)
        while True:
            with lock:
                i, file = next(waiting, (-1, None))
            if file is None:
                return
            data = file.read_bytes()
            started = time.perf_counter()
            connection.request("POST", "/predict", data)
            answer = json.loads(connection.getresponse().read())
            seconds[i] = time.perf_counter() - started
            labels[i] = answer["predictions"][0]["label"]

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(files) / (time.perf_counter() - started), seconds, labels


def main(model: str, folder: str, rounds: int = 3) -> None:
    """Run the benchmark."""
    files = list_files([folder])
    said = [one.label for one in load_model(model).predict(files)]
    offline: list[float] = []
    found: dict[int, list[tuple[float, float, float]]] = {clients: [] for clients in CLIENTS}
    with served(model) as address:
        ask(address, files[:16], 8)
        for _ in range(rounds):
            done = subprocess.run(
                [sys.executable, "-c", OFFLINE, model, folder], capture_output=True, text=True, check=True
            )
            offline.append(float(done.stdout))
            for clients in CLIENTS:
                speed, seconds, labels = ask(address, files, clients)
                assert labels == said, "the service says what predict says"
                p50, p99 = np.percentile(seconds, [50, 99])
                found[clients].append((speed, float(p50), float(p99)))
    print(f"{model}, {len(files)} photos, {rounds} rounds; offline {median(offline):.1f} photos a second")
    for clients, rows in found.items():
        speed, p50, p99 = (median(column) for column in zip(*rows, strict=True))
        share = median(row[0] / base for row, base in zip(rows, offline, strict=True))
        print(
            f"{clients:2} clients: {speed:.1f} photos a second, {share:.0%} of offline; "
            f"p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms"
        )


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
