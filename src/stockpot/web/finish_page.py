"""Finish: the author's words, the report, the model, and the calls that do again what was clicked."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel

from stockpot import project as disk
from stockpot.errors import ProjectError, WrongUse
from stockpot.learning.runs import read_runs
from stockpot.photos.photo import fingerprint
from stockpot.reporting.again import commands, python_lines
from stockpot.reporting.points import POINTS
from stockpot.reporting.report import write_report
from stockpot.reporting.texts import texts
from stockpot.web.desk import Desk
from stockpot.web.guard import REPORT
from stockpot.web.worker import Work


class Notes(BaseModel):
    """The author's own words."""

    text: str
    version: str  # of the file that they were written on


class Wanted(BaseModel):
    """How the report is to be."""

    run: str = ""
    language: str = "en"
    author: str = ""
    title: str = ""


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for."""
    router = APIRouter()

    @router.get("/api/finish")
    def state() -> dict[str, Any]:
        say = texts("en")
        questions = [number for number in POINTS if "question" in POINTS[number]]
        return _notes(desk.project) | {
            "questions": [{"number": number, "title": say(f"points.{number}")} for number in questions],
            "runs": [run.name for run in read_runs(desk.project)],
            "report": desk.project.report.exists(),
            "commands": commands(desk.project),
            "python": python_lines(desk.project),
        }

    @router.post("/api/finish/notes")
    def write(notes: Notes) -> dict[str, str]:
        project = disk.create_project(desk.project.folder)
        with desk.lock, project.writing():
            if notes.version != _notes(desk.project)["version"]:
                raise WrongUse(
                    "notes.md was changed elsewhere: copy your text, load the page again, and add it."
                )
            disk.write_bytes(desk.project.notes, notes.text.encode())
        return _notes(desk.project)

    @router.post("/api/finish/report")
    def report(wanted: Wanted) -> dict[str, Any]:
        texts(wanted.language)

        def do(work: Work) -> dict[str, Any]:
            run = wanted.run or None
            write_report(desk.project.folder, run, work.tell, wanted.language, wanted.author, wanted.title)
            return {}

        return desk.worker.start("report", "Writing the report", do).to_json()

    @router.get(REPORT)
    def page() -> FileResponse:
        if not desk.project.report.exists():
            raise ProjectError("There is no report yet: write one on the page Finish.")
        return FileResponse(desk.project.report)

    @router.get("/models/{run}.safetensors")
    def model(run: str) -> FileResponse:
        path = desk.run(run).model_path
        return FileResponse(path, filename=f"{desk.name}-{run}.safetensors")

    return router


def _notes(project: disk.Project) -> dict[str, str]:
    """Return the notes and what tells them from others."""
    try:
        data = disk.read_bytes(project.notes)
    except FileNotFoundError:
        data = b""
    try:
        return {"notes": data.decode("utf-8-sig"), "version": fingerprint(data)}
    except UnicodeDecodeError:
        raise ProjectError("notes.md is no text in UTF-8: save it as UTF-8.") from None
