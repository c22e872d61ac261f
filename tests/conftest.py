"""Photos, real and made, and one real trained project for all tests of a session."""

import contextlib
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from standin.engines import THUMBNAILS, Engines, photo, row, thumbnail
from standin.server import Answer, StandIn

from stockpot.curation.curation import curate
from stockpot.learning.pretraining import Pretraining, pretrain
from stockpot.photos.cifar10 import Cifar10, read_cifar10
from stockpot.photos.samples import _files as sample_files
from stockpot.studies import Study, demo, study

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def make_photo() -> Callable[..., Path]:
    """Write a picture of noise that no other seed gives."""

    def make(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return make


@pytest.fixture
def class_folders(tmp_path: Path, make_photo: Callable[..., Path]) -> Path:
    """A folder of two classes with six photos each."""
    for k, label in enumerate(("cat", "dog")):
        for i in range(6):
            make_photo(tmp_path / "source" / label / f"{i}.png", seed=10 * k + i)
    return tmp_path / "source"


@pytest.fixture(scope="session")
def solar(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Solar cells, Xception with its ImageNet weights, a trained head, a report. Read only."""
    return demo(tmp_path_factory.mktemp("solar") / "solar-cells", per_class=12, recipes=["probe"])


@dataclass(frozen=True)
class Lab:
    """A study of all the lab's trainings, and what it said on the way."""

    study: Study
    remarks: tuple[str, ...]


@pytest.fixture(scope="session")
def lab(solar: Study, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Solar cells with all the lab's trainings but that of all layers, and a report. Read only."""
    copy = tmp_path_factory.mktemp("lab") / "solar-cells"
    shutil.copytree(solar.project, copy)
    remarks: list[str] = []

    def listen(stage: str, done: int, total: int) -> None:
        if total == 0:
            remarks.append(stage)

    done = study(copy, recipes=["scratch", "cifar", "tail"], progress=listen)
    return Lab(done, tuple(remarks))


@pytest.fixture(scope="session")
def curated(solar: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solar cells that were looked through once, so that looking again computes no features. Read only."""
    copy = tmp_path_factory.mktemp("curated") / "solar"
    shutil.copytree(solar.project, copy)
    curate(copy)
    return copy


@pytest.fixture(scope="session")
def cells_by_class() -> dict[str, list[Path]]:
    """The demo set's photographs by class, where the package has them."""
    return sample_files()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photos for development."""
    if not SHARED.is_dir():
        pytest.skip(f"the development photos are not there: put them into {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def cifar10(shared: Path) -> Cifar10:
    """The development copy of CIFAR-10, in memory."""
    return read_cifar10(shared / "cifar10")


def losses(project: Path, run: str) -> list[float]:
    """On training and validation photos, epoch by epoch."""
    lines = (project / "runs" / run / "history.jsonl").read_text().splitlines()
    return [json.loads(line)[kind] for line in lines for kind in ("training_loss", "validation_loss")]


def write_rows(path, images: list[bytes], labels: list[int]):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    parquet.write_table(pa.table({"img": rows, "label": labels}), path)


def stripes(label: int, seed: int) -> bytes:
    """A photo whose class is the width of its stripes, at any place, in any colour."""
    chance = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * (np.arange(32) * (label + 1) / 32 + chance.random()))
    pixels = 127 + 60 * wave[None, :, None] * chance.uniform(0.5, 1, 3) + chance.normal(0, 8, (32, 32, 3))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="session")
def striped(tmp_path_factory):
    """600 photos to learn from and 100 to measure on, in CIFAR-10's layout."""
    folder = tmp_path_factory.mktemp("striped")
    for name, count, first in (("train", 600, 0), ("test", 100, 10_000)):
        labels = [i % 10 for i in range(count)]
        write_rows(folder / f"{name}.parquet", [stripes(k, first + i) for i, k in enumerate(labels)], labels)
    return folder


SMALL = Pretraining(width=16, channels=32, epochs=4, batch_size=50, learning_rate=0.1)


@pytest.fixture(scope="session")
def learned(striped, tmp_path_factory):
    """A small network that has learned the stripes undisturbed."""
    output = tmp_path_factory.mktemp("undisturbed") / "stripes.safetensors"
    return pretrain("cifar10", striped, output, SMALL)


@pytest.fixture
def engines():
    """Every query finds 130 photos of its own: two pages."""
    return Engines(lambda query: [row(f"{query} {i}") for i in range(130)])


@pytest.fixture
def internet(tmp_path, engines, monkeypatch):
    """All hosts, reached by the environment alone; afterwards the canary is unharmed."""
    hosts = {
        "duckduckgo.com": engines.duckduckgo,
        "api.openverse.org": engines.openverse,
        THUMBNAILS: thumbnail,
        "photos.example": lambda request: Answer(photo(request.path)),
        "*": lambda request: Answer(b"nobody", 404),
    }
    standin = StandIn(tmp_path, hosts)
    for name, value in standin.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DDGS_PROXY", raising=False)
    for engine in ("duckduckgo", "openverse"):
        monkeypatch.setattr(f"stockpot.collection.{engine}.PAUSE_SECONDS", (0.0, 0.05))
    yield standin
    standin.close()
    assert standin.canary_hits == 0


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def tab():
    """A page of a real browser, which notes what it asks for and what goes wrong in it."""
    if CHROMIUM is None:
        pytest.skip("no browser: install chromium")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        page.requested, page.problems = [], []
        page.on(
            "request", lambda request: request.url.startswith("data:") or page.requested.append(request.url)
        )
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        yield page
        browser.close()


@contextlib.contextmanager
def served(project: Path, port: str = "0"):
    """The command, as a user starts it; killed without warning at the end."""
    command = [sys.executable, "-m", "stockpot", "web", str(project), "--port", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip(), server
        finally:
            server.kill()
