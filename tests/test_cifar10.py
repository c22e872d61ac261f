import functools
import http.server
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_rows
from PIL import Image
from pyarrow import parquet

from stockpot.errors import PhotoError
from stockpot.photos.cifar10 import CLASS_NAMES, read_cifar10


def image(colour: int, format_: str = "PNG", size: int = 32) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), (colour, 10, 20)).save(out, format_)
    return out.getvalue()


@pytest.fixture
def hub_layout(tmp_path):
    """Files named as on the hub; the training photos in two of them."""
    folder = tmp_path / "plain_text"
    write_rows(folder / "train-00000-of-00002.parquet", [image(1), image(2)], [3, 9])
    write_rows(folder / "train-00001-of-00002.parquet", [image(3)], [0])
    write_rows(folder / "test-00000-of-00001.parquet", [image(200)], [5])
    return tmp_path


def test_photos_and_labels_are_read_in_order(hub_layout):
    """Every file of a side, by name; pixels as they were stored."""
    data = read_cifar10(hub_layout)
    assert data.training.pixels.shape == (3, 32, 32, 3)
    assert data.training.pixels[:, 5, 5, 0].tolist() == [1, 2, 3]
    assert data.training.labels.tolist() == [3, 9, 0]
    assert data.test.pixels[0, 0, 0].tolist() == [200, 10, 20]
    assert data.name == "CIFAR-10"


def test_the_fingerprint_follows_the_files(hub_layout):
    """One other photo is another data set."""
    before = read_cifar10(hub_layout).fingerprint
    write_rows(hub_layout / "plain_text" / "train-00001-of-00002.parquet", [image(4)], [0])
    assert read_cifar10(hub_layout).fingerprint != before


def test_a_lossy_copy_says_so(hub_layout):
    """Figures of a JPEG copy are not figures of CIFAR-10."""
    write_rows(hub_layout / "plain_text" / "test-00000-of-00001.parquet", [image(9, "JPEG")], [5])
    assert read_cifar10(hub_layout).name == "CIFAR-10, JPEG copy"


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([b"no image"], [1], "not an image"),
        ([image(1, size=64)], [1], "64 x 64, not 32 x 32"),
        ([image(1)], [10], "a label 10"),
        ([], [], "no rows"),
    ],
)
def test_what_is_not_cifar10_is_refused(hub_layout, images, labels, words):
    """Another data set in the same layout is named, not trained on."""
    path = hub_layout / "plain_text" / "test-00000-of-00001.parquet"
    table = pa.table(
        {
            "img": pa.array(
                [{"bytes": data, "path": ""} for data in images],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            "label": pa.array(labels, pa.int64()),
        }
    )
    parquet.write_table(table, path)
    with pytest.raises(PhotoError, match=words):
        read_cifar10(hub_layout)


def test_damaged_or_missing_files_are_a_sentence(hub_layout):
    """A file cut short, other columns, no file at all."""
    path = hub_layout / "plain_text" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PhotoError, match="cannot be read"):
        read_cifar10(hub_layout)
    parquet.write_table(pa.table({"image": [1], "label": [1]}), path)
    with pytest.raises(PhotoError, match="cannot be read"):
        read_cifar10(hub_layout)
    path.unlink()
    with pytest.raises(PhotoError, match=r"has no test\*\.parquet"):
        read_cifar10(hub_layout)
    with pytest.raises(PhotoError, match=r"has no train\*\.parquet"):
        read_cifar10(hub_layout / "nothing")


class _Hub(http.server.SimpleHTTPRequestHandler):
    """What the hub answers for one data set: its list of files, and the files by commit."""

    commit = "0" * 39 + "1"

    def do_GET(self):
        api, files = "/api/datasets/uoft-cs/cifar10", f"/datasets/uoft-cs/cifar10/resolve/{self.commit}/"
        root = Path(self.directory)
        if self.path.startswith(f"{api}/tree/"):
            names = sorted(path for path in root.rglob("*.parquet"))
            rows = [
                {
                    "type": "file",
                    "path": path.relative_to(root).as_posix(),
                    "size": path.stat().st_size,
                    "oid": "1",
                }
                for path in names
            ]
            self.answer(json.dumps(rows).encode())
        elif self.path.startswith(api):
            self.answer(json.dumps({"id": "uoft-cs/cifar10", "sha": self.commit, "siblings": []}).encode())
        elif self.path.startswith(files):
            self.answer((root / self.path.removeprefix(files)).read_bytes())
        else:
            self.send_error(404)

    def do_HEAD(self):
        self.do_GET()

    def answer(self, data: bytes):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(data):x}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(hub_layout):
    """A hub that has CIFAR-10, for the real client."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Hub, directory=str(hub_layout))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def read_from(endpoint: str, home) -> subprocess.CompletedProcess[str]:
    """Read from the hub in a process of its own: the client looks at its environment once."""
    code = (
        "from stockpot.photos.cifar10 import read_cifar10\n"
        "from stockpot.errors import StockpotError\n"
        "try: print(read_cifar10('hub').training.labels.tolist())\n"
        "except StockpotError as error: print(error)"
    )
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "no_proxy": "127.0.0.1"}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_the_hub_is_asked_once(hub, tmp_path, monkeypatch):
    """The real client downloads the Parquet files; afterwards its cache is enough."""
    first = read_from(hub, tmp_path / "home")
    assert first.stdout == "[3, 9, 0]\n", first.stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = read_from("http://127.0.0.1:9", tmp_path / "home")
    assert again.stdout == "[3, 9, 0]\n", again.stderr


def test_without_the_hub_the_remedy_is_named(tmp_path, monkeypatch):
    """One line, and the option that needs no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    answer = read_from("http://127.0.0.1:9", tmp_path / "home")
    assert answer.stdout.count("\n") == 1
    assert "cannot be downloaded" in answer.stdout and "--data FOLDER" in answer.stdout


def test_the_development_copy_is_whole(cifar10):
    """60,000 photos, evenly spread over ten classes; a JPEG copy."""
    assert cifar10.name == "CIFAR-10, JPEG copy"
    assert np.bincount(cifar10.training.labels).tolist() == [5000] * len(CLASS_NAMES)
    assert np.bincount(cifar10.test.labels).tolist() == [1000] * len(CLASS_NAMES)
