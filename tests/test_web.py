import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import time

import pytest
from conftest import served

from stockpot.errors import ProjectError, WrongUse
from stockpot.web.app import create_app, serve
from stockpot.web.guard import LARGEST_BODY


def ask(address: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict]:
    """A request with exactly these headers, as no browser would let a page send it."""
    with contextlib.closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)) as line:
        line.request(method, path, body or None, headers)
        answer = line.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


def opened(address: str) -> dict:
    """What the review page gets, once the photos have been looked through."""
    for _ in range(600):
        state = json.loads(ask(address, "GET", "/api/review", Host=address.removeprefix("http://"))[1])
        if "waiting" not in state:
            return state
        time.sleep(0.1)
    raise TimeoutError("the review does not open")


def test_a_review_by_keyboard(curated, tmp_path, tab):
    """Set aside, move, undo and filter by keys; each decision is on the disk, and the page says what it did."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    files = {path.name for path in copy.glob("photos/*/*")}
    with served(copy) as (address, _):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        n = tab.locator(".photo").count()
        assert n == len(files)
        name = tab.locator(".photo.active").get_attribute("aria-label").split(", ")[1].split(":")[0]
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowLeft")
        tab.keyboard.press("x")
        tab.locator(".figures", has_text="1 are left out").wait_for()
        assert tab.locator(".photo").count() == n - 1
        assert not list(copy.glob(f"photos/*/{name}")) and list(copy.glob(f"set-aside/*/{name}"))
        assert re.search(rf"on the {n - 1} photos that are in both", tab.locator(".figures").inner_text())
        label = tab.locator(".photo.active .label").inner_text()
        number = next(k for k in "1234" if label not in tab.locator("tbody th").nth(int(k) - 1).inner_text())
        tab.keyboard.press(number)
        tab.locator(".message", has_text="moved to").wait_for()
        tab.keyboard.press("u")
        tab.keyboard.press("u")
        tab.locator(".figures", has_text="0 are left out").wait_for()
        assert tab.locator(".photo").count() == n
        assert {path.name for path in copy.glob("photos/*/*")} == files
        tab.keyboard.press("/")
        tab.keyboard.type(name)
        tab.locator(".bar", has_text="1 photo").wait_for()
        assert tab.locator(".photo").count() == 1
        assert all(url.startswith(address) for url in tab.requested) and tab.problems == []


def test_a_decision_that_fails_takes_no_other_with_it(curated, tmp_path, tab):
    """The first of three quick keys is refused: its photo comes back, the other two are aside, here and on disk."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    refusal = {"status": 409, "json": {"error": "Another stockpot is writing."}}
    with served(copy) as (address, _):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        n = tab.locator(".photo").count()
        tab.route("**/api/review/decisions", lambda route: route.fulfill(**refusal), times=1)
        for _ in range(3):
            tab.keyboard.press("x")
        tab.locator(".figures", has_text="2 are left out").wait_for()
        tab.wait_for_timeout(300)
        assert tab.locator(".photo").count() == n - 2 == len(list(copy.glob("photos/*/*")))


def test_a_review_by_touch(curated, tmp_path, tab):
    """On a phone: a tap chooses a photo and shows what can be done with it; nothing is wider than the screen."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    phone = tab.context.browser.new_page(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    with served(copy) as (address, _):
        phone.goto(address)
        phone.locator(".photo.active").wait_for()
        n = phone.locator(".photo").count()
        photo = phone.locator(".photo").nth(2)
        photo.tap()
        label = photo.locator(".label").inner_text()
        options = photo.get_by_label("Move to").locator("option").all_inner_texts()
        assert len(options) == 4 and all(label not in text for text in options)
        photo.get_by_role("button", name="Set aside").tap()
        phone.locator(".figures", has_text="1 are left out").wait_for()
        assert phone.locator(".photo").count() == n - 1 == len(list(copy.glob("photos/*/*")))
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_new_photos_come_into_an_open_review(curated, tmp_path, tab, make_photo):
    """Brought in on another page: their features are computed, and the comparison is of the photos in both."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    with served(copy) as (address, _):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        n = tab.locator(".photo").count()
        tab.keyboard.press("x")
        tab.locator(".figures", has_text="1 are left out").wait_for()
        make_photo(copy / "photos" / "monocrystalline defective" / "new.png", size=(300, 300))
        tab.get_by_text("Collect").click()
        tab.locator(".counts").wait_for()
        tab.get_by_text("Review", exact=True).click()
        tab.locator(".figures", has_text=f"on the {n - 1} photos that are in both").wait_for()
        assert tab.locator(".photo").count() == n
        assert "1 are left out" in tab.locator(".figures").inner_text()


