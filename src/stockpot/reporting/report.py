"""The report: one self-contained page that asks nothing of the network, a section for every point of the lab."""

import datetime
import json
from collections.abc import Iterable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from stockpot import project as disk
from stockpot.photos.samples import ATTRIBUTION, is_sample
from stockpot.progress import Progress, silent
from stockpot.reporting.blocks import Blocks, Section, markup, text
from stockpot.reporting.making import tell_making
from stockpot.reporting.map_points import map_points
from stockpot.reporting.material import Material, gather
from stockpot.reporting.notes import ELSEWHERE, read_notes
from stockpot.reporting.photo_points import photo_points
from stockpot.reporting.pictures import Album
from stockpot.reporting.points import POINTS, depth
from stockpot.reporting.quality import compare_runs, evaluate
from stockpot.reporting.texts import Texts, texts
from stockpot.reporting.training_points import training_points
from stockpot.reporting.trust import believe, look_for


def write_report(
    project: Path | str,
    run: str | None = None,
    progress: Progress = silent,
    language: str = "en",
    author: str = "",
    title: str = "",
) -> Path:
    """Write `report.html` and return its path.

    Args:
        project: a project folder.
        run: name of the run; by default the one with the highest accuracy on the present validation photos.
        progress: told if feature maps have to be computed again.
        language: `"en"` or `"pl"`.
        author: whose work it is.
        title: of the report; by default what is classified.

    Raises:
        ProjectError: no project, no such run, only runs on photos that have changed, or notes that are no text.
        PhotoError: photos that no classifier can be made of.
        WrongUse: there are no texts in that language.
        Busy, FolderError: the project cannot be written.
    """
    say = texts(language)
    opened = disk.open_project(project)
    notes = read_notes(opened)
    material = gather(opened, run, progress)
    album = Album()
    sections = _sections(material, notes, album, say)
    page = _render(material, sections, album, say, author, title)
    with opened.writing():
        disk.write_bytes(opened.report, page.encode("utf-8", "backslashreplace"))
    return opened.report


def _sections(material: Material, notes: dict[str, str], album: Album, say: Texts) -> list[Section]:
    """Return every point of the lab sheet, and between them what it does not ask for."""
    points = (
        photo_points(material, album, say) | training_points(material, say) | map_points(material, album, say)
    )
    lab = {number: _point(number, points[number], notes, say) for number in POINTS}
    return [
        *(section for number, section in lab.items() if number < "6"),
        _beside("comparison", compare_runs(material, say), say),
        _beside("evaluation", evaluate(material, album, say), say),
        *(section for number, section in lab.items() if number >= "6"),
        _beside("belief", believe(material, say), say),
        _beside("shortcuts", look_for(material, say), say),
        *([_beside("notes", [markup(notes[ELSEWHERE])], say)] if ELSEWHERE in notes else []),
        _beside("making", tell_making(material, say), say),
    ]


def _point(number: str, blocks: Blocks, notes: dict[str, str], say: Texts) -> Section:
    """Return a point of the lab sheet with the author's words on it."""
    words: Blocks = []
    if number in notes:
        words = [markup(f'<div class="words-of-author"><h4>{say("page.words")}</h4>{notes[number]}</div>')]
    elif "question" in POINTS[number]:
        words = [text(say("page.no_words", number=number), "quiet")]
    title = say(f"points.{number}")
    return Section(f"point-{number}", number, title, depth(number), [*blocks, *words])


def _beside(name: str, blocks: Blocks, say: Texts) -> Section:
    return Section(name, "", say(f"{name}.heading"), 1, blocks)


def _render(
    material: Material, sections: list[Section], album: Album, say: Texts, author: str, title: str
) -> str:
    room = files("stockpot.reporting")
    evaluation, run = material.run.evaluation, material.run
    low, high = evaluation.interval
    training = len(material.split.training)
    summary = say("page.summary", accuracy=evaluation.accuracy, n=evaluation.n, low=low, high=high)
    method = say(f"page.method_{run.recipe['keep']}", run=run.name, training=training, n=evaluation.n)
    made = {
        "version": version("stockpot"),
        "date": datetime.date.today().isoformat(),
        "seed": str(run.recipe["seed"]),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stockpot.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        say=say,
        title=title or say("page.title", project=material.name),
        author=author,
        summary=summary,
        method=method,
        made=say("page.made", **made),
        attribution=ATTRIBUTION if is_sample(material.project) else "",
        sections=sections,
        photos=album.photos,
        style=Markup((room / "templates" / "report.css").read_text("utf-8")),
        scripts=list(_scripts()),
        numbers={
            "decimal": say.sentences["numbers"]["decimal"],
            "thousands": say.sentences["numbers"]["thousands"],
        },
    )


def _scripts() -> Iterable[Markup]:
    """Yield the scripts that draw charts."""
    vendor = files("stockpot.reporting") / "vendor"
    for entry in json.loads((vendor / "manifest.json").read_text("utf-8")).values():
        yield Markup((vendor / entry["file"]).read_text("utf-8"))
