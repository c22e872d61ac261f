"""The pages of the web app in a real browser, each used as a person would; the review has tests of its own."""

import base64
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import served

from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import read_runs
from stockpot.model.model_file import read_model
from stockpot.project import Project, read_lines

STATES = {  # page, what is clicked there, and what is there then
    "collect": ("collect", [], ".photo"),
    "review": ("review", [], ".photo.active"),
    "a photo closer": ("review", ["Enter"], "dialog img"),
    "train": ("train", ["input[value=scratch]", "summary"], ".order"),
    "results": ("results", ["text=Show them with their labels"], ".card img"),
    "why": ("results", [".confusion button", ".photos.small button"], "dialog .map"),
    "blind": ("results", ["text=Look at them without labels"], ".blind img"),
    "try": ("try", [], ".drop"),
    "finish": ("finish", [], "textarea"),
}
SAVING = 120_000  # milliseconds: exporting and checking, on a busy machine
DROP = """([selector, name, data]) => {
  const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
  document.querySelector(selector).dispatchEvent(new DragEvent("drop", options));
}"""


@pytest.fixture
def project(lab, tmp_path) -> Path:
    """Solar cells with several runs, to be changed."""
    shutil.copytree(lab.study.project, tmp_path / "solar")
    return tmp_path / "solar"


def drop(tab, selector: str, file: Path) -> None:
    tab.locator(selector).wait_for()
    tab.evaluate(DROP, [selector, file.name, base64.b64encode(file.read_bytes()).decode()])


def test_photos_arrive_while_one_looks(internet, tmp_path, tab):
    """A place where nothing is: search, stop, top up; what is known by name is warned of."""
    with served(tmp_path / "food") as (address, _):
        tab.goto(address)
        tab.get_by_label("Class 1", exact=True).fill("apple pie")
        tab.get_by_label("Class 2", exact=True).fill("spaghetti carbonara")
        tab.get_by_label("Class 3", exact=True).fill("")
        tab.locator(".warning", has_text="is ImageNet class 959").wait_for()
        tab.get_by_label("Photos a class").fill("2000")
        tab.get_by_role("button", name="Search").click()
        tab.locator(".photo img").first.wait_for()
        tab.get_by_role("button", name="Stop").click()
        tab.locator("li", has_text="there are not more: it was stopped").first.wait_for()
        came = len(list((tmp_path / "food" / "photos").glob("*/*.jpg")))
        assert 0 < came < 260
        tab.get_by_label("Photos a class").fill(f"{came + 5}")
        tab.get_by_role("button", name="Top up").click()
        tab.locator("li", has_text=re.compile("^apple pie: [1-9]")).wait_for()
        tab.locator(".counts li", has_text=f"{came + 5} apple pie").wait_for()
    assert {row["engine"] for row in read_lines(tmp_path / "food" / "photos.jsonl")} == {"duckduckgo"}
    assert tab.problems == [] and all(url.startswith(address) for url in tab.requested)


def test_a_search_that_is_refused_says_so(internet, engines, tmp_path, tab):
    """Nothing came: one sentence with a remedy, and no project where none was."""
    from standin.server import Answer

    engines.faults["token"].extend([Answer(status=403)] * 20)
    with served(tmp_path / "food") as (address, _):
        tab.goto(address)
        tab.get_by_label("Class 1", exact=True).fill("apple pie")
        tab.get_by_role("button", name="Search").click()
        tab.locator("[role=alert]", has_text="No photo came in").wait_for()


