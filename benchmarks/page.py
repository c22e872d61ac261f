"""How large and how fast models are as pages, and how far their probabilities are from those of `predict`.

    python benchmarks/page.py PHOTOS MODEL...

PHOTOS holds one folder of photos a class; each model looks at every twelfth, as it is and decoded, as PNG. Lines of
JSON are printed: megabytes, median seconds in a real browser (chromium), largest differences.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from stockpot.learning.models import predict
from stockpot.photos.pixels import read_photo
from stockpot.publishing.export import export

EVERY = 12
OPENED = 3  # times
SHARES = "all => all.map(it => +it.style.getPropertyValue('--share'))"


def main() -> None:
    """Run the benchmark."""
    folder, *models = map(Path, sys.argv[1:])
    photos = sorted(folder.glob("*/*"))[::EVERY]
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        decoded = [Path(made) / f"{i}.png" for i in range(len(photos))]
        for photo, copy in zip(photos, decoded, strict=True):
            read_photo(photo).save(copy)
        for model in models:
            file = export(model, Path(made) / "page.html")
            row = {"model": str(model), "megabytes": file.stat().st_size / 1e6, "n": len(photos)}
            opening = []
            for _ in range(OPENED):
                tab = browser.new_page()
                started = time.perf_counter()
                tab.goto(file.as_uri())
                tab.get_by_role("status").get_by_text("Ready.").wait_for()
                opening.append(time.perf_counter() - started)
            row["opening_seconds"] = float(np.median(opening))
            row["photo_seconds"], row["difference"] = ask(tab, model, photos)
            _, row["difference_png"] = ask(tab, model, decoded)
            print(json.dumps(row), flush=True)
        browser.close()


def ask(tab: Page, model: Path, photos: list[Path]) -> tuple[float, float]:
    """Return the median of the seconds that photos take, and the largest difference of a probability."""
    seconds, differences = [], []
    for photo, said in zip(photos, predict(model, photos), strict=True):
        before = tab.locator("article").count()
        started = time.perf_counter()
        tab.get_by_label("choose some").set_input_files(photo)
        tab.locator("article").nth(before).wait_for()
        seconds.append(time.perf_counter() - started)
        shares = tab.locator("article").first.locator(".share").evaluate_all(SHARES)
        differences.append(np.abs(np.array(shares) - sorted(said.probabilities)[::-1]).max())
    return float(np.median(seconds)), float(max(differences))


if __name__ == "__main__":
    main()
