import asyncio
import io
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter, deque
from functools import partial

import aiohttp
import pytest
from conftest import ROOT
from PIL import Image
from standin.engines import THUMBNAILS, photo, row, thumbnail
from standin.server import Answer, StandIn

from stockpot.collection import collection
from stockpot.collection.collection import collect
from stockpot.collection.fetching import Fetcher
from stockpot.errors import SearchRefused, WrongUse
from stockpot.project import read_lines

CLASSES = ["apple pie", "baklava"]


def contents(project):
    """Return the names of all files in `photos/`, hidden ones included."""
    photos = project / "photos"
    return sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*") if path.is_file())


def test_photos_come_in_with_their_origin(internet, tmp_path):
    """Our own JPEG, named by its bytes, without metadata; a line says where it came from, and for which query."""
    found = collect(tmp_path / "food", CLASSES, per_class=20)
    assert [(one.new, one.missing, one.stopped) for one in found] == [(20, 0, ""), (20, 0, "")]
    rows = read_lines(tmp_path / "food" / "photos.jsonl")
    assert contents(tmp_path / "food") == sorted(row["file"] for row in rows)
    assert len({row["sha256"] for row in rows}) == len({row["url"] for row in rows}) == 40
    first = rows[0]
    name = tmp_path / "food" / "photos" / first["file"]
    with Image.open(name) as image:
        assert (image.format, *image.size) == ("JPEG", first["width"], first["height"])
        assert not image.getexif() and "comment" not in image.info
    assert name.stat().st_size == first["size"]
    assert name.stem == first["sha256"][:12]
    assert (first["engine"], first["query"]) == ("duckduckgo", "apple pie")
    assert first["page"].startswith("https://pages.example/apple%20pie")
    assert len(internet.asked("duckduckgo.com")) == 4  # a token and a page for each class


def test_stopped_it_keeps_what_came(internet, tmp_path):
    """The photos are whole and have their origin; the next call goes on where this one ended."""
    came = []

    def count(stage: str, done: int, total: int) -> None:
        came.append(done)

    found = collect(tmp_path / "food", CLASSES, per_class=100, progress=count, stop=lambda: len(came) >= 7)
    assert 7 <= found[0].new < 30 and found[1].new == 0
    assert [one.stopped for one in found] == ["it was stopped"] * 2
    rows = read_lines(tmp_path / "food" / "photos.jsonl")
    assert contents(tmp_path / "food") == sorted(row["file"] for row in rows)
    assert [one.missing for one in collect(tmp_path / "food", CLASSES, per_class=30)] == [0, 0]


def test_a_second_call_tops_up(internet, engines, tmp_path):
    """It fetches no address twice, not even of what was dropped, and stops when the engine has no more."""
    first = photo("bad 3")
    internet.hosts[THUMBNAILS] = lambda request: (
        Answer(first[:900]) if request.query["u"] == "apple pie 3" else thumbnail(request)
    )
    collect(tmp_path / "food", ["apple pie"], per_class=10)
    (again,) = collect(tmp_path / "food", ["apple pie"], per_class=200)
    assert (again.had, again.new, again.missing) == (10, 119, 71)
    assert again.stopped == "duckduckgo has no more"
    assert set(Counter(internet.asked(THUMBNAILS)).values()) == {1}
    (third,) = collect(tmp_path / "food", ["apple pie"], per_class=200)
    assert (third.had, third.new) == (129, 0)


def test_further_queries_fill_a_class(internet, engines, tmp_path):
    """The class's name is searched for first; the same bytes under another address count once."""
    internet.hosts["photos.example"] = lambda request: Answer(photo(request.path.rpartition("/")[2]))
    engines.found = lambda query: [
        row(f"{query} {i}", thumbnail=f"https://photos.example/{query.replace(' ', '-')}/{i}.jpg")
        for i in range(20)
    ]
    found = collect(tmp_path / "food", {"baklava": ["baklava dessert", "sweet"]}, per_class=30)
    assert (found[0].new, found[0].dropped) == (20, {"here already": 40})
    queries = [request.query["q"] for request in internet.seen if request.path == "/i.js"]
    assert queries == ["baklava", "baklava dessert", "sweet"]