def test_photos_of_ones_own_come_in(class_folders, tmp_path, tab):
    """Folders give classes, single photos get one; what is no photo is refused, and nothing is copied twice."""
    (class_folders / "dog" / "notes.txt").write_text("no photo")
    with served(tmp_path / "pets") as (address, _):
        tab.goto(address)
        drop(tab, ".drop", class_folders / "cat" / "0.png")
        tab.locator(".message", has_text="Which class are these photos of?").wait_for()
        tab.locator("input[webkitdirectory]").set_input_files(class_folders / "dog")
        tab.locator("[aria-live]", has_text="7 of 7 looked at").wait_for()
        assert "6 new photos, 0 here before, 1 refused" in tab.locator("main").inner_text()
        tab.get_by_text("Refused", exact=True).click()
        assert "notes.txt is not an image" in tab.locator("details").inner_text()
        tab.get_by_label("Class of single photos").fill("cat")
        drop(tab, ".drop", class_folders / "cat" / "0.png")
        tab.locator(".counts", has_text="1 cat").wait_for()
        drop(tab, ".drop", class_folders / "cat" / "0.png")
        tab.locator("[aria-live]", has_text="0 new photos, 1 here before").wait_for()
        tab.get_by_label("Class of single photos").fill("../cat")
        drop(tab, ".drop", class_folders / "cat" / "1.png")
        tab.locator("[aria-live]", has_text="1 refused").wait_for()
    assert sorted(path.name for path in (tmp_path / "pets" / "photos").glob("*/*")) == sorted(
        ["0.png"] + [f"{i}.png" for i in range(6)]
    )
    assert (tmp_path / "pets" / "photos" / "cat" / "0.png").read_bytes() == (
        class_folders / "cat" / "0.png"
    ).read_bytes()


def wait_for_epochs(tab, count: int) -> None:
    """Until the page tells of so many, or more."""
    for _ in range(600):
        told = re.search(r"([\d,]+) epochs? so far", tab.locator("main").inner_text())
        if told and int(told[1].replace(",", "")) >= count:
            return
        tab.wait_for_timeout(100)
    raise TimeoutError(f"{count} epochs do not come")


def test_curves_are_drawn_while_it_learns(project, tab):
    """Forecast, live curves, another tab, stop, go on; a kill costs an epoch or two, Ctrl-C none."""
    folder = project / "runs" / "live"
    with served(project) as (address, server):
        tab.goto(f"{address}/#train")
        tab.locator("input[value=scratch]").check()
        tab.locator(".order", has_text="about").or_(
            tab.locator(".order", has_text="Nothing to do")
        ).wait_for()
        tab.get_by_text("All choices").click()
        tab.get_by_label("Name of the run").fill("live")
        tab.get_by_label("epochs").fill("5000")
        tab.get_by_role("button", name="How long will it take?").click()
        tab.locator(".order", has_text=re.compile(r"about \d+")).wait_for()
        tab.get_by_role("button", name="Train", exact=True).click()
        wait_for_epochs(tab, 3)
        tab.locator(".chart svg").nth(1).wait_for()
        tab.goto("about:blank")  # the tab is closed
        tab.goto(f"{address}/#train")
        tab.locator("h2", has_text="Training live").wait_for()
        tab.locator(".chart svg").first.wait_for()
        tab.get_by_role("button", name="Stop").click()
        tab.locator("main", has_text="it was stopped early").wait_for(timeout=SAVING)
        run = next(run for run in read_runs(Project(project)) if run.name == "live")
        assert run.interrupted and 3 <= len(run.history) < 5000
        tab.locator("tr", has_text="live").get_by_role("button", name="Go on").click()
        more = len(run.history) + 2
        tab.locator("tr", has_text="stopped early").locator("button:disabled").wait_for()
        wait_for_epochs(tab, more)
        assert (folder / "checkpoint.safetensors").exists()
        os.kill(server.pid, signal.SIGKILL)
    with served(project) as (address, again):
        tab.goto(f"{address}/#train")
        tab.locator("tr", has_text="live").get_by_role("button", name="Go on").click()
        wait_for_epochs(tab, more + 2)
        tab.goto("about:blank")
        again.send_signal(signal.SIGINT)  # Ctrl-C in the terminal
        again.wait(SAVING / 1000)
    after = next(run for run in read_runs(Project(project)) if run.name == "live")
    assert after.interrupted and len(after.history) >= more + 2
    killed = ("ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_REFUSED")
    assert [text for text in tab.problems if not text.endswith(killed)] == []


