import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stockpot.backbones.weights import find_weights
from stockpot.cli import app
from stockpot.curation import checks
from stockpot.curation.checks import suspect
from stockpot.curation.curation import curate, undo
from stockpot.curation.findings import identify, read_reasons
from stockpot.curation.journal import Journal, Move
from stockpot.curation.known_by_sight import known_by_sight
from stockpot.curation.shortcuts import Looks, find_shortcut, look_at
from stockpot.errors import FolderError, WrongUse
from stockpot.photos.intake import bring_in
from stockpot.photos.photo import Photo, Refused, fingerprint
from stockpot.photos.splits import look_at_split, split
from stockpot.project import create_project, open_project
from stockpot.reporting.curation_page import write_curation_page
from stockpot.reporting.origins import describe_photos
from stockpot.reporting.texts import texts


def contents(project):
    """Return every visible file of photos and set-aside with its bytes."""
    files = [path for top in ("photos", "set-aside") for path in (project / top).rglob("*") if path.is_file()]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def filed(tmp_path):
    """A project of six files in two classes."""
    project = create_project(tmp_path / "food")
    for label in ("a", "b"):
        (project.photos / label).mkdir()
        for i in range(3):
            (project.photos / label / f"{i}.jpg").write_text(f"{label}{i}")
    return project


def aside(name):
    sha256 = fingerprint(name.replace("/", "").removesuffix(".jpg").encode())
    return Move(sha256, sha256, f"photos/{name}", f"set-aside/{name}", ("why",), ("blank",), "rule")


def test_any_step_can_be_undone(filed):
    """In any order; a file that someone put back by hand stays where it is."""
    before = contents(filed.folder)
    first, _ = Journal(filed).move([aside("a/0.jpg"), aside("b/1.jpg")])
    second, _ = Journal(filed).move([aside("a/1.jpg")])
    assert names_aside(filed) == {"a/0.jpg", "b/1.jpg", "a/1.jpg"}
    (filed.folder / "set-aside/b/1.jpg").rename(filed.photos / "b/1.jpg")
    assert names_aside(filed) == {"a/0.jpg", "a/1.jpg"}
    assert Journal(filed).undo(first) == 1
    assert names_aside(filed) == {"a/1.jpg"}
    with pytest.raises(WrongUse, match=f"no step {first} to undo; steps that stand: {second}"):
        Journal(filed).undo(first)
    assert Journal(filed).undo() == 1
    assert contents(filed.folder) == before
    with pytest.raises(WrongUse, match="steps that stand: none"):
        Journal(filed).undo()


def names_aside(project):
    return {row["target"].removeprefix("set-aside/") for row in Journal(project).set_aside}


def test_undo_touches_nothing_else(filed):
    """Another file under the name that was set aside stays; an occupied place gets a neighbour."""
    step, _ = Journal(filed).move([aside("a/0.jpg"), aside("a/1.jpg"), aside("b/0.jpg")])
    (filed.folder / "set-aside/a/0.jpg").write_text("somebody's")
    (filed.photos / "a/1.jpg").write_text("newer")
    assert Journal(filed).undo(step) == 2
    found = {name: data.decode() for name, data in contents(filed.folder).items()}
    assert found["set-aside/a/0.jpg"] == "somebody's" and found["photos/a/1.jpg"] == "newer"
    assert found["photos/a/1-2.jpg"] == "a1" and found["photos/b/0.jpg"] == "b0"


def test_a_file_that_moved_twice_comes_back_in_order(filed):
    """The later step has to be undone first; a class that was made for it is gone again."""
    before = contents(filed.folder)
    sha256 = fingerprint(b"a0")
    first, _ = Journal(filed).move([Move(sha256, sha256, "photos/a/0.jpg", "photos/new/0.jpg")])
    second, _ = Journal(filed).move([Move(sha256, sha256, "photos/new/0.jpg", "set-aside/new/0.jpg")])
    with pytest.raises(
        WrongUse, match=f"Step {second} moved files of step {first} again: undo {second} first"
    ):
        Journal(filed).undo(first)
    assert [Journal(filed).undo(step) for step in (second, first)] == [1, 1]
    assert contents(filed.folder) == before and not (filed.photos / "new").exists()


