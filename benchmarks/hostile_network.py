"""The entrances of `hostile.py` for strangers: lists of photos, search engines, downloads, service, web app."""

import asyncio
import io
import json
import logging
import random
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from hostile_entrances import Entrance, Taken, study, tiny_model
from hostile_inputs import ODD_TEXTS, damaged, odd_json, pictures, texts

_SECRET = b"SECRET-9f2c"
_PRIVATE = (
    "127.0.0.1",
    "localhost",
    "10.0.0.1",
    "169.254.169.254",
    "[::1]",
    "[::ffff:7f00:1]",
    "0x7f.1",
    "2130706433",
)


def manifest(sandbox: Path, chance: random.Random) -> Taken:
    """A Parquet manifest, and what its names lead to."""
    import contextlib

    import pyarrow as pa
    from pyarrow import parquet

    from stockpot.cluster.parts import Job, Output, count, names_in
    from stockpot.cluster.storage import fetch
    from stockpot.errors import UnreadablePhoto

    file, output = sandbox / "project" / "photos.parquet", sandbox / "project" / "answers"

    def take(data: bytes, job: bytes) -> None:
        file.write_bytes(data)
        count(names_in(str(file)))
        for name in islice(names_in(str(file)), 99):
            with contextlib.suppress(UnreadablePhoto):
                fetch(name or "")
        output.mkdir(exist_ok=True)
        (output / "_job.json").write_bytes(job)
        Output(str(output)).begin(Job("0", "0", 1, 1, False, False))

    def written(column: Any, name: str = "uri") -> bytes:
        out = io.BytesIO()
        parquet.write_table(pa.table({name: column}), out)
        return out.getvalue()

    names = [
        "a.png",
        "/dev/zero",
        "file:///etc/shadow",
        "ftp://a/b",
        "s3://",
        "://",
        "a\0b",
        "x" * 5000,
        None,
        "..",
    ]
    whole, said = (
        written(names),
        json.dumps(
            {"model": "0", "manifest": "0", "rows": 1, "part_rows": 1, "features": False, "maps": False}
        ).encode(),
    )
    odd = [
        written([1, 2]),
        written([["a"]]),
        written([None]),
        written(["a"], "url"),
        written([b"\xff"]),
        written([{"a": 1}]),
    ]
    odd += [written(pa.array(["a"] * 9).dictionary_encode()), written(["x"] * 10**6), written([])]
    yield "", lambda: None
    jobs = texts(chance, said)
    while True:
        kind, job = next(jobs)
        for data in odd:
            yield "odd table", partial(take, data, said)
        odd = []
        yield f"_job.json {kind}", partial(take, whole, job)
        yield "damaged table", partial(take, damaged(chance, whole), said)


