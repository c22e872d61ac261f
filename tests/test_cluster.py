"""Everything here runs as its user runs it: processes of its own, on two nodes of a real cluster."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from stockpot.learning.models import load_model
from stockpot.learning.predictions import columns, row

ROWS, PART = 200, 16
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@contextlib.contextmanager
def node(*arguments: str):
    """A raylet with one processor, stopped at the end."""
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
    command += ["--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats", *arguments]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipe, env={**os.environ, **QUIET}) as process:
        try:
            while "Ray runtime started" not in (line := process.stdout.readline()):
                assert line, "ray start ended"
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def pair(store):
    """The address of a cluster of two nodes, which know the object storage."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets are in it
    head = ("--head", f"--port={address[10:]}", "--include-dashboard=false", f"--temp-dir={folder}")
    with node(*head), node(f"--address={address}"):
        yield address
    shutil.rmtree(folder, ignore_errors=True)