def test_a_file_that_cannot_be_moved_holds_up_no_other(filed, monkeypatch):
    """It is named, the others are moved, and the step can be undone."""
    before = contents(filed.folder)
    rename = Path.rename

    def refusing(self, target):
        if self.name == "0.jpg":
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    step, _ = Journal(filed).move([aside("b/0.jpg"), aside("b/1.jpg")])
    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(FolderError, match="1 files could not be moved, 1 were"):
        Journal(filed).undo(step)  # the other is there
    with monkeypatch.context() as later:
        later.setattr(Path, "rename", rename)
        assert Journal(filed).undo(step) == 1
    assert contents(filed.folder) == before
    with pytest.raises(
        FolderError, match=r"1 files could not be moved, 1 were; the first: photos/a/0.jpg \(Inv"
    ):
        Journal(filed).move([aside("a/0.jpg"), aside("a/1.jpg")])
    assert names_aside(filed) == {"a/1.jpg"}
    assert Journal(filed).undo() == 1
    assert contents(filed.folder) == before


def test_what_was_taken_back_is_not_set_aside_any_more(filed):
    """A copy that lies in set-aside/ still does not count once the photo itself was taken back."""
    (filed.photos / "a/copy.jpg").write_text("a0")
    first, _ = Journal(filed).move([aside("a/0.jpg")])
    sha256 = fingerprint(b"a0")
    Journal(filed).move([Move(sha256, sha256, "photos/a/copy.jpg", "set-aside/a/copy.jpg")])
    Journal(filed).undo(first)
    assert not Journal(filed).verdicts and names_aside(filed) == {"a/copy.jpg"}


def test_what_changed_while_it_was_looked_at_is_not_moved(filed):
    """Other bytes, gone, or its place is taken: passed over, not counted, and no part of the step."""
    moves = [aside("a/0.jpg"), aside("a/1.jpg"), aside("a/2.jpg"), aside("b/0.jpg")]
    (filed.photos / "a/0.jpg").write_text("edited")
    (filed.photos / "a/1.jpg").unlink()
    (filed.folder / "set-aside/a").mkdir(parents=True)
    (filed.folder / "set-aside/a/2.jpg").write_text("another")
    before = contents(filed.folder)
    step, moved = Journal(filed).move(moves)
    assert moved == 1 and names_aside(filed) == {"b/0.jpg"}
    assert Journal(filed).undo(step) == 1
    assert contents(filed.folder) == before


def test_a_file_that_came_back_under_another_name_goes_on_coming_back(filed):
    """Moved, set aside, its place taken meanwhile: undoing both leads it home."""
    sha256 = fingerprint(b"a0")
    first, _ = Journal(filed).move([Move(sha256, sha256, "photos/a/0.jpg", "photos/b/9.jpg")])
    second, _ = Journal(filed).move([Move(sha256, sha256, "photos/b/9.jpg", "set-aside/b/9.jpg")])
    (filed.photos / "b/9.jpg").write_text("another")
    assert [Journal(filed).undo(second), Journal(filed).undo(first)] == [1, 1]
    assert (filed.photos / "a/0.jpg").read_text() == "a0" and (
        filed.photos / "b/9.jpg"
    ).read_text() == "another"


def test_undo_that_was_killed_is_not_done_twice(filed):
    """Asked for again it is finished, and the step before it stays."""
    first, _ = Journal(filed).move([aside("a/0.jpg")])
    Journal(filed).move([aside("a/1.jpg")])
    Journal(filed).undo()
    whole = filed.journal.read_text().splitlines(keepends=True)
    (filed.photos / "a/1.jpg").rename(filed.folder / "set-aside/a/1.jpg")
    filed.journal.write_text("".join(whole[:-1]))  # killed before it was moved
    assert undo(filed.folder) == 1
    assert list(Journal(filed).standing) == [first] and (filed.photos / "a/1.jpg").exists()


