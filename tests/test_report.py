import base64
import io
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from stockpot.errors import ProjectError
from stockpot.reporting.report import SECTIONS, write_report


@pytest.fixture
def page(solar) -> str:
    return solar.report.read_text("utf-8")


def test_the_report_shows_the_runs_figures(solar, page):
    """Accuracy with n and interval, every section, the licence of the photos, every epoch."""
    evaluation = solar.run.evaluation
    for figure in (evaluation.accuracy, *evaluation.interval):
        assert f"{figure * 100:.1f}\xa0%" in page
    assert f"of {evaluation.n} validation photos" in page
    assert all(f'<h2 id="{anchor}">' in page for anchor, _ in SECTIONS)
    assert "CC BY-NC-SA 4.0" in page
    curve = solar.comparison.curve.photos
    assert len(re.findall(r'<th scope="row">\d+</th>', page)) == len(solar.run.history) + len(curve)


def test_the_report_gives_nothing_away(solar, page):
    """No absolute path, no user's folder, no metadata in its pictures; under 6 MB."""
    assert str(solar.project.parent) not in page
    assert str(Path.home()) + "/" not in page
    pictures = re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) > 30
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert not image.getexif() and not image.info.keys() & {"exif", "xmp", "icc_profile", "comment"}
    assert len(page) < 6_000_000


def test_the_report_works_in_a_real_browser(solar, tab):
    """Opened from the disk it asks for nothing, reports no error, and draws every chart."""
    tab.goto(solar.report.resolve().as_uri())
    tab.wait_for_selector(".chart svg")
    tab.wait_for_function("document.querySelectorAll('.chart svg').length == 4")
    widths = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert tab.requested == [solar.report.resolve().as_uri()]
    assert tab.problems == []
    assert widths[0] <= widths[1]


def test_a_report_of_other_photos_is_refused(solar, tmp_path, make_photo):
    """Old predictions are never shown beside new photos."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    make_photo(copy / "photos" / "monocrystalline defective" / "new.png")
    with pytest.raises(ProjectError, match="changed since.*stockpot study"):
        write_report(copy)
    with pytest.raises(ProjectError, match="has no run 'best'"):
        write_report(copy, run="best")


def test_class_and_file_names_are_escaped(tmp_path, solar):
    """A folder's name is text, never markup."""
    copy = tmp_path / "a <b> & {c}"
    shutil.copytree(solar.project, copy)
    (copy / "photos" / "monocrystalline defective" / "<u>bad.jpg").write_text("x")
    page = write_report(copy).read_text("utf-8")
    assert "a &lt;b&gt; &amp; {c}" in page
    assert "<b> & {c}" not in page
    assert "/&lt;u&gt;bad.jpg: is not an image" in page and "<u>" not in page