def test_what_cannot_be_trained_says_why(project, tab):
    """A value that is none, and work beside work, in one line each; the page goes on."""
    with served(project) as (address, _):
        tab.goto(f"{address}/#train")
        tab.locator("input[value=cifar]").check()
        tab.get_by_text("All choices").click()
        tab.get_by_role("textbox", name="learning rate").fill("fast")
        tab.get_by_role("button", name="Train", exact=True).click()
        tab.locator(".message", has_text="learning_rate is 'fast'; expected a number").wait_for()
        tab.get_by_role("textbox", name="learning rate").fill("-1")
        tab.get_by_role("button", name="Train", exact=True).click()
        tab.locator(".message", has_text="learning_rate is -1.0; expected more than 0").wait_for()


def test_results_answer_why(project, tab):
    """A cell opens its photos, a photo its maps: of any class, rather than any other, faded; and its channels."""
    with served(project) as (address, _):
        tab.goto(f"{address}/#results")
        tab.locator(".confusion button").first.focus()
        tab.keyboard.press("Enter")
        tab.locator("h3", has_text="the surest first").wait_for()
        tab.locator(".photos.small button").first.focus()
        tab.keyboard.press("Enter")
        box = tab.locator("dialog")
        box.locator(".map").wait_for()
        before = box.locator(".map").get_attribute("src")
        names = box.get_by_label("Why").locator("option").all_inner_texts()
        predicted = box.get_by_label("Why").input_value()
        other = next(name for name in names if name != predicted)
        box.get_by_label("and not").select_option(other)
        assert "rather_than=" in box.locator(".map").get_attribute("src") != before
        assert "The logits differ by" in box.inner_text()
        box.get_by_label("Heat map").fill("20")
        assert box.locator(".map").evaluate("image => image.style.opacity") == "0.2"
        box.get_by_role("button", name=f"of {other}").click()
        box.locator(".wide").evaluate("image => image.decode()")
        sizes = box.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)")
        assert min(sizes) > 100
        tab.keyboard.press("Escape")
        box.wait_for(state="detached")
        tab.get_by_role("button", name="scratch", exact=True).click()
        tab.locator("h2", has_text="What scratch takes for what").wait_for()
        assert tab.locator("h2", has_text="Would more photos help?").count() == 1
    assert tab.problems == []


def test_a_blind_look_goes_into_the_report(project, tab):
    """Mistakes without labels: seen by key and by click, counted, kept, and told of in the report."""
    with served(project) as (address, _):
        tab.goto(f"{address}/#results")
        tab.get_by_role("button", name="cifar", exact=True).click()
        tab.locator("h2", has_text="What cifar takes for what").wait_for()
        assert tab.locator(".card").count() == 0, "nothing is given away before"
        tab.get_by_role("button", name="Look at them without labels").click()
        tab.locator(".blind").wait_for()
        assert "taken for" not in tab.locator("main").inner_text()
        asked = int(re.search(r"(\d+) photos? left", tab.locator("main").inner_text())[1])
        tab.keyboard.press("Control+1")  # no answer: the browser's own
        tab.get_by_role("button", name="0 I cannot tell").click()
        tab.evaluate("""() => new MutationObserver(
            () => dispatchEvent(new KeyboardEvent("keydown", {key: "1"}))
        ).observe(document.querySelector(".blind"), {subtree: true, childList: true, characterData: true})""")
        tab.keyboard.press("1")  # from here on each photo is answered as soon as it is there
        tab.locator("h2", has_text=re.compile(rf"You saw the true class of \d+ of {asked}")).wait_for()
        right = int(re.search(r"true class of (\d+)", tab.locator("h2").inner_text())[1])
        rows = read_lines(project / "blind.jsonl")
        assert len(rows) == asked and {row["label"] for row in rows} == {"", sorted(read_labels(project))[0]}
        tab.goto(f"{address}/#finish")
        tab.get_by_label("Run").select_option("cifar")
        tab.get_by_role("button", name="Write the report").click()
        tab.locator(".work", has_text="Writing the report").wait_for()
        tab.locator("a", has_text="Open the report").wait_for(timeout=120_000)
    words = f"A person who saw {asked} of the {asked} wrongly classified photos without labels named"
    words += f" the true class of {right}"
    assert words in (project / "report.html").read_text("utf-8")
    assert tab.problems == []


def read_labels(project: Path) -> set[str]:
    return {folder.name for folder in (project / "photos").iterdir()}