def test_a_killed_server_has_lost_nothing(curated, tmp_path, tab):
    """Every decision of a review is there after the restart, and can still be undone."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    with served(copy) as (address, server):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        n = tab.locator(".photo").count()
        for gone in (1, 2):
            tab.keyboard.press("x")
            tab.locator(".figures", has_text=f"{gone} are left out").wait_for()
        os.kill(server.pid, signal.SIGKILL)
    with served(copy) as (address, _):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        assert tab.locator(".photo").count() == n - 2
        tab.get_by_role("button", name="Undo").click()
        tab.locator(".message", has_text="taken back").wait_for()
        assert tab.locator(".photo").count() == n - 1


def test_fast_keys_lose_nothing(curated, tmp_path, tab):
    """Undo and decisions without waiting: what is shown at the end is what is on the disk."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    with served(copy) as (address, _):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        n = tab.locator(".photo").count()
        for key in "xxxuxux":
            tab.keyboard.press(key)
        tab.locator(".figures", has_text="3 are left out").wait_for()
        tab.wait_for_timeout(500)
        assert tab.locator(".photo").count() == n - 3 == len(list(copy.glob("photos/*/*")))


def test_other_pages_are_refused(curated):
    """Another host's name, another origin or none, too much at once, and ways out of the project."""
    with served(curated) as (address, _):
        host = address.removeprefix("http://")
        own = {"Host": host, "Origin": address, "Content-Type": "application/json"}
        before = sorted(curated.glob("photos/*/*"))
        assert ask(address, "GET", "/", Host="evil.example")[0] == 421
        assert ask(address, "POST", "/api/review/undo", Host=host)[0] == 403
        for origin in ("http://evil.example", "http://[", "null"):
            assert ask(address, "POST", "/api/review/undo", **own | {"Origin": origin})[0] == 403
        assert ask(address, "GET", "/api/review", **{"Host": host, "Sec-Fetch-Site": "cross-site"})[0] == 403
        assert ask(address, "POST", "/api/review/undo", **own | {"Transfer-Encoding": "chunked"})[0] == 411
        assert ask(address, "POST", "/api/try", **own | {"Content-Length": str(LARGEST_BODY + 1)})[0] == 413
        key = opened(address)["photos"][0]["key"]
        status, body, headers = ask(address, "POST", "/api/review/decisions", b'{"key": "../../x"}', **own)
        assert (status, json.loads(body)["error"]) == (
            400,
            "Photo '../../x' is not there: open the review again.",
        )
        decision = json.dumps({"key": key, "label": "../outside"}).encode()
        assert ask(address, "POST", "/api/review/decisions", decision, **own)[0] == 400
        assert ask(address, "GET", "/photos/Li4vc3BsaXQuanNvbg", Host=host)[0] in (400, 404)
        assert ask(address, "GET", "/static/../app.py", Host=host)[0] == 404
        assert "default-src 'none'" in headers["content-security-policy"]
        assert sorted(curated.glob("photos/*/*")) == before


def test_wrong_use(curated, tmp_path):
    """No project, a port that is none, and one that is taken."""
    with pytest.raises(ProjectError):
        create_app(tmp_path)
    with pytest.raises(WrongUse, match="port is 99999"):
        serve(curated, 99999)
    with served(curated) as (address, _), pytest.raises(WrongUse, match="cannot be used"):
        serve(curated, int(address.rpartition(":")[2]))