def test_two_files_under_one_name_are_not_one(filed):
    """What was deleted from set-aside/ by hand is no verdict any more, whatever lies there now."""
    Journal(filed).move([aside("a/0.jpg")])
    (filed.folder / "set-aside/a/0.jpg").unlink()
    (filed.photos / "a/0.jpg").write_text("newer")
    newer = fingerprint(b"newer")
    Journal(filed).move([Move(newer, newer, "photos/a/0.jpg", "set-aside/a/0.jpg", ("x",), ("off topic",))])
    assert [row["sha256"] for row in Journal(filed).set_aside] == [newer] == list(Journal(filed).verdicts)


@pytest.mark.parametrize(("lines", "moved"), [(1, 0), (2, 0), (2, 1), (2, 2)])
def test_a_step_that_was_cut_short_is_finished(filed, lines, moved):
    """Cut after a line of its journal, or with some files moved: the next one moves the rest, forth or back."""
    before = contents(filed.folder)
    Journal(filed).move([aside("a/0.jpg"), aside("b/1.jpg")])
    whole = filed.journal.read_text().splitlines(keepends=True)
    for name in ("a/0.jpg", "b/1.jpg")[moved:]:  # not moved yet
        (filed.folder / "set-aside" / name).rename(filed.photos / name)
    filed.journal.write_text("".join(whole[:lines]))
    again = Journal(filed)
    again.finish()
    names = [row["target"] for row in again.standing[1]]
    assert all((filed.folder / name).exists() for name in names) and len(names) == lines
    assert Journal(filed).undo() == lines
    whole = filed.journal.read_text().splitlines(keepends=True)
    for row in [row for row in Journal(filed).rows if "undoes" in row and "target" in row][:moved]:
        (filed.folder / row["target"]).parent.mkdir(exist_ok=True)
        (filed.folder / row["source"]).parent.mkdir(parents=True, exist_ok=True)
        (filed.folder / row["target"]).rename(filed.folder / row["source"])  # not back yet when it was cut
    filed.journal.write_text("".join(whole[:-1]) + '{"step": 2, "do')
    Journal(filed).finish()
    assert not Journal(filed).standing
    assert contents(filed.folder) == before


def test_killed_at_any_moment_nothing_is_lost(tmp_path):
    """Ten times kill -9 while 300 files move; afterwards each is in one place, and all can come back."""
    project = create_project(tmp_path / "many")
    (project.photos / "a").mkdir()
    for i in range(300):
        (project.photos / f"a/{i}.jpg").write_text(str(i))
    before = contents(project.folder)
    code = (
        "import sys; from stockpot.curation.journal import *; from stockpot.project import open_project\n"
        "project = open_project(sys.argv[1]); journal = Journal(project); journal.finish()\n"
        "files = sorted((project.photos / 'a').glob('*'))\n"
        "sha256 = lambda f: fingerprint(f.read_bytes())\n"
        "move = lambda f: Move(sha256(f), sha256(f), f'photos/a/{f.name}', f'set-aside/a/{f.name}')\n"
        "moves = [move(f) for f in files]\n"
        "print('ready', flush=True)\n"
        "journal.move(moves) if files else journal.undo()\n"
    )
    for moment in range(10):
        running = subprocess.Popen([sys.executable, "-c", code, project.folder], stdout=subprocess.PIPE)
        running.stdout.readline()
        time.sleep(moment / 1000)
        running.kill()
        running.wait()
        running.stdout.close()
        assert sorted(contents(project.folder).values()) == sorted(before.values())
    journal = Journal(project)
    journal.finish()
    assert journal.rows  # not all were killed before they had begun
    for step in sorted(journal.standing, reverse=True):
        journal.undo(step)
    assert contents(project.folder) == before


