"""Make the pictures of docs/web.md and docs/shipping.md from a copy of the project that `make demo` leaves.

    python docs/make_screenshots.py

Needs chromium. The photos are those of the demo set alone.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, Playwright, sync_playwright

from stockpot.publishing.export import export

HERE = Path(__file__).parent
SIZE = {"width": 1180, "height": 820}


def main() -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "solar-cells"
        shutil.copytree("solar-cells", project)
        command = [sys.executable, "-m", "stockpot", "web", str(project), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout
                look(server.stdout.readline().strip(), project)
            finally:
                server.kill()
        look_at_page(export(project, Path(folder) / "solar-cells.html"), project)


def open_tab(playwright: Playwright) -> Page:
    """Open a browser."""
    browser = playwright.chromium.launch(
        executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
    )
    tab = browser.new_page(viewport=SIZE, device_scale_factor=1.25)
    tab.set_default_timeout(300_000)
    return tab


def look(address: str, project: Path) -> None:
    """Use every page as a person would."""
    with sync_playwright() as playwright:
        tab = open_tab(playwright)
        tab.goto(f"{address}/#collect")
        tab.locator(".photo img").nth(20).wait_for()
        picture(tab, "web-collect")

        tab.goto(f"{address}/#review")
        tab.locator(".photo.active").wait_for()
        for key in ("x", "ArrowRight", "x"):
            tab.keyboard.press(key)
            tab.wait_for_timeout(500)
        picture(tab, "web-review")
        for _ in range(2):
            tab.keyboard.press("u")
            tab.locator(".message", has_text="taken back").wait_for()

        tab.goto(f"{address}/#train")
        tab.locator("input[value=scratch]").check()
        tab.get_by_text("All choices").click()
        tab.get_by_label("Name of the run").fill("scratch-60")
        tab.get_by_label("epochs").fill("60")
        tab.get_by_role("button", name="Train", exact=True).click()
        tab.get_by_text("All choices").click()
        tab.locator("main", has_text="12 epochs so far").wait_for()
        tab.evaluate("scrollTo(0, 0)")
        picture(tab, "web-train")
        tab.get_by_role("button", name="Stop").click()
        tab.locator("main", has_text="it was stopped early").first.wait_for()
        shutil.rmtree(project / "runs" / "scratch-60")

        tab.goto(f"{address}/#results")
        tab.reload()
        tab.get_by_role("button", name="Show them with their labels").click()
        tab.locator(".confusion td.wrong button").first.click()
        tab.locator(".card img").nth(5).wait_for()
        tab.wait_for_timeout(4000)
        picture(tab, "web-results", tab.locator(".confusion"))
        tab.locator(".card button").first.click()
        tab.locator("dialog .map").wait_for()
        tab.get_by_label("and not").select_option(index=1)
        tab.wait_for_timeout(2000)
        picture(tab, "web-why")

        tab.goto(f"{address}/#try")
        tab.locator("input[type=file]").set_input_files(sorted(project.glob("photos/*/*"))[5])
        tab.locator(".photos.small img").nth(5).wait_for()
        tab.wait_for_timeout(1500)
        picture(tab, "web-try")

        tab.goto(f"{address}/#finish")
        tab.get_by_role("button", name="9.1").click()
        tab.keyboard.type("A crack that ends at a finger is hard to see, for a person too.")
        picture(tab, "web-finish")
        tab.context.browser.close()


def look_at_page(file: Path, project: Path) -> None:
    """Try a photo in the page of the best model."""
    with sync_playwright() as playwright:
        tab = open_tab(playwright)
        tab.goto(file.as_uri())
        tab.get_by_label("choose some").set_input_files(
            project / "photos/polycrystalline defective/cell1624.png"
        )
        tab.locator("article").wait_for()
        picture(tab, "page")
        tab.context.browser.close()


def picture(tab: Page, name: str, top: object = None) -> None:
    """Keep what is seen."""
    if top is not None:
        top.evaluate("one => window.scrollTo(0, one.getBoundingClientRect().top + scrollY - 120)")
    tab.wait_for_timeout(1200)
    tab.screenshot(path=HERE / f"{name}.jpg", type="jpeg", quality=80)


if __name__ == "__main__":
    main()
