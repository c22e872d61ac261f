import base64
import io
import json
import re
import shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import stockpot
from stockpot.errors import ProjectError, WrongUse
from stockpot.explanation.shortcuts import Kept, Share, Shortcuts, _places
from stockpot.reporting.points import POINTS
from stockpot.reporting.report import write_report
from stockpot.reporting.texts import LANGUAGES, texts
from stockpot.reporting.trust import look_for, name_place


@pytest.fixture(scope="module")
def page(lab) -> str:
    return lab.study.report.read_text("utf-8")


@pytest.fixture(scope="module")
def sections(page) -> dict[str, str]:
    """What is inside every section of the page, by its place."""
    return dict(re.findall(r'<section id="([^"]+)".*?>(.*?)</section>', page, re.DOTALL))


DRAW_HALF = """async () => {
  const place = document.createElement("div"), half = {field: "x", type: "quantitative", format: ".1f"};
  await vegaEmbed(place, {data: {values: [{x: 0.5}]}, mark: "text", encoding: {text: half}}, options);
  return place.textContent;
}"""  # a chart by the page's own rules


def charts(html: str) -> list[dict]:
    return [json.loads(spec) for spec in re.findall(r'<script type="application/json">(.*?)</script>', html)]


@pytest.mark.parametrize("number", POINTS)
def test_every_point_of_the_lab_has_its_section(sections, number):
    """Under its number, with a heading and what its mark asks for."""
    html, marks = sections[f"point-{number}"], POINTS[number]
    assert f'<span class="number">{number}</span>' in html
    body = re.sub(r"<h\d>.*?</h\d>", "", html, count=1, flags=re.DOTALL)
    assert len(re.sub(r"<[^>]+>|\s", "", body)) > 20
    if "how" in marks:
        assert "<pre><code>" in html
    if "picture" in marks:
        assert re.search(r'<img src="data:image|<use href="#photo-', html)
    if "curves" in marks:
        fields = [str(chart).count("'value':") for chart in charts(html)[:2]]
        assert len(fields) == 2 and min(fields) >= 4, "loss and accuracy, of both sides"
        assert "loss" in str(charts(html)[0]) and "accuracy" in str(charts(html)[1])
    if "question" in marks:
        assert f"## {number} of notes.md" in html


def test_the_report_shows_the_runs_figures(lab, page, sections):
    """Accuracy with n and interval, the licence of the photos, every epoch, every run."""
    run = lab.study.run
    for figure in (run.evaluation.accuracy, *run.evaluation.interval):
        assert f"{figure * 100:.1f}\xa0%" in page
    assert f"of {run.evaluation.n} validation photos" in page
    assert "CC BY-NC-SA 4.0" in page
    probe = next(run for run in lab.study.runs if run.name == "probe")
    assert len(re.findall(r'<th scope="row">\d+</th>', sections["point-5.3"])) == len(probe.history)
    for run in lab.study.runs:
        assert f'<th scope="row">{run.name}</th>' in sections["comparison"]
    for words in (
        "Only the blocks from block12 on and the head learned",
        "stockpot study solar-cells --time-budget none",
        "0.0003, where it was 0.003 in run probe (10 times as much)",
        "chosen on these very photos",
        "Left of the dashed line, up to epoch 0: run probe",
        "fine_tune(start=probe, trainable=&#34;block12&#34;)",
    ):
        assert words in page, words


def python_of(html: str) -> list[str]:
    """The code of a page that is no command."""
    codes = map(unescape, re.findall(r"<pre><code>(.*?)</code>", html, re.DOTALL))
    return [code for code in codes if not code.startswith("stockpot ")]


def test_the_short_code_of_the_report_runs(lab, page, tmp_path, monkeypatch):
    """All that the page shows but whole trainings, in its order, as it stands there; maps add up to the logit."""
    copy = tmp_path / lab.study.project.name
    shutil.copytree(lab.study.project, copy)
    monkeypatch.chdir(tmp_path)
    names = {run.name: run for run in lab.study.runs}  # what the trainings give
    for code in python_of(page):
        exec("\n".join(line for line in code.splitlines() if "stockpot.train(" not in line), names)
    assert names["logits"].shape == (1, 4) and names["maps"].shape == (1, 2048, 8, 8)
    assert names["pixels"].shape == (1, 256, 256, 3) and names["photo"].label in names["split"].class_names
    assert abs(names["cam"].mean() + names["channels"].bias - names["why"].logits.max()) < 1e-4
    learning = [p.requires_grad for p in names["classifier"].parameters()]
    assert any(learning) and not all(learning)
    assert Path("why.png").exists() and Path("channels.png").exists()
    assert len(names["photos"]) == len(names["split"].validation)