def test_a_photo_is_tried(project, tab):
    """Dropped or chosen: label, probabilities, a map that fades, the nearest training photos; or what is wrong."""
    photo = next(project.glob("photos/*/*"))
    with served(project) as (address, _):
        tab.goto(f"{address}/#try")
        drop(tab, ".drop", photo)
        tab.locator(".answer .large").wait_for()
        assert tab.locator(".ranked li").count() == 4
        tab.get_by_label("Heat map").fill("30")
        assert tab.locator(".map").evaluate("image => image.style.opacity") == "0.3"
        tab.locator(".photos img").first.wait_for()
        assert tab.locator(".photos img").count() == 6
        assert tab.locator(".map").evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        tab.get_by_role("button", name="take one").click()
        tab.locator("video").evaluate(
            "video => new Promise(done => { video.onplaying = done; video.videoWidth && done(); })"
        )
        before = tab.locator(".layers img").first.get_attribute("src")
        tab.get_by_role("button", name="Take the photo").click()
        tab.locator(f".layers img:first-child:not([src='{before}'])").wait_for()
        assert tab.locator("video").count() == 0
        tab.locator("input[type=file]").set_input_files(project / "split.json")
        tab.locator(".message", has_text="This file is not an image").wait_for()
        assert [text for text in tab.problems if "400" not in text and "409" not in text] == []


def test_the_end_of_the_lab(project, tab):
    """Notes are kept and never overwritten, the report opens and reaches nothing, the model is the file."""
    (project / "notes.md").write_text("## 8\n\nMine.\n")
    with served(project) as (address, _):
        tab.goto(f"{address}/#finish")
        tab.get_by_role("button", name="9.1").click()
        tab.keyboard.type("Nobody could tell.")
        tab.get_by_role("button", name="Save the notes").click()
        tab.locator(".message", has_text="Notes saved").wait_for()
        kept = (project / "notes.md").read_text()
        assert kept.startswith("## 8\n\nMine.") and "## 9.1" in kept and "Nobody could tell." in kept
        (project / "notes.md").write_text("## 8\n\nFrom elsewhere.\n")
        tab.get_by_label("Notes").fill("gone?")
        tab.get_by_role("button", name="Save the notes").click()
        tab.locator(".message", has_text="notes.md was changed elsewhere").wait_for()
        assert (project / "notes.md").read_text() == "## 8\n\nFrom elsewhere.\n"
        with tab.expect_download() as download:
            tab.get_by_text("Download probe").click()
        assert (
            read_model(Path(download.value.path())).class_names
            == read_model(project / "runs/probe/model.safetensors").class_names
        )
        lines = tab.get_by_label("Python", exact=True).inner_text()
        assert 'stockpot.train("solar", stockpot.Recipe.linear_probe(backbone="xception"))' in lines
        assert (
            "stockpot train solar --recipe fine-tune --name tail"
            in tab.get_by_label("Commands", exact=True).inner_text()
        )
        with tab.expect_popup() as opened:
            tab.get_by_text("Open the report").click()
        assert opened.value.url == f"{address}/report.html"
        report, problems = tab.context.browser.new_page(), []
        report.on("console", lambda message: problems.append(message.text))
        report.goto(f"{address}/report.html")
        report.locator(".chart svg").first.wait_for()
        assert report.evaluate("window.origin") == "null" and problems == []
    assert [text for text in tab.problems if "400" not in text] == []


def test_notes_are_not_lost_on_other_pages(project, tmp_path, tab):
    """What was typed is there when one comes back; in a place where nothing is, notes begin a project."""
    with served(tmp_path / "new") as (address, _):
        tab.goto(f"{address}/#finish")
        tab.get_by_label("Notes").fill("## 8\n\nFirst the words.")
        tab.get_by_text("Train", exact=True).click()
        tab.get_by_text("Finish", exact=True).click()
        assert tab.get_by_label("Notes").input_value() == "## 8\n\nFirst the words."
        tab.get_by_role("button", name="Save the notes").click()
        tab.locator(".message", has_text="Notes saved").wait_for()
    with served(tmp_path / "new") as (address, _):
        tab.goto(address)
        tab.get_by_role("button", name="Search").wait_for()


