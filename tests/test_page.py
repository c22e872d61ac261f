import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

import stockpot
from stockpot.errors import WrongUse
from stockpot.explanation.explanation import explain
from stockpot.learning.models import load_model, predict
from stockpot.photos.pixels import decode
from stockpot.photos.preprocessing import Preprocessing, prepare
from stockpot.publishing.export import export

ROOM = Path(stockpot.__file__).parent / "publishing" / "page"
HAND_OVER = """([kind, name, data]) => {
  const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0));
  if (data) transfer.items.add(new File([bytes], name, {type: "image/png"}));
  const event = kind === "drop" ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true});
  document.querySelector("main").dispatchEvent(event);
}"""
CALL = """([name, width, height, bytes, how]) => {
  const data = Uint8ClampedArray.from(atob(bytes), one => one.charCodeAt(0));
  const made = {prepare, draft}[name]({width, height, data}, how);
  return [made.width, made.height, ...made.data];
}"""


@pytest.fixture(scope="session")
def pages(lab, tmp_path_factory):
    """Runs of the lab as pages."""
    folder = tmp_path_factory.mktemp("pages")
    chosen = [run for run in lab.study.runs if run.name in ("cifar", "probe")]
    return {run.name: (run, export(run, folder / f"{run.name}.html")) for run in chosen}


@pytest.fixture(scope="session")
def photos(lab) -> list[Path]:
    """Validation photos, PNG of 300 pixels."""
    return [photo.path for photo in lab.study.split.validation]


def open_page(tab, file: Path) -> None:
    tab.goto(file.as_uri())
    status(tab, "Ready.")


def status(tab, text: str) -> None:
    tab.get_by_role("status").get_by_text(text).wait_for()


def ask(tab, *files: Path):
    """Choose photos; the answers, the last photo's first."""
    before = tab.locator("article").count()
    tab.get_by_label("choose some").set_input_files(files)
    tab.locator("article").nth(before + len(files) - 1).wait_for()
    status(tab, f"{files[-1].name}:")
    return tab.locator("article")


def probabilities(answer) -> dict[str, float]:
    shares = answer.locator(".share").evaluate_all(
        "all => all.map(it => +it.style.getPropertyValue('--share'))"
    )
    return dict(zip(answer.locator(".ranked span:first-child").all_inner_texts(), shares, strict=True))


def pixels(canvas) -> np.ndarray:
    data = canvas.evaluate("it => it.toDataURL()").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), int)


def resized(tab, name: str, photo: Image.Image, how: object) -> np.ndarray:
    """Call one of the page's functions, in an empty page."""
    if tab.evaluate("typeof prepare") == "undefined":
        tab.add_script_tag(content=(ROOM / "resize.js").read_text("utf-8"))
    data = base64.b64encode(photo.tobytes()).decode()
    width, height, *found = tab.evaluate(CALL, [name, *photo.size, data, how])
    return np.reshape(found, (height, width, 3))


def quiet(tab, file: Path) -> bool:
    """Nothing was asked of anybody, and nothing was complained about."""
    elsewhere = [url for url in tab.requested if url != file.as_uri() and not url.startswith("blob:null/")]
    return elsewhere == [] and tab.problems == []


def test_photos_are_resized_as_for_training(tab, photos):
    """To the last bit: reduced, enlarged, squashed, cropped, padded, with both filters."""
    cell = Image.open(photos[0]).convert("RGB")
    noise = np.random.default_rng(0).integers(0, 256, (53, 31, 3), dtype=np.uint8)
    for photo in (cell, cell.crop((10, 20, 281, 133)), cell.resize((44, 100)), Image.fromarray(noise)):
        for resize in ("squash", "crop", "pad"):
            for interpolation, size in (("bicubic", 32), ("bilinear", 45), ("bicubic", 120)):
                wanted = Preprocessing(size, (125.3, 122.5, 0), (1, 1, 1), resize, interpolation)
                told = {
                    "image_size": size,
                    "mean": wanted.mean,
                    "resize": resize,
                    "interpolation": interpolation,
                }
                assert np.array_equal(resized(tab, "prepare", photo, told), prepare(photo, wanted)), wanted


def test_large_jpegs_are_reduced_as_for_training(tab, photos):
    """At 1/2, 1/4 and 1/8 nearly as the decoder does it; not where they are small."""
    file = io.BytesIO()
    Image.open(photos[0]).convert("RGB").resize((311, 270)).save(file, "JPEG")
    whole = decode(file.getvalue())
    for at_least in (150, 135, 100, 65, 33):
        expected = decode(file.getvalue(), at_least)
        found = resized(tab, "draft", whole, at_least)
        assert found.shape == np.shape(expected)
        assert np.abs(found - np.asarray(expected, int)).mean() < 1