def test_odd_projects_get_a_report(tmp_path, make_photo):
    """Hostile names, few photos of noise, maps of one cell: nothing that cannot be told is claimed."""
    project = tmp_path / 'my "best" <i>food'
    classes = ('a "quoted" <b>class', "żółć 😀")
    for k, label in enumerate(classes):
        for i in range(6):
            make_photo(project / "photos" / label / f"{i}.png", seed=10 * k + i, size=(40, 36))
    stockpot.train(project, stockpot.Recipe.linear_probe("efficientnet_lite0", image_size=32, epochs=1))
    page = write_report(project).read_text("utf-8")
    assert "<b>class" not in page and "<i>food" not in page
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    assert text.count("Maps of one cell cannot tell.") == 2
    assert "did not overfit" not in text and "of 1 run" not in text
    assert "chosen to be as different" in text or "No validation photo was classified correctly." in text
    for code in python_of(page):
        compile(code, "page", "exec")
    assert eval(re.search(r"stockpot.split\((.*), validation", unescape(page))[1]) == project.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_place_has_a_name(language):
    """Whatever the alarm may find can be said."""
    names = {name_place(place, texts(language)) for place in [*_places(8, 8), "flat"]}
    assert len(names) == len(_places(8, 8)) + 1


@pytest.mark.parametrize(("without", "tone"), [(18, "key"), (2, "bad")])
def test_a_shortcut_is_red_where_answers_hang_on_it(without, tone):
    """A place that stands out is asked about with both numbers; it is a warning where answers change without it."""
    own = Share("cat", "top right", 0.5, (0.4, 0.6), 0.06, 0.06, 20, 20, 18, without, 20, 0)
    other = Share("dog", "top right", 0.06, (0.05, 0.07), 0.06, 0.06, 20, 3, 18, 18, 20, 5)
    found = Shortcuts((own, other), (Kept("all", 1.0, 30, 40),), 0.5)
    warning = look_for(SimpleNamespace(shortcuts=found), texts("en"))[2].content
    assert warning["tone"] == tone
    assert "50\xa0% of what speaks for cat lies at the top right, on 6\xa0% of the area" in warning["text"]
    assert f"Without the cells there {without} of 20 photos of the class are given it" in warning["text"]


def test_the_report_gives_nothing_away(lab, page):
    """No absolute path, no user's folder, no metadata in its pictures, each photo once; under 6 MB."""
    assert str(lab.study.project.parent) not in page
    assert str(Path.home()) + "/" not in page
    pictures = re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)
    photos = re.findall(r'<image id="photo-\d+"[^>]* href="([^"]+)"', page)
    assert len(pictures) > 30 and len(photos) == len(set(photos)) > 15
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert not image.getexif() and not image.info.keys() & {"exif", "xmp", "icc_profile", "comment"}
    assert len(page) < 6_000_000


@pytest.mark.parametrize(("language", "width"), [("en", 1000), ("pl", 390)])
def test_the_report_works_in_a_real_browser(lab, tmp_path, tab, language, width):
    """Opened from the disk it asks for nothing, reports no error, draws every chart, and fits a phone."""
    copy = tmp_path / "solar"
    shutil.copytree(lab.study.project, copy)
    report = write_report(copy, language=language)
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(report.resolve().as_uri())
    count = len(charts(report.read_text("utf-8")))
    assert count > 10
    tab.wait_for_function(f"document.querySelectorAll('.chart svg').length == {count}")
    widths = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert tab.requested == [report.resolve().as_uri()]
    assert tab.problems == []
    assert widths[0] <= widths[1]
    assert tab.evaluate("document.documentElement.lang") == language
    assert ("0,5" if language == "pl" else "0.5") in tab.evaluate(DRAW_HALF)
    named = "svg[role=img]:not([aria-label]), img:not([alt]), svg[aria-label='']"
    assert tab.locator(named).count() == 0, "every picture has words"