@pytest.fixture(scope="module")
def dirty(shared, tmp_path_factory):
    """The photos with documented problems, curated for what is certain; and the problems by file."""
    project = tmp_path_factory.mktemp("dirty") / "food"
    bring_in(project, shared / "dirty_food3")
    found = curate(project)
    with (shared / "dirty_food3.dirty.csv").open(newline="") as file:
        issues = {row["file"]: row["issue"] for row in csv.DictReader(file)}
    return project, found, issues


DROPPED = {"truncated_jpeg", "html_as_jpg", "empty_file", "not_an_image", "svg_as_jpg"}
TINY = {"tiny_image", "one_pixel", "extreme_aspect", "blank_image"}


def test_what_is_certain_is_all_there_and_nothing_else(dirty):
    """Unreadable files, second copies, tiny and blank photos: all of them, and no clean photo."""
    _, found, issues = dirty
    certain = {one.name for one in found.findings if one.certain}
    kinds = Counter(issues.get(name, "clean") for name in certain)
    assert set(kinds) == DROPPED | TINY | {"exact_duplicate"}
    unreadable = {one.name for one in found.findings if one.rule == "unreadable"}
    assert {issues[name] for name in unreadable} == DROPPED | {"decompression_bomb"}
    assert len(unreadable) == sum(issue in DROPPED | {"decompression_bomb"} for issue in issues.values())
    for kind, count in Counter(issues.values()).items():
        if kind in kinds:
            assert kinds[kind] == count, kind


def test_what_does_not_belong_is_ranked_first(dirty):
    """Off topic and wrong class: at least four of five among the first tenth of the photos."""
    _, found, issues = dirty
    certain = {one.path for one in found.findings if one.certain}
    ranked = [photo for photo in found.photos if photo.path not in certain]
    first = ranked[: round(0.1 * len(ranked))]
    kinds = Counter(issues.get(f"{photo.label}/{photo.path.name}", "clean") for photo in first)
    wanted = Counter(issues.values())
    hits, all_of_them = (counts["off_topic"] + counts["wrong_class"] for counts in (kinds, wanted))
    assert all_of_them == 42 and hits / all_of_them >= 0.8


def test_copies_in_two_classes_are_a_question(dirty):
    """Neither is certain, both are named with the other class."""
    _, found, issues = dirty
    both = [one for one in found.findings if one.rule == "two classes" and "same file" in one.reason]
    assert {name for name, kind in issues.items() if kind == "exact_duplicate_cross_class"} <= {
        one.name for one in both
    }
    assert not any(one.certain for one in both)


def test_what_a_model_had_against_a_photo_is_kept(dirty, tmp_path):
    """For the report, as long as the photo is in that class; a damaged file says nothing."""
    project, found, _ = dirty
    wrong = next(one for one in found.findings if one.rule == "wrong label")
    photo = next(photo for photo in found.photos if photo.path == wrong.path)
    assert read_reasons(open_project(project), photo) == [wrong.reason]
    assert read_reasons(open_project(project), replace(photo, label=wrong.suggested)) == []
    other = create_project(tmp_path / "other")
    assert read_reasons(other, photo) == []
    other.cache.mkdir()
    other.findings.write_text('[{"sha256": ')
    assert read_reasons(other, photo) == []


def test_what_is_certain_goes_and_comes_back(dirty, tmp_path):
    """`auto` moves it, a second time there is nothing to do, undo restores every byte."""
    project, found, _ = dirty
    copy = tmp_path / "food"
    shutil.copytree(project, copy)
    before = contents(copy)
    done = curate(copy, auto=True)
    assert done.moved == len({one.path for one in found.findings if one.certain})
    assert sorted(contents(copy).values()) == sorted(before.values())
    assert not any(one.certain for one in done.findings)
    assert curate(copy, auto=True).step is None
    assert undo(copy) == done.moved
    assert contents(copy) == before