def test_bytes_of_another_class_are_named(internet, engines, tmp_path):
    """A photo that both classes find stays where it was found first."""
    internet.hosts[THUMBNAILS] = lambda request: Answer(photo(request.query["u"].rpartition(" ")[2]))
    found = collect(tmp_path / "food", CLASSES, per_class=5)
    assert found[1].dropped["here already, as apple pie"] == 5
    assert found[1].new == 5


REFUSALS = {
    "slow down": ("token", Answer(status=202), "refused with 202 (a request to slow down)"),
    "forbidden": ("page", Answer(status=403), "refused with 403 (forbidden)"),
    "too many": ("page", Answer(status=429, headers={"Retry-After": "60"}), "refused with 429"),
    "CAPTCHA": ("token", Answer(b"<html>Select all ducks</html>"), "has no token (a CAPTCHA"),
    "bad token": ("token", Answer(b'<script>vqd="4-123"</script>'), "refused with 403"),
    "no JSON": ("page", Answer(b"<html>"), "something else than photos"),
    "cut off": ("page", Answer(b'{"results": [', length=900), "cannot be reached"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_an_engine_that_refuses_at_once(internet, engines, tmp_path, fault):
    """One sentence with the reason and remedies; it is asked once, and what is there stays."""
    kind, answer, words = REFUSALS[fault]
    collect(tmp_path / "food", ["baklava"], per_class=3)
    before = contents(tmp_path / "food"), len(internet.seen)
    engines.faults[kind].append(answer)
    with pytest.raises(SearchRefused, match=r"try --engine openverse, or .* --from FOLDER") as error:
        collect(tmp_path / "food", CLASSES, per_class=9)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert contents(tmp_path / "food") == before[0]
    assert len(internet.seen) - before[1] <= 2


def test_an_engine_that_refuses_later(internet, engines, tmp_path):
    """What came before is kept and the other class is not asked for; "both" goes on with Openverse."""
    served = []

    def page(request):
        served.append(request)
        return Answer(status=202) if request.query.get("s") else engines.duckduckgo(request)

    internet.hosts["duckduckgo.com"] = page
    found = collect(tmp_path / "food", CLASSES, per_class=120)
    assert [(one.new, one.missing) for one in found] == [(100, 20), (0, 120)]
    assert all("refused with 202" in one.stopped for one in found)
    assert len(served) == 3
    found = collect(tmp_path / "food", CLASSES, per_class=120, engine="both", license="share")
    assert [(one.new, one.missing) for one in found] == [(20, 0), (120, 0)]
    rows = read_lines(tmp_path / "food" / "photos.jsonl")
    assert Counter(row["engine"] for row in rows) == {"duckduckgo": 100, "openverse": 140}
    licenses = {row["licence"] for row in rows if row["engine"] == "openverse"}
    assert licenses == {"by 2.0"}
    assert all("is licensed under" in row["attribution"] for row in rows if row["engine"] == "openverse")


def test_openverse_that_refuses(internet, engines, tmp_path):
    """Its limit is a refusal too; it is not asked again."""
    engines.faults["openverse"].append(Answer(status=429, headers={"Retry-After": "1"}))
    with pytest.raises(SearchRefused, match=r"Openverse refused \(answered 429\).*--engine duckduckgo"):
        collect(tmp_path / "food", CLASSES, engine="openverse")
    assert len(internet.asked("api.openverse.org")) == 1


def test_filters_reach_the_engine(internet, tmp_path):
    """Type photo always, the licence if asked for, one token a query; what the filter said is noted as such."""
    collect(tmp_path / "food", ["baklava"], per_class=2, license="share-commercially")
    (page,) = (request for request in internet.seen if request.path == "/i.js")
    assert page.query["f"].split(",")[3:] == ["type:photo", "", "license:ShareCommercially"]
    (line, _) = read_lines(tmp_path / "food" / "photos.jsonl")
    assert line["licence"] == "search filter said ShareCommercially"


def picture(kind: str, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("L" if kind == "PNG" else "RGB", size).save(file, kind)
    return file.getvalue()


async def endless():
    for _ in range(400):  # 40 MB: twice what is taken
        await asyncio.sleep(0)
        yield b"x" * 100_000


async def slow():
    while True:
        await asyncio.sleep(0.5)
        yield b"x"


def to(place: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": place})


PRIVATE, MANY = "the address leads into a private network", "more than 5 redirects"
HOSTILE_ADDRESSES = {
    "ftp://photos.example/a.jpg": "the address is ftp, not http or https",
    "file:///etc/passwd": "the address is file, not http or https",
    "javascript:alert(1)": "the address is javascript, not http or https",
    "data:image/png;base64,iVBORw0KGgo=": "the address is data, not http or https",
    "//photos.example/a.jpg": "the address is nothing, not http or https",
    "https:///a.jpg": "the address names no host",
    "http://[::1": "the address is no address",
    "https://photos.example:port/": "the address is no address",
    "http://a.com\\b/ü": "the address is no address",
    "http://e\x00.x/": "the address is no address",
    "https://a℀b/": "the address is no address",
    "https://user:secret@photos.example/a.jpg": "the address carries a user's name",
    "https://photos.example:8443/a.jpg": "the address asks for port 8443",
    "http://127.0.0.1:{canary}/": "the address asks for port {canary}",
    "http://127.0.0.1/": PRIVATE,
    "http://127.0.0.1./": PRIVATE,
    "http://127。0。0。1/": PRIVATE,
    "http://①②⑦.0.0.1/": PRIVATE,
    "http://localhost/": PRIVATE,
    "http://router/": PRIVATE,
    "http://metadata.google.internal/": PRIVATE,
    "http://printer.localhost/": PRIVATE,
    "http://10.0.0.1/": PRIVATE,
    "http://169.254.169.254/latest/meta-data/": PRIVATE,
    "http://0/": PRIVATE,
    "http://2130706433/": PRIVATE,
    "http://0x7f.1/": PRIVATE,
    "http://[::1]/": PRIVATE,
    "http://[::ffff:127.0.0.1]/": PRIVATE,
    "http://[64:ff9b::7f00:1]/": PRIVATE,
    "http://[2002:7f00:1::]/": PRIVATE,
    "http://[fe80::1%25eth0]/": PRIVATE,
    "http://[ff02::1]/": PRIVATE,
    "http://[fec0::1]/": PRIVATE,
    "http://[::7f00:1]/": PRIVATE,
    "http://[64:ff9b:1::7f00:1]/": PRIVATE,
    "http://[::ffff:0:127.0.0.1]/": PRIVATE,
}
HOSTILE_ANSWERS = {
    "redirect to a private port": (to("http://127.0.0.1:{canary}/"), "the address asks for port {canary}"),
    "redirect to this machine": (to("http://127.0.0.1/", 307), PRIVATE),
    "redirect to a file": (to("file:///etc/passwd", 301), "the address is file, not http or https"),
    "redirect to itself": (to("", 308), MANY),
    "redirect to a broken address": (to("http://[bad/"), "the address is no address"),
    "redirect to half an address": (to("//[::1"), "the address is no address"),
    "redirect to a full-width address": (to("http://127。0。0。1/"), PRIVATE),
    "not there": (Answer(status=404), "answered 404"),
    "a host in trouble": (Answer(status=500), "answered 500"),
    "come back in an hour": (Answer(status=429, headers={"Retry-After": "3600"}), "answered 429"),
    "empty": (Answer(), "is empty"),
    "a page": (Answer(b"<html><body>cookies?</body></html>"), "is not an image of a known format"),
    "a drawing": (Answer(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "is not an image of a known format"),
    "half a photo": (Answer(photo("half")[:2000]), "is damaged"),
    "a pixel": (Answer(picture("GIF", (1, 1))), "has fewer than 64 pixels on a side"),
    "a bomb": (Answer(picture("PNG", (20000, 20000))), "has more than 40,000,000 pixels"),
    "a photo of too many pixels": (Answer(picture("PNG", (9000, 5000))), "has more than 40,000,000 pixels"),
    "compressed": (Answer(b"x", headers={"Content-Encoding": "gzip"}), "is not an image of a known format"),
    "not for us": (Answer(status=403), "answered 403"),
    "opted out": (Answer(photo("no"), headers={"X-Robots-Tag": "bot: noimageai, nofollow"}), "X-Robots-Tag"),
    "announced as huge": (Answer(b"x" * 1000, length=30_000_000), "more than 20 MB"),
    "endless": (Answer(length=-1, parts=endless), "more than 20 MB"),
    "cut off": (Answer(photo("cut")[:2000], length=9000), "broken off"),
    "slow": (Answer(length=-1, parts=slow), "too slow"),
}


def test_the_document_lists_every_hostile_thing():
    """docs/collecting.md names what was tried and what became of it, as tested below."""
    document = (ROOT / "docs" / "collecting.md").read_text("utf-8")
    reasons = {**HOSTILE_ADDRESSES, **{name: reason for name, (_, reason) in HOSTILE_ANSWERS.items()}}
    for name, reason in reasons.items():
        shown = f"`{name}`" if name in HOSTILE_ADDRESSES else name
        line = f"| {shown} | {reason} |".format(canary=8080).replace("\0", "\\0")
        assert line in document, line


def test_hostile_addresses_and_answers(internet, engines, tmp_path, monkeypatch):
    """Each is dropped for its reason, the good photos between them come in, and the canary is never reached."""
    brisk = aiohttp.ClientTimeout(total=5, connect=4, sock_read=3)
    monkeypatch.setattr(collection, "Fetcher", partial(Fetcher, timeout=brisk))
    expected = {
        address.format(canary=internet.canary): reason.format(canary=internet.canary)
        for address, reason in HOSTILE_ADDRESSES.items()
    }
    for number, (answer, reason) in enumerate(HOSTILE_ANSWERS.values()):
        answer.headers = {name: text.format(canary=internet.canary) for name, text in answer.headers.items()}
        internet.hosts[f"host{number}.example"] = lambda request, answer=answer: answer
        expected[f"https://host{number}.example/a.jpg"] = reason.format(canary=internet.canary)
    late = deque([Answer(status=503, headers={"Retry-After": "1"})])
    internet.hosts["late.example"] = lambda request: late.popleft() if late else Answer(photo("late"))
    internet.hosts["moved.example"] = lambda request: to("https://photos.example/moved.jpg")
    good = ["https://late.example/a.jpg", "https://moved.example/a.jpg"]
    rows = [row(f"row {i}", thumbnail=address) for i, address in enumerate([*expected, *good])]
    nothing = {"title": None, "image": None, "thumbnail": None, "url": None}
    engines.found = lambda query: [nothing, *rows, row("last")]
    (found,) = collect(tmp_path / "food", ["baklava"], per_class=1000)
    came = {line["url"] for line in read_lines(tmp_path / "food" / "photos.jsonl")}
    assert came == {*good, row("last")["thumbnail"]}
    assert sum(found.dropped.values()) == len(expected)
    refused = {
        line["url"]: line["reason"] for line in read_lines(tmp_path / "food" / "cache" / "refused.jsonl")
    }
    passing = {
        "answered 500",
        "answered 429",
        "answered 403",
        "broken off",
        "too slow",
    }  # may succeed another time
    for address, reason in expected.items():
        if reason in passing:
            assert address not in refused and any(reason in dropped for dropped in found.dropped)
        else:
            assert reason in refused[address], address


def test_a_host_that_refuses_is_given_up(internet, engines, tmp_path):
    """After ten refusals in a row it is not asked again today; what it did not give may come another day."""
    internet.hosts[THUMBNAILS] = lambda request: Answer(status=403)
    (found,) = collect(tmp_path / "food", ["baklava"], per_class=50)
    assert found.dropped["its host refuses"] > 100
    assert 10 <= len(internet.asked(THUMBNAILS)) <= 16
    internet.hosts[THUMBNAILS] = thumbnail
    (found,) = collect(tmp_path / "food", ["baklava"], per_class=50)
    assert (found.new, found.missing) == (50, 0)


def test_it_runs_in_a_notebook(internet, tmp_path):
    """Where an event loop runs already."""

    async def cell():
        return collect(tmp_path / "food", ["baklava"], per_class=2)

    assert asyncio.run(cell())[0].new == 2


def test_an_engine_that_repeats_itself(internet, engines, tmp_path):
    """It ends when a page has nothing new, whatever the engine says of a next one."""
    rows = [row(f"same {i}") for i in range(100)]
    engines.found = lambda query: rows * 50
    (found,) = collect(tmp_path / "food", ["baklava"], per_class=300)
    assert (found.new, found.stopped) == (100, "duckduckgo has no more")
    assert len(internet.asked("duckduckgo.com")) == 3


def test_names_that_lead_inside(tmp_path, monkeypatch):
    """A public name with a private address is caught where the connection is made, whatever it was before."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    standin = StandIn(tmp_path, {"*": lambda request: Answer(b"reached")})

    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host, port=0, family=0):
            place = {"host": "127.0.0.1", "port": standin.port if host == "ours.example" else standin.canary}
            return [{"hostname": host, **place, "family": 2, "proto": 6, "flags": 0}]

        async def close(self):
            pass

    async def fetch(url):
        async with Fetcher({("127.0.0.1", standin.port)}, Resolver()) as fetcher:
            return await fetcher.fetch(url)

    (tmp_path / ".netrc").write_text("default login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert asyncio.run(fetch("http://ours.example/")) == b"reached"
    assert "authorization" not in standin.seen[0].headers
    standin.hosts["*"] = lambda request: to(request.query["to"])
    for address in ("theirs.example", f"127.0.0.1:{standin.canary}", "127.0.0.1"):
        for start in (f"http://{address}/", f"http://ours.example/?to=http://{address}/"):
            with pytest.raises(collection.Dropped, match="leads into a private network|asks for port"):
                asyncio.run(fetch(start))
    standin.close()
    assert standin.canary_hits == 0


def test_killed_at_any_moment_it_goes_on(internet, tmp_path):
    """Ten times kill -9, then to the end: every photo once, whole, with its line; nothing hidden is left."""
    command = [sys.executable, "-m", "stockpot", "collect", str(tmp_path / "food"), *CLASSES, "--quiet"]
    chance = random.Random(0)
    for _ in range(10):
        seen, more = len(internet.asked(THUMBNAILS)), chance.randrange(12)
        running = subprocess.Popen([*command, "--per-class", "60"], stderr=subprocess.DEVNULL)
        while len(internet.asked(THUMBNAILS)) < seen + more and running.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.random() / 50)
        running.kill()
        running.wait()
    done = subprocess.run([*command, "--per-class", "60", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["stopped"] for line in done.stdout.splitlines()] == ["", ""]
    rows = read_lines(tmp_path / "food" / "photos.jsonl")
    assert contents(tmp_path / "food") == sorted(row["file"] for row in rows)
    assert len(rows) == len({row["url"] for row in rows}) == 120
    for line in rows:
        data = (tmp_path / "food" / "photos" / line["file"]).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()


def test_three_classes_of_three_hundred(internet, engines, tmp_path):
    """All good photos once, faults of every host in between; on a real client and a real network stack."""

    def flaky(request):
        number = int(request.query["u"].rpartition(" ")[2])
        if number % 10 == 3:
            return Answer(status=404)
        return Answer(b"<html>") if number % 10 == 7 else thumbnail(request)

    internet.hosts[THUMBNAILS] = flaky
    engines.found = lambda query: [row(f"{query} {i}") for i in range(400)]
    found = collect(tmp_path / "food", [*CLASSES, "carrot cake"], per_class=300)
    assert [(one.new, one.missing) for one in found] == [(300, 0)] * 3
    assert all(25 <= count <= 50 for one in found for count in one.dropped.values())
    assert len(contents(tmp_path / "food")) == 900
    assert set(Counter(internet.asked(THUMBNAILS)).values()) == {1}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", ".hidden", "x" * 300, "a:b", "a\nb", "end.", " a"]
)
def test_a_class_that_cannot_be_a_folder(tmp_path, name):
    """It is refused before anything is asked for or made."""
    with pytest.raises(WrongUse, match="cannot name a class"):
        collect(tmp_path / "food", [name])
    assert not (tmp_path / "food").exists()


def test_wrong_use(tmp_path):
    """Sentences, not stack traces."""
    with pytest.raises(WrongUse, match="several names"):
        collect(tmp_path / "food", "baklava")
    with pytest.raises(WrongUse, match="expected a list"):
        collect(tmp_path / "food", {"baklava": "sweet"})
    with pytest.raises(WrongUse, match="No class"):
        collect(tmp_path / "food", [])
    with pytest.raises(WrongUse, match="per_class is 0"):
        collect(tmp_path / "food", CLASSES, per_class=0)
    with pytest.raises(WrongUse, match="choose one of: duckduckgo"):
        collect(tmp_path / "food", CLASSES, engine="bing")
    shutil.rmtree(tmp_path / "food", ignore_errors=True)