def list_(sandbox: Path, chance: random.Random) -> Taken:
    """A CSV file of one's own photos."""
    import shutil

    from stockpot.collection.own_photos import bring_own

    place, file = sandbox / "project" / "p", sandbox / "source" / "photos.csv"
    (sandbox / "source" / "a.png").write_bytes(next(pictures(chance))[1])
    rows = b"path,label\na.png,cat\n/dev/zero,cat\n../outside/secret.txt,dog\na.png,a dog\n"

    def take(data: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        file.write_bytes(data)
        bring_own(place, file)

    yield "", lambda: None
    inputs = texts(chance, rows)
    while True:
        kind, data = next(inputs)
        yield kind, partial(take, data)
        label, name = (json.dumps(chance.choice((*ODD_TEXTS, "a.png", "cat"))) for _ in range(2))
        yield "odd row", partial(take, f"path,label\n{name},{label}\n".encode())


def engine(sandbox: Path, chance: random.Random) -> Taken:
    """Answers of the search engines' interfaces."""
    from stockpot.collection.addresses import Forbidden, checked
    from stockpot.collection.duckduckgo import _Client
    from stockpot.collection.openverse import Openverse

    row = {
        "url": "http://a.example/",
        "thumbnail": "http://b.example/",
        "license": "by",
        "image": "http://c.example/",
    }
    whole = json.dumps({"results": [row, row], "page_count": 1, "next": "i.js"}).encode()

    async def asked(data: bytes) -> int:
        class Said:
            async def ask(self, _: str) -> bytes:
                return data

        search, found = Openverse(Said()), 0  # type: ignore[arg-type]
        async for hits in search.pages("cat"):
            for hit in hits:
                found += 1
                try:
                    checked(hit.url)
                except Forbidden:
                    found -= 1
            search.asked = False  # no pause
        return found

    def take(data: bytes) -> None:
        client = _Client()
        client.extract_results(data.decode("utf-8", "replace"))
        asyncio.run(asked(data))

    yield "", lambda: None
    for kind, data in texts(chance, whole):
        yield kind, partial(take, data)


def download(sandbox: Path, chance: random.Random) -> Taken:
    """Answers of web servers, and addresses; all requests of the client come to a proxy of ours."""
    import os

    from aiohttp import ClientTimeout

    from stockpot.collection import fetching
    from stockpot.collection.arrivals import encode_anew

    said: dict[str, Any] = {}
    seen: list[str] = []
    door = socket.create_server(("127.0.0.1", 0), backlog=64)
    os.environ["HTTP_PROXY"] = os.environ["http_proxy"] = f"http://127.0.0.1:{door.getsockname()[1]}"
    fetching.WAIT_SECONDS = 0.01
    threading.Thread(target=_proxy, args=(door, said, seen), daemon=True).start()
    loop = asyncio.new_event_loop()
    fetcher = fetching.Fetcher(timeout=ClientTimeout(total=1.5, connect=1, sock_read=0.7))
    loop.run_until_complete(fetcher.__aenter__())

    def take(url: str, data: bytes, then: str = "") -> str | None:
        seen.clear()
        said.update(data=data, then=then)
        try:
            encode_anew(loop.run_until_complete(fetcher.fetch(url)))
            return None
        except fetching.Dropped as error:
            return "refused" if str(error) else "says nothing"
        finally:
            inside = [line for line in seen if ".example" not in line.partition(" ")[2].split("/")[2]]
            assert not inside, f"asked for {inside[:3]}"

    good = next(pictures(chance))[1]
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    moved = b"HTTP/1.1 302 x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
    yield "", lambda: None
    number, images = 0, pictures(chance)
    for then in ("endless", "drip", "hang"):
        for head in (
            plain % 99,
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 ",
        ):
            number += 1
            yield f"{then} body", partial(take, f"http://h{number}.example/", head, then)
    places = [f"http://{host}:{port}/" for host in _PRIVATE for port in (80, 6379)]
    places += [
        "file:///etc/passwd",
        "ftp://a.example/",
        "//",
        "http://[",
        "http://a.example:99/",
        "http://u:p@a.example/",
    ]
    for place in places:
        yield "address", partial(take, place, plain % len(good) + good)
        yield "redirect", partial(take, f"http://h{number}.example/", moved % place.encode())
        number += 1
    while True:
        number += 1
        url, (kind, data) = f"http://h{number}.example/", next(images)
        data = data[: 2**21]
        match number % 5:
            case 0:
                yield (
                    f"length that lies, {kind}",
                    partial(take, url, plain % chance.choice((0, len(data) * 2, 10**12)) + data),
                )
            case 1:
                heads = (
                    b"Content-Encoding: gzip",
                    b"X: " + b"y" * 9000,
                    b"Transfer-Encoding: x",
                    b"Retry-After: 9e9",
                )
                head = b"HTTP/1.1 %d x\r\n%s\r\n" % (
                    chance.choice((200, 206, 429, 503, 999)),
                    chance.choice(heads),
                )
                yield (
                    f"odd headers, {kind}",
                    partial(take, url, head + b"Content-Length: %d\r\n\r\n" % len(data) + data),
                )
            case 2:
                yield "redirect loop", partial(take, url, moved % url.encode())
            case 3:
                yield (
                    f"damaged answer, {kind}",
                    partial(take, url, damaged(chance, (plain % len(data) + data)[:5000])),
                )
            case _:
                yield f"body, {kind}", partial(take, url, plain % len(data) + data)


def _proxy(door: socket.socket, said: dict[str, Any], seen: list[str]) -> None:
    """Note the first line of every request, and answer it with what is to be said."""

    def answer(line: socket.socket) -> None:
        with line:
            line.settimeout(3)
            try:
                seen.append(line.recv(65536).split(b"\r\n")[0].decode("latin-1"))
                line.sendall(said["data"])
                for _ in range(2000 if said["then"] else 0):
                    line.sendall(
                        bytes(2**16) if said["then"] == "endless" else b"x" if said["then"] == "drip" else b""
                    )
                    time.sleep(0 if said["then"] == "endless" else 0.02)
            except OSError:
                pass  # the client has gone

    while True:
        threading.Thread(target=answer, args=(door.accept()[0],), daemon=True).start()


def service(sandbox: Path, chance: random.Random) -> Taken:
    """The HTTP service of a model, through a real socket."""
    from stockpot.learning.models import load_model
    from stockpot.publishing.service import Limits, create_app

    predictor = load_model(tiny_model(sandbox / "project" / "model.safetensors"), threads=1)
    ask = _serve(create_app(predictor, Limits(1, 2.0)))
    yield "", lambda: None
    yield "slow headers", partial(ask, b"POST /predict HTTP/1.1\r\n", True)
    yield (
        "slow body",
        partial(ask, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nx", True),
    )
    images, number = pictures(chance), 0
    while True:
        number += 1
        kind, data = next(images)
        path = chance.choice(
            ("/predict", "/explain", "/explain?label=cat", "/explain?label=../x", "/metrics", "/%00")
        )
        match number % 4:
            case 0:
                yield f"form, {kind}", partial(ask, _request("POST", path, *_form(chance, data)))
            case 1:
                yield (
                    f"damaged request, {kind}",
                    partial(ask, damaged(chance, _request("POST", path, data[:3000]))),
                )
            case _:
                yield f"body, {kind}", partial(ask, _request("POST", path, data, _odd_headers(chance)))


def web(sandbox: Path, chance: random.Random) -> Taken:
    """The web app of a project, through a real socket: as its own page, and as another one."""
    from stockpot.web.app import create_app

    folder = study(sandbox / "project" / "p")
    (sandbox / "project" / "photos").rename(sandbox / "project" / "brought")
    ask = _serve(create_app(folder))
    yield "", lambda: None
    images = pictures(chance)
    bodies: dict[str, dict[str, Any]] = {
        "/api/review/decisions": {"key": "0", "label": "cat"},
        "/api/review/undo": {},
        "/api/results/blind": {"run": "probe", "sha256": "0", "label": "cat"},
        "/api/finish/notes": {"text": "x", "version": "0"},
        "/api/train": {"recipe": "probe", "start": "no", "changes": {"epochs": "x"}, "name": "a"},
        "/api/train/again": {"name": "../../outside"},
        "/api/collect": {"classes": [], "per_class": 1, "engine": "no", "license": "no"},
    }
    places = [
        "/api/review",
        "/api/train",
        "/api/results",
        "/api/finish",
        "/api/collect",
        "/api/status",
        "/",
        "/report.html",
    ]
    ways = [
        "../../outside/secret.txt",
        "..%2f..%2foutside%2fsecret.txt",
        "%00",
        "a" * 9000,
        *map(quote, _some_texts()),
    ]
    ways += ["Li4vLi4vb3V0c2lkZS9zZWNyZXQudHh0", "Li4vLi4vLi4vZXRjL3Bhc3N3ZA"]  # of `../..` in base64
    while True:
        way, text = chance.choice(ways), quote(chance.choice(_some_texts()))
        kind, data = next(images)
        yield f"picture {kind}", partial(ask, _request("POST", "/api/try", data, _own()))
        yield (
            "odd name",
            partial(ask, _request("POST", f"/api/collect/photos?label={text}&name={way}", data, _own())),
        )
        path = chance.choice(list(bodies))
        body = odd_json(chance, json.dumps(bodies[path]).encode())
        yield (
            "odd JSON",
            partial(ask, _request("POST", path, body, _own() | {"Content-Type": "application/json"})),
        )
        prefix = chance.choice(
            ("/photos/", "/maps/probe/", "/channels/", "/models/", "/static/", "/api/explained/probe/")
        )
        yield "way out", partial(ask, _request("GET", f"{prefix}{way}?of={text}&side={text}", b"", _own()))
        yield "another page", partial(_refused, ask, _request("POST", path, body, _foreign(chance)))
        yield "place", partial(ask, _request("GET", chance.choice(places), b"", _own()))
        yield "damaged request", partial(ask, damaged(chance, _request("POST", path, body, _own())))
        yield (
            "odd headers",
            partial(ask, _request("POST", "/api/try", data[:9999], _own() | _odd_headers(chance))),
        )


def _some_texts() -> list[str]:
    return [text for text in ODD_TEXTS if len(text) < 300 and text != "\ud800"]


def _own() -> dict[str, str]:
    return {"Host": "localhost", "Origin": "http://localhost"}


def _foreign(chance: random.Random) -> dict[str, str]:
    """Return headers of a page elsewhere, also of one whose name leads here."""
    return chance.choice(
        (
            {"Host": "evil.example", "Origin": "http://evil.example"},
            {"Host": "localhost", "Origin": "http://evil.example"},
            {"Host": "localhost", "Origin": "null"},
            {"Host": "localhost"},
            {"Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"},
            _own() | {"Sec-Fetch-Site": "cross-site"},
        )
    )


def _odd_headers(chance: random.Random) -> dict[str, str]:
    odd = (
        "-1",
        "0",
        "9" * 30,
        "1e9",
        "",
        "nan",
        "gzip",
        "chunked",
        "chunked, chunked",
        "multipart/form-data",
        "bytes=0-",
    )
    odd += (
        "multipart/form-data; boundary=" + "x" * 300,
        "application/json",
        "\xff",
        "100-continue",
        "localhost:x",
    )
    names = (
        "Content-Length",
        "Content-Encoding",
        "Transfer-Encoding",
        "Content-Type",
        "Expect",
        "Range",
        "Host",
        "X-A",
    )
    return {chance.choice(names): chance.choice(odd) for _ in range(chance.choice((0, 1, 2)))}


def _form(chance: random.Random, data: bytes) -> tuple[bytes, dict[str, str]]:
    edge = chance.choice(("edge", "edge", "e" * 70, "", "é"))
    name = chance.choice((*ODD_TEXTS, "a.jpg")).encode("utf-8", "surrogatepass")[:999]
    part = b'--%s\r\nContent-Disposition: form-data; name="photo"; filename="%s"\r\n\r\n' % (
        edge.encode(),
        name,
    )
    parts = (part + data[:200_000] + b"\r\n") * chance.choice((1, 1, 3, 40))
    end = chance.choice((b"--" + edge.encode() + b"--\r\n", b""))
    return parts + end, {"Content-Type": f"multipart/form-data; boundary={edge}"}


def _request(method: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    told = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))} | (headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogatepass") + body


def _serve(app: Any) -> Callable[..., str | None]:
    """Serve an app on a thread; return what sends bytes to it and judges the answer."""
    from stockpot.publishing.listening import configuration

    problems: list[str] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                problems.append(f"{record.exc_info[1]!r}")

    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configuration(app, 1))
    logging.getLogger("uvicorn.error").addHandler(Notes())
    threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True).start()
    while not server.started:
        time.sleep(0.05)

    def ask(data: bytes, patient: bool = False) -> str | None:
        status, body = _asked(door.getsockname(), data, 15 if patient else 1.5)
        if problems:
            return f"in the log: {problems.pop()[:300]}"
        if _SECRET in body or b"root:" in body:
            return "gave a secret away"
        if status == 0 or 400 <= status < 500 or status == 503:
            return "refused" if body.count(b"\n") < 5 else f"says {body[:99]!r}"  # uvicorn's own is in chunks
        return None if 200 <= status < 400 else f"answered {status}: {body[:200]!r}"

    return ask


def _refused(ask: Callable[..., str | None], data: bytes) -> str:
    return ask(data) or "was answered, though another page asked"


def _asked(place: tuple[str, int], data: bytes, seconds: float) -> tuple[int, bytes]:
    """Return status and body of the first answer; 0 where the connection ended, or nothing came, without one."""
    out, until, length = b"", time.monotonic() + seconds, None
    with socket.create_connection(place, timeout=seconds) as line:
        try:
            line.sendall(data)
            while time.monotonic() < until and (part := line.recv(65536)):
                out += part
                head, ended, body = out.partition(b"\r\n\r\n")
                if ended and length is None:
                    length = int((re.findall(rb"content-length: (\d+)", head.lower()) or [b"1000000000"])[0])
                if length is not None and len(body) >= length:
                    break
        except OSError:
            pass  # it has heard enough, or waits for more
    head, _, body = out.partition(b"\r\n\r\n")
    words = head.split()
    return (int(words[1]), body[:length]) if len(words) > 1 and words[1].isdigit() else (0, body)


ENTRANCES: dict[str, Entrance] = {"list": list_} | {
    one.__name__: one for one in (manifest, engine, download, service, web)
}