def test_a_verdict_holds_when_the_photo_comes_again(dirty, tmp_path):
    """Set aside by hand, then brought in under another name: certain to go again; a move changes the class."""
    project, found, _ = dirty
    copy = tmp_path / "food"
    shutil.copytree(project, copy)
    wrong = next(one for one in found.findings if one.rule == "wrong label")
    other = next(one for one in found.findings if one.rule == "off topic")
    curate(copy, set_aside=[other.identifier], move={wrong.identifier: wrong.suggested})
    assert (copy / "photos" / wrong.suggested / wrong.path.name).exists()
    gone = copy / "set-aside" / other.path.parent.name / other.path.name
    shutil.copy(gone, copy / "photos" / other.path.parent.name / "again.jpg")
    (again,) = [one for one in curate(copy).findings if one.rule == "set aside before"]
    assert again.certain and again.path.name == "again.jpg" and other.reason in again.reason
    shutil.copy(gone, copy / "photos" / wrong.path.parent.name / "elsewhere.jpg")
    asked = [one for one in curate(copy).findings if one.rule == "set aside before"]
    assert {one.path.name: one.certain for one in asked} == {"again.jpg": True, "elsewhere.jpg": False} or (
        other.path.parent.name == wrong.path.parent.name
    )
    undo(copy, "all")
    assert (copy / "photos" / wrong.name).exists() and not gone.exists()


def test_wrong_use(dirty):
    """Sentences, and nothing is moved."""
    project, found, _ = dirty
    with pytest.raises(WrongUse, match="'12345678' names no photo that is there now"):
        curate(project, set_aside=["12345678"])
    with pytest.raises(WrongUse, match="cannot name a class"):
        curate(project, move={found.findings[0].identifier: "../up"})
    one = next(one for one in found.findings if one.rule == "off topic")
    with pytest.raises(WrongUse, match=f"is in class {one.path.parent.name} already"):
        curate(project, move={one.identifier: one.path.parent.name})
    with pytest.raises(WrongUse, match="to be set aside and to be moved: choose one"):
        curate(project, set_aside=[one.identifier], move={one.identifier: "other"})
    assert not open_project(project).journal.exists()


def test_suspicion_finds_a_planted_mistake():
    """Two clouds, one point with the wrong label, one far from both: they are the first two."""
    chance = np.random.default_rng(0)
    labels = np.arange(80) % 2
    features = chance.normal(size=(80, 40)).astype(np.float32) + 3 * labels[:, None]
    labels[7] = 1 - labels[7]
    features[12] = 12 * np.tile([1, -1], 20)
    found = suspect(features, labels, [str(i) for i in range(80)])
    assert set(np.argsort(-found.rank)[:2]) == {7, 12}
    assert found.likely[7] != labels[7]


def test_a_shortcut_is_found_where_there_is_one():
    """Bright against dark photos; not where brightness is chance."""
    chance = np.random.default_rng(0)
    labels = np.arange(200) % 2
    names = ["ab"[k] for k in labels]
    values = chance.normal(size=(200, 6))
    groups = [str(i) for i in range(200)]
    looks = [Looks(*row) for row in values]
    assert not find_shortcut(looks, names, groups).found
    bright = [
        look._replace(brightness=look.brightness + 2 * k) for look, k in zip(looks, labels, strict=True)
    ]
    found = find_shortcut(bright, names, groups)
    assert found.found and found.by == "brightness" and found.accuracy > 0.75 and found.n == 200
    assert find_shortcut(bright, names, [str(i % 100) for i in range(200)]).n == 100
    assert find_shortcut(looks[:18], names[:18], groups[:18]) is None


