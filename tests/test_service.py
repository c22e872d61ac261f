import asyncio
import contextlib
import gzip
import http.client
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request

from stockpot.errors import WrongUse
from stockpot.explanation.explanation import explain
from stockpot.learning.models import load_model, predict
from stockpot.publishing import listening
from stockpot.publishing import service as module
from stockpot.publishing.batching import Batcher
from stockpot.publishing.bodies import Room
from stockpot.publishing.service import Limits, create_app, serve

MOST = 2  # megabytes of a request
SECONDS = 3


@contextlib.contextmanager
def process_of(model: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service as one starts it, and its address."""
    command = [sys.executable, "-m", "stockpot", "serve", str(model), "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout
        try:
            yield process, urlsplit(process.stdout.readline().strip()).netloc
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()
            log.seek(0)
            said = log.read()
            assert "Traceback" not in said and len(said) < 10_000, said[:10_000]


@pytest.fixture(scope="module")
def service(lab):
    """One with small limits, for all tests here: whatever a test does, the next must still be answered."""
    run = next(run for run in lab.study.runs if run.name == "cifar")
    with process_of(run.folder, "--megabytes", str(MOST), "--seconds", str(SECONDS)) as (process, address):
        yield run, address, process.pid
        assert process.poll() is None, "it is still there after all of this"


@pytest.fixture
def photo(lab) -> Path:
    return lab.study.split.validation[0].path


def ask(
    address: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def form(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    parts = b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files
    )
    return parts + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def refusal(address: str, method: str, path: str, *arguments) -> tuple[int, str]:
    """Return status and the one line of an answer that says no."""
    status, body, _ = ask(address, method, path, *arguments)
    told = json.loads(body)
    assert list(told) == ["error"] and "\n" not in told["error"]
    return status, told["error"]


def test_it_says_what_predict_says(service, lab):
    """Raw, as a form of several, one of them no photo; the labels, probabilities and what is none of these."""
    run, address, _ = service
    photos = [photo.path for photo in lab.study.split.validation[:5]]
    said = list(predict(run, photos))
    body, headers = form(*((path.name, path.read_bytes()) for path in photos), ("no.txt", b"no photo"))
    status, answer, _ = ask(address, "POST", "/predict", body, headers)
    *together, wrong = json.loads(answer)["predictions"]
    assert status == 200 and wrong["name"] == "no.txt" and "is not an image" in wrong["error"]
    for path, one, prediction in zip(photos, together, said, strict=True):
        status, answer, _ = ask(address, "POST", "/predict", path.read_bytes())
        (alone,) = json.loads(answer)["predictions"]
        assert one == alone | {"name": path.name}
        assert one["label"] == prediction.label and one["none_of_these"] == prediction.none_of_these
        assert list(one["probabilities"].values()) == pytest.approx(prediction.probabilities, abs=1e-6)
        assert one["probability"] == pytest.approx(prediction.probability, abs=1e-6)


def test_the_map_is_the_one_that_explain_paints(service, photo):
    """Of the predicted class and of another one."""
    run, address, _ = service
    why = explain(run, photo)
    for label in (None, sorted(why.class_names)[-1]):
        query = f"?label={label.replace(' ', '%20')}" if label else ""
        status, body, headers = ask(address, "POST", f"/explain{query}", photo.read_bytes())
        assert status == 200 and headers["Content-Type"] == "image/png"
        assert json.loads(headers["X-Prediction"])["label"] == why.predicted
        expected = np.asarray(why.overlay(label), int)
        assert np.abs(np.asarray(Image.open(io.BytesIO(body)), int) - expected).max() <= 1


def test_it_tells_about_itself(service):
    """Health, the model, OpenAPI that names what can be sent, and counters that count."""
    run, address, _ = service
    assert json.loads(ask(address, "GET", "/healthz")[1]) == {"status": "ok"}
    model = json.loads(ask(address, "GET", "/model")[1])
    file = load_model(run).model
    assert model["class_names"] == list(file.class_names) and model["versions"] == file.versions
    assert model["metrics"]["validation"]["n"] == run.evaluation.n
    assert (
        model["rejection"]["threshold"] == file.rejection.threshold and "directions" not in model["rejection"]
    )
    paths = json.loads(ask(address, "GET", "/openapi.json")[1])["paths"]
    sent = paths["/predict"]["post"]["requestBody"]["content"]
    assert set(sent) == {"image/*", "multipart/form-data"}
    assert set(paths["/explain"]["post"]["responses"]["200"]["content"]) == {"image/png"}
    before = counters(address)
    ask(address, "POST", "/predict", b"no photo")
    after = counters(address)
    for name in (
        'stockpot_requests_total{path="/predict",status="422"}',
        'stockpot_photos_total{said="unreadable"}',
    ):
        assert after[name] == before.get(name, 0) + 1
    assert after['stockpot_request_seconds_count{path="/metrics"}'] >= 1


def counters(address: str) -> dict[str, float]:
    text = ask(address, "GET", "/metrics")[1].decode()
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def test_what_cannot_be_answered_is_said_in_one_line(service, photo):
    """Wrong types, empty and broken bodies, wrong paths, methods, hosts and classes."""
    _, address, _ = service
    data = photo.read_bytes()
    status, text = refusal(address, "POST", "/predict", b"hello")
    assert status == 422 and text.startswith("The file is not an image of a known format: JPEG, PNG, ")
    assert text.endswith(": send a photo's bytes as the body, or files as multipart/form-data.")
    assert refusal(address, "POST", "/predict", data[: len(data) // 2])[0] == 422
    assert refusal(address, "POST", "/predict", b"")[0] == 400
    nothing = form()[0], {"Content-Type": "multipart/form-data; boundary=edge"}
    assert refusal(address, "POST", "/predict", *nothing)[0] == 400
    assert refusal(address, "POST", "/predict", b"x", {"Content-Type": "multipart/form-data"})[0] == 400
    assert "Too many files" in refusal(address, "POST", "/predict", *form(*[("a", b"x")] * 33))[1]
    assert refusal(address, "POST", "/explain?label=cow", data)[1].startswith("There is no class 'cow': ")
    assert refusal(address, "POST", "/explain", *form(("a", data), ("b", data)))[0] == 400
    assert refusal(address, "GET", "/predict") == (405, "/predict takes POST, not GET.")
    assert refusal(address, "POST", "/model", b"") == (405, "/model takes GET, not POST.")
    assert refusal(address, "GET", "/wp-login.php")[0] == 404
    assert refusal(address, "GET", "/healthz", None, {"Host": "evil.example"})[0] == 421
    assert refusal(address, "POST", "/predict", gzip.compress(data), {"Content-Encoding": "gzip"})[0] == 415
    whole, headers = form(("a", data), ("b", data))
    assert refusal(address, "POST", "/predict", whole[:-1000], headers) == (
        400,
        "The form ends in the middle: send it again.",
    )
    odd = {"Content-Type": "multipart/form-data; boundary=edge; charset=undefined"}
    assert refusal(address, "POST", "/predict", whole, odd)[0] == 400
    assert ask(address, "HEAD", "/healthz")[0] == 200


def bomb(side: int, channels: int = 1) -> bytes:
    """A small PNG of many black pixels, with 4 channels transparent ones."""
    rows = zlib.compress(bytes(channels * side + 1) * side, 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, {1: 0, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_too_much_is_refused_and_memory_stays(service, photo):
    """50 MB, announced or not; a bomb of 400 million pixels in 0.4 MB: each says how much is too much."""
    _, address, _ = service
    ask(address, "POST", "/predict", photo.read_bytes())
    before = counters(address)["process_resident_memory_bytes"]
    status, text = refusal(address, "POST", "/predict", bytes(8 * 2**20))
    assert (status, text) == (413, "More than 2 MB: send smaller photos, or fewer at once.")
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", "/predict", iter([bytes(2**20)] * 8), encode_chunked=True)  # of unknown length
    assert connection.getresponse().status == 413
    connection.close()
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as polite:  # asks before it sends: is told at once
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {address}\r\nContent-Length: 50000000\r\nExpect: 100-continue"
        )
        polite.sendall(f"{head}\r\n\r\n".encode())
        assert polite.recv(4096).startswith(b"HTTP/1.1 413")
    status, text = refusal(address, "POST", "/predict", bomb(20_000))
    assert status == 422 and "has more than 50,000,000 pixels: shrink it" in text
    assert counters(address)["process_resident_memory_bytes"] < before + 60e6


def test_what_is_just_allowed_is_not_decoded_at_once_for_all(service):
    """Transparent photos of 49 million pixels, which need 0.7 GB each, come one after the other."""
    _, address, pid = service
    with ThreadPoolExecutor(4) as clients:
        statuses = list(clients.map(lambda _: ask(address, "POST", "/predict", bomb(7000, 4))[0], range(4)))
    assert set(statuses) <= {200, 503} and 200 in statuses
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert int(peak[1]) < 1_000_000  # 0.7 GB; 1.3 where two are decoded at once


def test_scans_without_end_are_refused(service, photo):
    """A progressive JPEG may have any number of scans, each of which costs time and hardly a byte."""
    _, address, _ = service
    out = io.BytesIO()
    Image.open(photo).convert("RGB").save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    assert ask(address, "POST", "/predict", data)[0] == 200
    many = data[:-2] + data[last:-2] * 200 + data[-2:]
    assert "has 2" in refusal(address, "POST", "/predict", many)[1]


def test_slow_and_cut_requests_end(service, photo):
    """A body that trickles gets 408 in time; connections that are cut in the middle leave nothing behind."""
    _, address, _ = service
    host, port = address.split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100000\r\n\r\n".encode()
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head)
        started = time.perf_counter()
        slow.settimeout(0.2)
        answer = b""
        while not answer and time.perf_counter() - started < 4 * SECONDS:
            slow.sendall(b"x")
            try:
                answer = slow.recv(4096)
            except TimeoutError:
                continue
        while answer and (more := slow.recv(4096)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 408") and b"took more than 3 seconds" in answer
    for i in range(30):
        with socket.create_connection((host, int(port))) as cut:
            cut.sendall(head + photo.read_bytes()[: 1000 * i])
            if i % 2:  # a reset, not an orderly end
                cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(50):
        if counters(address)["stockpot_requests_in_work"] == 1:  # this one
            break
        time.sleep(0.1)
    now = counters(address)
    assert now["stockpot_requests_in_work"] == 1
    assert now['stockpot_requests_total{path="/predict",status="499"}'] >= 10


def test_many_at_once_are_all_answered(service, lab):
    """64 clients with photos and rubbish: each hears what its own file is; photos went together."""
    run, address, _ = service
    photos = [photo.path for photo in lab.study.split.validation]
    said = {one.path: one for one in predict(run, photos)}

    def one(i: int) -> None:
        path = photos[i % len(photos)]
        status, body, _ = ask(address, "POST", "/predict", b"rubbish" if i % 7 == 0 else path.read_bytes())
        if i % 7 == 0:
            assert status == 422
        else:
            (answer,) = json.loads(body)["predictions"]
            assert list(answer["probabilities"].values()) == pytest.approx(said[path].probabilities, abs=1e-5)

    with ThreadPoolExecutor(64) as clients:
        list(clients.map(one, range(400)))
    now = counters(address)
    assert now["stockpot_batch_photos_sum"] > now["stockpot_batch_photos_count"]


def test_what_is_under_way_is_answered_at_the_end(lab, photo):
    """50 MB is too much; SIGTERM in the middle of work: all are answered, new ones are not taken, and it ends."""
    run = next(run for run in lab.study.runs if run.name == "probe")
    body, headers = form(*[("a.png", photo.read_bytes())] * 16)
    with process_of(run.folder) as (process, address), ThreadPoolExecutor(4) as clients:
        assert refusal(address, "POST", "/predict", bytes(50 * 2**20)) == (  # announced
            413,
            "More than 20 MB: send smaller photos, or fewer at once.",
        )
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("POST", "/predict", iter([bytes(2**20)] * 50), encode_chunked=True)  # and not
        assert connection.getresponse().status == 413
        connection.close()
        answers = [clients.submit(ask, address, "POST", "/predict", body, headers) for _ in range(4)]
        while counters(address).get("stockpot_batch_photos_count", 0) < 2:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        for answer in answers:
            status, said, _ = answer.result()
            assert status == 200 and len(json.loads(said)["predictions"]) == 16
        process.wait(30)
        with pytest.raises(ConnectionRefusedError):
            ask(address, "GET", "/healthz")


@contextlib.contextmanager
def served(app) -> Iterator[tuple[str, int]]:
    """An application on a thread of this process, so that a test can set its limits."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as door:
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(listening.configuration(app, 1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield door.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture
def app(lab, monkeypatch):
    """A service that looks at its connections more often than it usually does."""
    monkeypatch.setattr(listening, "LOOK_SECONDS", 0.5)
    run = next(run for run in lab.study.runs if run.name == "cifar")
    return create_app(load_model(run), Limits(seconds=1))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def wait_for_the_end(connection: socket.socket) -> bytes:
    """Return what a connection still says until the server ends it."""
    connection.settimeout(20)
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(4096):
            said += part
    return said


def test_a_request_that_never_begins_is_closed(app):
    """Half a header, then silence, on a fresh and on a used connection; a working client is left alone."""
    with served(app) as place:
        with socket.create_connection(place) as fresh, socket.create_connection(place) as used:
            used.sendall(get("/healthz"))
            assert used.recv(4096).startswith(b"HTTP/1.1 200")
            for half in (fresh, used):
                half.sendall(get("/healthz")[:20])
            wait_for_the_end(fresh)
            wait_for_the_end(used)
        working = http.client.HTTPConnection(*place)
        for _ in range(6):
            working.request("GET", "/healthz")
            assert working.getresponse().read() == b'{"status":"ok"}'
            time.sleep(0.25)
        assert working.sock, "it was one connection"
        working.close()


def test_whoever_does_not_read_is_cut_off(app):
    """Answers that pile up before a client that reads none hold up nobody else, and not for ever."""
    with served(app) as place:
        deaf = []
        for _ in range(4):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(place)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                for _ in range(2000):
                    connection.send(get("/metrics"))
            deaf.append(connection)
        assert ask(f"{place[0]}:{place[1]}", "GET", "/healthz")[0] == 200
        for _ in range(200):
            if counters(f"{place[0]}:{place[1]}")["stockpot_requests_in_work"] == 1:  # this one
                break
            time.sleep(0.1)
        assert counters(f"{place[0]}:{place[1]}")["stockpot_requests_in_work"] == 1
        for connection in deaf:
            connection.close()


def test_too_many_connections_are_sent_away(app, monkeypatch):
    """With a reason, in JSON; those that are there are served, and so is the next when they have gone."""
    monkeypatch.setattr(listening, "CONNECTIONS", 3)
    with served(app) as place:
        there = [socket.create_connection(place) for _ in range(3)]
        there[0].sendall(get("/healthz"))
        assert there[0].recv(4096).startswith(b"HTTP/1.1 200")
        with socket.create_connection(place) as one_more:
            said = wait_for_the_end(one_more)
        assert (
            said.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in said and b"Too many connections" in said
        )
        for connection in there:
            connection.close()
        assert ask(f"{place[0]}:{place[1]}", "GET", "/healthz")[0] == 200


def test_bodies_in_crumbs_are_cut_off(app):
    """Chunks of one byte cost more time than photos do."""
    with served(app) as place, socket.create_connection(place) as crumbs:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            crumbs.sendall(head.encode() + b"1\r\nx\r\n" * 100_000)
        assert not wait_for_the_end(crumbs).startswith(b"HTTP/1.1 2")
        assert ask(f"{place[0]}:{place[1]}", "GET", "/healthz")[0] == 200


def test_it_answers_inside_another_application(app, photo):
    """Mounted, where nobody tells it that it begins."""
    outer = FastAPI()
    outer.mount("/model", app)
    with TestClient(outer, base_url="http://localhost") as client:
        answer = client.post("/model/predict", content=photo.read_bytes())
    assert answer.status_code == 200 and answer.json()["predictions"][0]["label"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_it_answers_under_the_address_that_it_prints(lab, host):
    """Also under an unusual one of this computer."""
    run = next(run for run in lab.study.runs if run.name == "cifar")
    with process_of(run.folder, "--host", host) as (_, address):
        assert ask(address, "GET", "/healthz")[0] == 200


def test_an_engine_that_fails_fails_alone():
    """Whoever waits is told; the next batch is computed; those who have gone are not."""

    class Engine:
        calls = 0

        def run(self, pixels):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("no memory")
            return pixels[:, 0, 0, :].astype(np.float32), pixels[:, None, :, :, 0].astype(np.float32)

    async def scene() -> None:
        engine, sizes = Engine(), []
        batcher = Batcher(engine, sizes.append)
        photos = [np.full((2, 2, 3), i, np.uint8) for i in range(10)]
        with pytest.raises(RuntimeError, match="no memory"):
            await batcher.run(photos[0])
        gone = asyncio.create_task(batcher.run(photos[1]))
        rest = [asyncio.create_task(batcher.run(one)) for one in photos[2:]]
        await asyncio.sleep(0)
        gone.cancel()
        answers = await asyncio.gather(*rest)
        assert [int(features[0]) for features, _ in answers] == list(range(2, 10))
        assert sum(sizes) == 9 and max(sizes) == 4
        await batcher.close()

    asyncio.run(scene())


def test_there_is_room_for_so_much_at_once():
    """A body that does not fit beside the others hears so, and what it held is free again."""

    def request(*parts: bytes) -> Request:
        messages = iter([{"type": "http.request", "body": part, "more_body": True} for part in parts])

        async def receive():
            return next(messages, {"type": "http.request", "body": b"", "more_body": False})

        return Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def scene() -> None:
        room = Room(largest=10, all_together=15)
        assert await room.read(request(b"12345", b"67890")) == b"1234567890" and room.held == 10
        with pytest.raises(HTTPException) as busy:
            await room.read(request(b"1234", b"56"))
        assert busy.value.status_code == 503 and busy.value.headers == {"Retry-After": "1"}
        assert room.held == 10
        room.leave(10)
        with pytest.raises(HTTPException) as large:
            await room.read(request(*[b"12345"] * 3))
        assert large.value.status_code == 413 and room.held == 0

    asyncio.run(scene())


def test_too_many_photos_are_sent_away(lab, photo, monkeypatch):
    """At once and with a time to come again, not after a long wait."""
    monkeypatch.setattr(module, "MOST_IN_HAND", 3)
    run = next(run for run in lab.study.runs if run.name == "cifar")
    body, headers = form(*[("a.png", photo.read_bytes())] * 4)
    with TestClient(create_app(load_model(run)), base_url="http://127.0.0.1") as client:
        refused = client.post("/predict", content=body, headers=headers)
        assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
        body, headers = form(*[("a.png", photo.read_bytes())] * 3)
        assert client.post("/predict", content=body, headers=headers).status_code == 200


def test_what_cannot_be_served_is_refused(lab, tmp_path):
    """A limit of nothing, a port that is taken or none, an address of another computer."""
    run = lab.study.runs[0]
    for limits in (Limits(seconds=0), Limits(seconds=float("inf")), Limits(megabytes=1e-7)):
        with pytest.raises(WrongUse, match="expected at least"):
            serve(run, limits=limits)
    with pytest.raises(WrongUse, match="expected 1 to 65535"):
        serve(run, port=99999)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        with pytest.raises(WrongUse, match="give another --port"):
            serve(run, port=door.getsockname()[1])
    with pytest.raises(WrongUse, match=re.escape("of 192.0.2.1 cannot be used")):
        serve(run, "192.0.2.1", 0)
