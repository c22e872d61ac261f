"""How fast the review page answers: from a key to what is seen, and from a decision to its effect.

    python benchmarks/web.py PHOTOS FOLDER

PHOTOS holds one folder of photos a class; FOLDER keeps a project of them, which the benchmark undoes its decisions
in. A real browser (chromium) presses the keys. Lines of JSON are printed: medians, n, and the slowest.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from stockpot.curation.curation import curate
from stockpot.learning.live_head import LiveHead
from stockpot.photos.intake import bring_in

DECISIONS = 20
WATCH = """() => {
  window.times = {go: [], gone: [], known: []};
  let pressed = 0, key = "", left = false;
  addEventListener("keydown", event => { pressed = performance.now(); key = event.key; left = false; }, true);
  const seen = name => requestAnimationFrame(() => times[name].push(performance.now() - pressed));
  new MutationObserver(changes => {
    const grid = changes.some(one => one.target.closest?.(".photos"));
    const gone = changes.some(one => one.removedNodes.length && one.target.matches?.(".photos"));
    const known = changes.some(one => one.target.parentElement?.closest(".figures"));
    if (key.startsWith("Arrow") && grid) { seen("go"); key = ""; }
    if (key === "x" && gone && !left) { seen("gone"); left = true; }
    if (key === "x" && known) { seen("known"); key = ""; }
  }).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
}"""


def main() -> None:
    """Run the benchmark."""
    photos, folder = map(Path, sys.argv[1:])
    refit()
    bring_in(folder, photos)
    curate(folder)
    command = [sys.executable, "-m", "stockpot", "web", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().strip()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
                )
                measure(browser.new_page(viewport={"width": 1280, "height": 900}), address)
        finally:
            server.kill()


def measure(tab: Page, address: str) -> None:
    """Press keys and print how long what they do takes, in milliseconds."""
    tab.goto(address)
    tab.locator(".photo.active").wait_for(timeout=300_000)
    count = tab.locator(".photo").count()
    tab.wait_for_timeout(3000)  # thumbnails
    tab.evaluate(WATCH)
    for _ in range(DECISIONS):
        tab.keyboard.press("ArrowRight")
        tab.wait_for_timeout(150)
        tab.keyboard.press("x")
        tab.wait_for_timeout(1500)
    found = tab.evaluate("times")
    for _ in range(DECISIONS):
        tab.keyboard.press("u")
        tab.wait_for_timeout(1000)
    for name, times in found.items():
        tell(count, name, times)


def refit(photos: int = 800, channels: int = 2048, classes: int = 3) -> None:
    """Print how long the head alone takes for a decision with as many channels as the largest backbone has."""
    chance = np.random.default_rng(0)
    names, labels = [f"{i}" for i in range(photos)], [f"{i % classes}" for i in range(photos)]
    features = chance.random((photos, channels), np.float32)
    for k in range(classes):
        features[k::classes, 100 * k : 100 * (k + 1)] += 0.1
    head = LiveHead(names, features, labels, names, sorted(set(labels)))
    times = []
    for name in names[:DECISIONS]:
        started = time.perf_counter()
        head.remove([name])
        head.right()
        head.left_out()
        times.append(1000 * (time.perf_counter() - started))
    tell(photos, f"head of {channels} channels", times)


def tell(photos: int, what: str, times: list[float]) -> None:
    """Print one line."""
    row = {"photos": photos, "what": what, "n": len(times), "median_ms": float(np.median(times))}
    print(json.dumps(row | {"slowest_ms": max(times)}), flush=True)


if __name__ == "__main__":
    main()