def test_many_photos_of_one_class_are_no_shortcut():
    """Always saying the largest class is not better than chance."""
    chance = np.random.default_rng(1)
    names = ["a"] * 180 + ["b"] * 20
    looks = [Looks(*row) for row in chance.normal(size=(200, 6))]
    found = find_shortcut(looks, names, [str(i) for i in range(200)])
    assert not found.found and found.chance == 0.5 and abs(found.accuracy - 0.5) < 0.1


def test_sight_confirms_and_dismisses_names():
    """Features made of the layer's own rows are seen as what they are; a solar cell is no phone."""
    layer = find_weights("efficientnet_lite0", "imagenet").tensors["_fc.weight"]
    features = np.stack([layer[207] * 30] * 10 + [layer[949] * 30] * 20)
    labels = ["golden retrievers"] * 10 + ["solar cell"] * 20
    found = {(one.label, one.index): one.verdict for one in known_by_sight(features, labels)}
    assert found == {
        ("golden retrievers", 207): "confirmed",
        ("solar cell", 487): "dismissed",
        ("solar cell", 949): "added",
    }
    few = known_by_sight(np.stack([layer[949] * 30] * 5), ["solar cell"] * 5)
    assert [one.verdict for one in few] == ["unclear"]  # five photos dismiss nothing and add nothing


def test_solar_cells_are_no_phones(cells_by_class, tmp_path):
    """On the demo set's photographs the match of a word is dismissed by looking."""
    for label in ("solar cell", "other"):
        (tmp_path / "cells" / label).mkdir(parents=True)
    names = iter(cells_by_class.items())
    for label in ("solar cell", "other"):
        for file in next(names)[1][:40]:
            shutil.copy(file, tmp_path / "cells" / label)
    bring_in(tmp_path / "solar", tmp_path / "cells")
    (one,) = [sight for sight in curate(tmp_path / "solar").sights if sight.index == 487]
    assert one.verdict == "dismissed" and one.share <= 0.05 and one.n >= 12