def test_a_cell_of_the_matrix_leads_to_its_photos(lab, tab):
    """A click on the drawn cell, and the keyboard in the table below it; from a mistake on to its card."""
    evaluation, names = lab.study.run.evaluation, lab.study.split.class_names
    count, i, j = max(
        (count, i, j) for i, row in enumerate(evaluation.confusion) for j, count in enumerate(row) if i != j
    )
    assert count, "no mistakes, nothing to lead to"
    tab.goto(lab.study.report.resolve().as_uri())
    tab.locator("#evaluation .chart .mark-text text").nth(i * len(names) + j).click()
    tab.wait_for_url(f"**#cell-{i}-{j}")
    behind = tab.locator(f"#cell-{i}-{j}")
    assert f"{names[i]} taken for {names[j]}: {count} photo" in behind.inner_text()
    assert behind.locator("figure").count() == min(count, 12)
    behind.locator("figure a").first.click()
    tab.wait_for_url("**#mistake-*")
    cell = tab.locator(f"#evaluation details a[href='#cell-{i}-{j}']")
    tab.locator("#evaluation details summary").first.focus()
    tab.keyboard.press("Enter")
    cell.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**#cell-{i}-{j}")
    assert tab.problems == []


def test_words_of_the_author_stand_in_their_sections(lab, tmp_path):
    """Markdown, escaped; a point with words asks no more; words elsewhere are kept; author and title are shown."""
    copy = tmp_path / "solar"
    shutil.copytree(lab.study.project, copy)
    (copy / "notes.md").write_text(
        "before\n\n## 8\nThe **bright** cells. <script>alert(1)</script>\n## 77\nlost?\n"
    )
    page = write_report(copy, author="Zoë <Kowalska>", title="Cells & cracks").read_text("utf-8")
    sections = dict(re.findall(r'<section id="([^"]+)".*?>(.*?)</section>', page, re.DOTALL))
    assert "<strong>bright</strong>" in sections["point-8"] and "&lt;script&gt;" in sections["point-8"]
    assert "notes.md" not in sections["point-8"] and "## 9.1 of notes.md" in sections["point-9.1"]
    assert "before" in sections["notes"] and "lost?" in sections["notes"]
    assert "By Zoë &lt;Kowalska&gt;." in page and "<title>Cells &amp; cracks</title>" in page


def test_a_training_that_is_missing_says_how_to_do_it(solar):
    """Its points are there with code and command, and the report has a section for each all the same."""
    page = solar.report.read_text("utf-8")
    sections = dict(re.findall(r'<section id="([^"]+)".*?>(.*?)</section>', page, re.DOTALL))
    assert {f"point-{number}" for number in POINTS} <= sections.keys()
    command = "Not trained here. To do so: stockpot study solar-cells --recipes cifar --time-budget none"
    assert command in sections["point-4"] and "<pre><code>" in sections["point-4.5"]


def test_a_report_of_other_photos_is_refused(solar, tmp_path, make_photo):
    """Old predictions are never shown beside new photos."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    make_photo(copy / "photos" / "monocrystalline defective" / "new.png")
    with pytest.raises(ProjectError, match="changed since.*stockpot study"):
        write_report(copy)
    with pytest.raises(ProjectError, match="has no run 'best'"):
        write_report(copy, run="best")
    with pytest.raises(WrongUse, match="language is 'xx'; choose one of: en, pl"):
        write_report(copy, language="xx")


def test_class_and_file_names_are_escaped(tmp_path, solar):
    """A folder's name is text, never markup."""
    copy = tmp_path / "a <b> & {c}"
    shutil.copytree(solar.project, copy)
    (copy / "photos" / "monocrystalline defective" / "<u>bad.jpg").write_text("x")
    page = write_report(copy).read_text("utf-8")
    assert "a &lt;b&gt; &amp; {c}" in page
    assert "<b> & {c}" not in page
    assert "/&lt;u&gt;bad.jpg: is not an image" in page and "<u>" not in page