def test_pictures_are_those_of_the_answer(project, tab):
    """After a restart on the same port nothing is shown from the browser's memory."""
    photos = sorted(project.glob("photos/*/*"))
    shown = []
    port = "0"
    for photo in (photos[0], photos[-1]):
        with served(project, port) as (address, _):
            port = address.rpartition(":")[2]
            tab.goto(f"{address}/#try")
            tab.reload()
            drop(tab, ".drop", photo)
            tab.locator(".answer .large").wait_for()
            source = tab.locator(".layers img").first.get_attribute("src")
            shown.append(
                tab.evaluate(
                    "async source => [...new Uint8Array(await (await fetch(source)).arrayBuffer())]", source
                )
            )
    assert shown[0] != shown[1]


def test_two_tabs_leave_each_other_alone(project, tab):
    """Each looks at another run: both get their results, and then the server rests."""
    with served(project) as (address, _):
        other = tab.context.browser.new_page()
        for page, run in ((tab, "cifar"), (other, "scratch")):
            page.goto(f"{address}/#results")
            page.get_by_role("button", name=run, exact=True).click()
        for page, run in ((tab, "cifar"), (other, "scratch")):
            page.locator("h2", has_text=f"What {run} takes for what").wait_for()
        tab.wait_for_timeout(1000)
        before = len(tab.requested)
        tab.wait_for_timeout(2000)
        assert len(tab.requested) == before


def test_names_of_every_kind_are_shown(project, tab):
    """Blanks, quotes, percent signs, and bytes that are no text."""
    folder = next((project / "photos").iterdir())
    photo = next(folder.iterdir())
    for i, name in enumerate([b'it\'s 100%25 "new".png', b"\xff\xfe.png", "żółć?.png".encode()]):
        (folder / os.fsdecode(name)).write_bytes(photo.read_bytes() + bytes([i]))
    with served(project) as (address, _):
        tab.goto(address)
        tab.locator(".photo.active").wait_for()
        tab.get_by_label("Filter").fill("%25")
        tab.locator(".bar", has_text="1 photo").wait_for()
        tab.locator(".photo img").first.evaluate("image => image.decode()")
        tab.get_by_label("Filter").fill("??.png")
        tab.locator(".bar", has_text="1 photo").wait_for()
        tab.goto(f"{address}/#results")
        tab.locator("main", has_text="Collect").or_(
            tab.locator(".message", has_text="have changed since")
        ).first.wait_for()
    assert [text for text in tab.problems if "400" not in text] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_used_by_everybody(project, tab, scheme):
    """No serious violation of accessibility, nothing wider than a phone, no error, no request to elsewhere."""
    tab.emulate_media(color_scheme=scheme)
    with served(project) as (address, _):
        for name, (page, steps, there) in STATES.items():
            tab.goto(f"{address}/#{page}")
            tab.reload()
            for step in steps:
                if step == "Enter":
                    tab.locator(".photo.active").wait_for()
                    tab.keyboard.press(step)
                else:
                    tab.locator(step).first.click()
            tab.locator(there).first.wait_for()
            found = [
                one
                for one in Axe().run(tab).response["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], name
            if scheme == "light":
                tab.set_viewport_size({"width": 390, "height": 800})
                tab.wait_for_timeout(200)
                assert tab.evaluate("document.documentElement.scrollWidth") <= 390, name
                tab.set_viewport_size({"width": 1280, "height": 800})
        assert all(url.startswith((address, "blob:")) for url in tab.requested) and tab.problems == []


def test_every_field_of_a_recipe_can_be_chosen(project, tab):
    """What the page offers are the fields of the recipe, but for those that make it the one that it is."""
    from dataclasses import fields

    from stockpot.web.train_page import _KEPT

    with served(project) as (address, _):
        tab.goto(f"{address}/#train")
        tab.locator("input[value=probe]").check()
        tab.get_by_text("All choices").click()
        shown = tab.locator(".order label").all_inner_texts()
    titles = {re.split(r"\n", text.strip())[0].strip().replace(" ", "_") for text in shown}
    assert {field.name for field in fields(Recipe)} - set(_KEPT) <= titles