def test_a_blank_photo_in_a_class_of_two(tmp_path):
    """Classes too small to judge by features still have their certain findings."""
    for label in ("a", "b"):
        for i in range(3):
            noise = np.random.default_rng(10 * ord(label) + i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            (tmp_path / "in" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(tmp_path / "in" / label / f"{i}.png")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "in" / "a" / "white.png")
    bring_in(tmp_path / "p", tmp_path / "in")
    found = curate(tmp_path / "p")
    (one,) = found.findings
    assert (one.rule, one.certain, one.name) == ("blank", True, "a/white.png")
    assert found.unjudged == ("a", "b") and found.shortcut is None
    emptied = curate(tmp_path / "p", set_aside=[identify(photo.path, photo.sha256) for photo in found.photos])
    assert emptied.moved == 7 and not emptied.photos and not emptied.findings
    assert undo(tmp_path / "p") == 7


@pytest.mark.parametrize(("text", "blank"), [(False, True), (True, False)])
def test_little_contrast_is_not_blank(tmp_path, text, blank):
    """A word on a white page is something; noise of a few values is nothing."""
    pixels = np.random.default_rng(0).integers(240, 246, (400, 400, 3), dtype=np.uint8)
    if text:
        pixels[190:195, 180:220] = 60
    Image.fromarray(pixels).save(tmp_path / "page.png")
    page = tmp_path / "page.png"
    photo = Photo(page, "a", fingerprint(page.read_bytes()), 400, 400)
    assert bool(list(checks.blank([photo], {photo.sha256: look_at(photo).range}))) is blank


def test_the_largest_of_a_chain_stays(tmp_path):
    """A like B like C: the largest stays, what is only like one that goes stays too."""
    photos = [
        Photo(tmp_path / name, "a", name, size, 100) for name, size in (("x", 300), ("y", 200), ("z", 100))
    ]
    found = list(checks.near(photos, [("x", "y"), ("y", "z")]))
    assert [(one.path.name, one.reason.split()[4]) for one in found] == [("y", f"{tmp_path.name}/x,")]


def test_a_file_that_something_can_be_done_about_is_no_certain_finding(tmp_path):
    """Damaged: certain; too large or HEIC: a question; what could not be read at all: nothing to say."""
    reasons = ["is damaged (cut)", "has more than 5 pixels (3 x 2): shrink it", "cannot be opened (rights)"]
    refused = [
        Refused(tmp_path / str(i), reason, "" if i == 2 else "sha") for i, reason in enumerate(reasons)
    ]
    assert [one.certain for one in checks.unreadable(refused)] == [True, False]


def test_the_page_gives_the_command(dirty, tmp_path, tab, monkeypatch):
    """All photos with their reasons; what is ticked becomes a command that does it; undo takes it back."""
    project, found, _ = dirty
    copy = tmp_path / "our food"
    shutil.copytree(project, copy)
    before = contents(copy)
    monkeypatch.chdir(tmp_path)
    page = write_curation_page(copy, found)
    assert not re.search(r"src=.http|href=.http", page.read_text("utf-8"))
    tab.goto(page.resolve().as_uri())
    assert tab.locator(".photo").count() == len(found.photos) + sum(
        one.rule == "unreadable" for one in found.findings
    )
    shown = tab.locator(".photo img").evaluate_all(
        "all => all.every(one => one.complete && one.naturalWidth)"
    )
    assert shown
    assert tab.locator("#copy").is_disabled()
    wrong = next(one for one in found.findings if one.rule == "wrong label")
    other = next(one for one in found.findings if one.rule == "off topic")
    tab.locator(f"[data-aside='{wrong.identifier}']").check()
    tab.locator(f"[data-move='{wrong.identifier}={wrong.suggested}']").check()  # instead
    tab.locator(f"[data-aside='{other.identifier}']").check()
    words = shlex.split(tab.locator("#command").inner_text())
    assert tab.requested == [page.resolve().as_uri()] and tab.problems == []
    assert words[:3] == ["stockpot", "curate", "our food"]
    told = json.loads(CliRunner().invoke(app, [*words[1:], "--json"]).stdout)
    assert told["moved"] == 2 and {one["action"] for one in told["findings"]} >= {"set aside"}
    assert (copy / "set-aside" / other.name).exists()
    assert (copy / "photos" / wrong.suggested / wrong.path.name).exists()
    back = CliRunner().invoke(app, ["curate", str(copy), "--undo", str(told["step"]), "--json"])
    assert json.loads(back.stdout)["put_back"] == 2
    assert contents(copy) == before


def test_the_report_says_what_was_set_aside(dirty, tmp_path):
    """How many, by which rules, and how many validation photos that took away."""
    project, found, _ = dirty
    copy = tmp_path / "food"
    shutil.copytree(project, copy)
    curate(copy, auto=True)
    sides = split(copy)
    held = {photo.sha256 for photo in sides.validation}
    misfits = [one for one in found.findings if one.rule in ("off topic", "wrong label")]
    gone = [one for one in misfits if one.sha256 in held]
    curate(copy, set_aside=sorted({one.identifier for one in misfits}))
    sides = look_at_split(copy)
    about = describe_photos(open_project(copy), sides, texts("en"))
    count, validation, flattered = about["curated"]
    assert f"{sum(one.rule == 'off topic' for one in misfits)} off topic" in count
    assert f"{len(gone)} of the validation photos were set aside, {len(gone)} of them by rules" in validation
    assert "flattered" in flattered
    assert about["origins"] == [("own photos", "", len(sides.training + sides.validation))]
    assert any("are seen as ImageNet class" in sentence for sentence in about["known"])
    undo(copy, "all")
    assert describe_photos(open_project(copy), look_at_split(copy), texts("en"))["curated"] == []
    agreed = [one for one in misfits if one.suggested and one.sha256 in held]
    curate(copy, move={one.identifier: one.suggested for one in agreed})
    about = describe_photos(open_project(copy), look_at_split(copy), texts("en"))
    assert about["curated"][0].startswith(f"{len(agreed)} of the validation photos were moved to the class")


def test_of_two_copies_one_stays(tmp_path):
    """Whichever is ticked, the other is not taken with it, then or later."""
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        (tmp_path / "in/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(tmp_path / f"in/a/{i}.png")
    shutil.copy(tmp_path / "in/a/1.png", tmp_path / "in/a/2.png")
    bring_in(tmp_path / "p", tmp_path / "in")
    first, second = (
        identify(photo.path, photo.sha256)
        for name in ("1.png", "2.png")
        for photo in curate(tmp_path / "p").photos
        if photo.path.name == name
    )
    for ticked in (first, second):
        done = curate(tmp_path / "p", auto=True, set_aside=[ticked])
        assert done.moved == 1 and not any(one.certain for one in done.findings)
        assert curate(tmp_path / "p", auto=True).moved == 0
        undo(tmp_path / "p")


@pytest.mark.parametrize("label", [".", "..", "/tmp", "a/b", ".hidden"])
def test_a_photo_does_not_leave_the_photos(tmp_path, label):
    """No class is a path."""
    (tmp_path / "in/a").mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "in/a/1.png")
    bring_in(tmp_path / "p", tmp_path / "in")
    (photo,) = curate(tmp_path / "p").photos
    with pytest.raises(WrongUse, match="cannot name a class"):
        curate(tmp_path / "p", move={identify(photo.path, photo.sha256): label})


def test_copies_of_a_question_stay_a_question(tmp_path):
    """Set aside by hand in one class, brought twice into another: `auto` takes the second, never both."""
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for label in "ab":
            (tmp_path / "in" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise + ord(label)).save(tmp_path / "in" / label / f"{i}.png")
    project = tmp_path / "p"
    bring_in(project, tmp_path / "in")
    one = next(photo for photo in curate(project).photos if photo.path.parent.name == "a")
    curate(project, set_aside=[identify(one.path, one.sha256)])
    for name in ("p1.png", "p2.png"):
        shutil.copy(project / "set-aside/a" / one.path.name, project / "photos/b" / name)
    assert [curate(project, auto=True).moved for _ in range(2)] == [1, 0]
    assert (project / "photos/b/p1.png").exists()


def test_of_copies_one_may_move(tmp_path):
    """The first goes to another class, `auto` takes the others: the photo is there once."""
    for label in "ab":
        noise = np.random.default_rng(ord(label)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        (tmp_path / "in" / label).mkdir(parents=True)
        Image.fromarray(noise).save(tmp_path / "in" / label / "1.png")
    for name in ("2.png", "3.png"):
        shutil.copy(tmp_path / "in/a/1.png", tmp_path / "in/a" / name)
    bring_in(tmp_path / "p", tmp_path / "in")
    first = next(
        identify(photo.path, photo.sha256)
        for photo in curate(tmp_path / "p").photos
        if (photo.label, photo.path.name) == ("a", "1.png")
    )
    assert curate(tmp_path / "p", auto=True, move={first: "b"}).moved == 3
    undo(tmp_path / "p")
    assert curate(tmp_path / "p", auto=True, set_aside=[first]).moved == 2  # one copy stays


def test_wrong_use_on_the_command_line(dirty):
    """One line each, and nothing is moved."""
    project, _, _ = dirty
    for words, sentence in {
        ("--undo", "last", "--auto"): "--undo goes by itself",
        ("--undo", "first"): "expected the number of a step, last or all",
        ("--undo", "7"): "There is no step 7 to undo",
        ("--move", "12345678"): "expected IDENTIFIER=CLASS",
    }.items():
        result = CliRunner().invoke(app, ["curate", str(project), *words])
        assert result.exit_code == 2 and sentence in " ".join(result.stderr.split())