def test_the_page_says_what_the_model_says(tab, pages, photos):
    """Opened from the disk, Xception, real photos: probabilities, and the map of any class as it is painted."""
    run, file = pages["probe"]
    open_page(tab, file)
    chosen = photos[:3]
    answers = ask(tab, *chosen)
    for photo, answer, said in zip(chosen, reversed(answers.all()), predict(run, chosen), strict=True):
        why = explain(run, photo)
        found = probabilities(answer)
        assert found == pytest.approx(dict(zip(why.class_names, said.probabilities, strict=True)), abs=1e-3)
        assert next(iter(found)) == answer.locator(".large b").last.inner_text() == said.label
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert answer.get_by_text("None of these").is_visible() == said.none_of_these
        for label in (said.label, why.class_names[0], why.class_names[-1]):
            answer.get_by_label("Why").select_option(label)
            painted = pixels(answer.locator("canvas").nth(1))
            assert np.abs(painted - np.asarray(why.overlay(label), int)).max() <= 2
        answer.get_by_label("Heat map").fill("30")
        assert answer.locator("canvas").nth(1).evaluate("it => it.style.opacity") == "0.3"
        assert np.array_equal(
            pixels(answer.locator("canvas").first), np.asarray(Image.open(photo).convert("RGB"))
        )
    words = tab.locator("footer").inner_text()
    assert f"{100 * run.evaluation.accuracy:.1f}\u00a0% of {run.evaluation.n} validation photos" in words
    assert load_model(run).model.attribution in words
    assert quiet(tab, file)


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_maps_lie_where_the_network_looked(tab, pages, photos, tmp_path, resize):
    """Of a model that crops or pads, on a wide photo."""
    run, _ = pages["cifar"]
    predictor = load_model(run)
    preprocessing = replace(predictor.model.preprocessing, resize=resize)
    changed = replace(predictor, model=replace(predictor.model, preprocessing=preprocessing))
    Image.open(photos[0]).convert("RGB").crop((0, 61, 300, 200)).save(tmp_path / "wide.png")
    open_page(tab, export(changed, tmp_path / "page.html"))
    answer, why = ask(tab, tmp_path / "wide.png").first, explain(changed, tmp_path / "wide.png")
    assert max(probabilities(answer).values()) == pytest.approx(why.probability, abs=1e-4)
    assert np.abs(pixels(answer.locator("canvas").nth(1)) - np.asarray(why.overlay(), int)).max() <= 2


def test_photos_are_upright_and_on_white(tab, pages, photos, tmp_path):
    """As `predict` has them: turned by EXIF, transparent, gray, wide."""
    run, file = pages["cifar"]
    cell = Image.open(photos[0]).convert("RGB")
    tilted = cell.resize((60, 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    tilted.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    clear = cell.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(tmp_path / "clear.png")
    cell.convert("L").resize((900, 50)).save(tmp_path / "wide.png")
    open_page(tab, file)
    files = [tmp_path / name for name in ("turned.jpg", "clear.png", "wide.png")]
    for photo, said in zip(files, predict(run, files), strict=True):
        answer = ask(tab, photo).first
        assert list(probabilities(answer).values()) == pytest.approx(
            sorted(said.probabilities)[::-1], abs=5e-3
        )
        upright = {"turned.jpg": (60, 90), "clear.png": (300, 300), "wide.png": (36, 640)}[photo.name]
        assert pixels(answer.locator("canvas").first).shape[:2] == upright
    assert quiet(tab, file)


def test_photos_come_in_every_way(tab, pages, photos, tmp_path):
    """Chosen, dropped, pasted; what is no photo is refused in one line, and the page goes on.

    Its policy allows no connection.
    """
    _, file = pages["cifar"]
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "half.png").write_bytes(photos[0].read_bytes()[:2000])
    open_page(tab, file)
    for bad in ("notes.txt", "half.png"):
        tab.get_by_label("choose some").set_input_files(tmp_path / bad)
        tab.get_by_role("alert").get_by_text(f"{bad} cannot be read").wait_for()
    tab.evaluate(HAND_OVER, ["drop", "", ""])
    tab.get_by_role("alert").get_by_text("That was no file. Save the photo").wait_for()
    data = base64.b64encode(photos[0].read_bytes()).decode()
    for kind in ("drop", "paste"):
        tab.evaluate(HAND_OVER, [kind, f"{kind}.png", data])
        status(tab, f"{kind}.png:")
    assert tab.locator("article h2").all_inner_texts() == ["paste.png", "drop.png"]
    assert tab.get_by_role("alert").count() == 3 and quiet(tab, file)
    assert tab.evaluate("fetch('http://127.0.0.1:9').catch(() => 'refused')") == "refused"
    assert any("Content Security Policy" in problem for problem in tab.problems)


def test_no_name_does_harm(tab, pages, photos, tmp_path):
    """HTML, quotes, the end of a script, any writing; such photos are none of these."""
    run, _ = pages["cifar"]
    names = [
        "</script><script>document.title = 1</script>",
        "<!--<script>",
        "'\"&amp; $model",
        "żółć 漢字 \u2028 \u202e",
    ]
    predictor = load_model(run)
    rejection = replace(predictor.model.rejection, threshold=-1.0)
    hostile = replace(predictor.model, class_names=tuple(names), attribution=names[0], rejection=rejection)
    file = export(replace(predictor, model=hostile), tmp_path / "hostile.html")
    open_page(tab, file)
    answer = ask(tab, photos[0]).first
    assert set(
        answer.locator(".ranked span:first-child").evaluate_all("all => all.map(it => it.textContent)")
    ) == set(names)
    assert answer.get_by_text("None of these").is_visible()
    status(tab, "none of these")
    assert tab.title().startswith("</script>") and names[0] in tab.locator("footer").inner_text()
    assert quiet(tab, file)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(tab, pages, photos, tmp_path, scheme):
    """No serious violation of accessibility, nothing wider than a phone."""
    _, file = pages["cifar"]
    (tmp_path / "notes.txt").write_text("no photo")
    tab.emulate_media(color_scheme=scheme)
    open_page(tab, file)
    ask(tab, *photos[:2])
    tab.get_by_label("choose some").set_input_files(tmp_path / "notes.txt")
    tab.get_by_role("alert").wait_for()
    found = [one for one in Axe().run(tab).response["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert quiet(tab, file)


def test_another_ending_is_refused(lab, tmp_path):
    """Both that are known are named."""
    with pytest.raises(WrongUse, match=r"must end in \.onnx or \.html"):
        export(lab.study.runs[0], tmp_path / "page.htm")
