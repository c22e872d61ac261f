import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stockpot.errors import ProjectError, UnreadablePhoto
from stockpot.explanation import shortcuts
from stockpot.explanation.shortcuts import Kept, Share, Shortcuts, evenly, look_for_shortcuts, measure_detail
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
from stockpot.model.model_file import read_backbone, read_model, write_model
from stockpot.photos.photo import Photo
from stockpot.photos.splits import look_at_split
from stockpot.project import open_project

PER_CLASS = 30
MARK = 48  # pixels of 300


def learn(folder, files, marked: bool):
    """Return a project of two classes of the same kind of cell, and a run of the small network on it."""
    for i, file in enumerate(files[: 2 * PER_CLASS]):
        photo = Image.open(file).convert("RGB")
        label = "left" if i % 2 else "right"
        if marked and label == "right":
            photo.paste((255, 0, 255), (300 - MARK, 300 - MARK, 300, 300))
        (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
        photo.save(folder / "photos" / label / f"{file.stem}.png")
    run = train(folder, Recipe.linear_probe("cifar"))
    return SimpleNamespace(project=open_project(folder), run=run, split=look_at_split(folder))


@pytest.fixture(scope="module")
def plain(cells_by_class, tmp_path_factory):
    files = cells_by_class["monocrystalline functional"]
    return learn(tmp_path_factory.mktemp("plain"), files, marked=False)


@pytest.fixture(scope="module")
def planted(cells_by_class, tmp_path_factory):
    files = cells_by_class["monocrystalline functional"]
    return learn(tmp_path_factory.mktemp("planted"), files, marked=True)


def look(place, run=None):
    return look_for_shortcuts(place.project, run or place.run, place.split)


def test_a_planted_mark_is_found_where_it_is(planted):
    """Two classes of like photos, a colored square in a corner of one: class, corner, and what it is good for."""
    found = look(planted)
    assert planted.run.evaluation.accuracy > 0.8
    assert found.found
    first = found.suspects[0]
    assert (first.label, first.place) == ("right", "bottom right")
    assert first.evidence > 3 * first.area and first.evidence > 3 * first.expected
    assert first.alone == first.n and first.others_alone <= 1
    assert "of what speaks for 'right' lies at bottom right, 6% of the area; by itself it gives" in str(found)


def test_the_same_photos_without_it_raise_nothing(plain):
    """Though a model that knows nothing has its evidence somewhere too."""
    found = look(plain)
    assert not found.found and found.suspects == ()
    assert "no shortcut seen" in str(found)


def test_every_figure_has_its_number_of_photos(planted):
    """Parts are shown of the same photos, evenly of both classes; shares are over the photos of the class."""
    found = look(planted)
    assert [one.part for one in found.kept] == ["all", "evidence", "rest", "border", "interior"]
    assert [one.area for one in found.kept] == [1, 16 / 64, 48 / 64, 28 / 64, 36 / 64]
    assert {one.n for one in found.kept} == {len(planted.split.validation)}
    whole, evidence, rest = (one.accuracy for one in found.kept[:3])
    assert whole == planted.run.evaluation.accuracy
    assert evidence > rest
    held = [photo.label for photo in planted.split.validation]
    for one in found.shares:
        assert one.n == held.count(one.label) and one.n + one.others == len(held)
        assert one.interval[0] <= one.evidence <= one.interval[1]


def seen(cams, truth, flat=False):
    """Return maps `(N, K, h, w)` as if they were of photos."""
    cams = np.asarray(cams, np.float32)
    n, k, *cells = cams.shape
    return shortcuts._Seen([], np.array(truth), cams, np.zeros(k, np.float32), np.full((n, *cells), flat))


def shares_of(maps):
    """Return the shares of the first of two classes by place."""
    return {one.place: one for one in shortcuts._share_out(maps, ("a", "b")) if one.label == "a"}


def test_shares_by_hand():
    """All that speaks for a class lies in a corner: all of its evidence is there, none in the other corners."""
    cams = np.full((12, 2, 8, 8), -1.0)
    cams[:6, 0, 6:, 6:] = 5
    cams[6:, 1, :, :4] = 1
    found = shares_of(seen(cams, [0] * 6 + [1] * 6))
    corner = found["bottom right"]
    assert (corner.evidence, corner.interval, corner.area) == (1, (1, 1), 4 / 64)
    assert (corner.alone, corner.n, corner.others_alone, corner.others) == (6, 6, 6, 6)
    assert not corner.conspicuous  # where the other class has no evidence either, both are called the same
    cams[6:, 1, 6:, 6:] = 1
    corner = shares_of(seen(cams, [0] * 6 + [1] * 6))["bottom right"]
    assert corner.others_alone == 0 and corner.conspicuous
    assert (found["border"].evidence, found["border"].area) == (3 / 4, 28 / 64)
    assert (found["bottom"].evidence, found["right"].evidence) == (1 / 2, 1 / 2)
    assert found["top"].evidence == found["left"].evidence == found["top left"].evidence == 0
    assert (found["flat"].evidence, found["flat"].area) == (0, 0) and not found["flat"].conspicuous


def test_what_is_expected_by_hand():
    """What the class has in a mirrored place, what others have in the same one, or the area, if that is less."""
    cams = np.full((4, 2, 8, 8), -1.0)
    cams[:2, 0, 7, 7], cams[:2, 0, 0, 0], cams[:2, 0, 4, 4] = 5, 1, 4
    cams[2:, 1, 7, 7], cams[2:, 1, 4, 4] = 1, 24
    found = shares_of(seen(cams, [0, 0, 1, 1]))
    assert found["bottom right"].evidence == 0.5
    assert found["bottom right"].expected == 0.1  # in the corner at the top left
    assert found["bottom right"].times == pytest.approx(9)
    assert found["top left"].expected == found["top"].expected == 0.5  # at the bottom right
    assert found["bottom left"].expected == 0.5 and found["bottom left"].times == 0
    assert found["border"].expected == found["border"].area == 28 / 64
    cams[:2, 0, 0, 0] = -1
    found = shares_of(seen(cams, [0, 0, 1, 1]))
    assert found["bottom right"].expected == 0.04  # as of the other class
    cams[2:, 1, 7, 7] = 24
    assert shares_of(seen(cams, [0, 0, 1, 1]))["bottom right"].expected == 4 / 64
    cams[2:, 1, 7, 7] = -1
    assert shares_of(seen(cams, [0, 0, 1, 1]))["bottom right"].expected == 1 / 64


def test_cells_that_are_taken_away_are_missing():
    """Of a class known by one corner alone nothing is right without it; elsewhere nothing changes."""
    cams = np.zeros((12, 2, 4, 4))
    cams[:6, 0, 0, 0], cams[:6, 1] = 50, 1
    cams[6:, 1] = 1
    found = shares_of(seen(cams, [0] * 6 + [1] * 6))
    assert (found["top left"].right, found["top left"].right_without) == (6, 0)
    assert found["top right"].right_without == 6


def test_even_evidence_is_as_expected():
    """A share that is the area's is no sign, however sure it is."""
    found = shares_of(seen(np.ones((10, 2, 8, 8)), [0, 1] * 5))
    assert len(found) == 10
    for one in found.values():
        assert one.evidence == pytest.approx(one.area) and one.expected == pytest.approx(one.area)
        assert one.times == pytest.approx(1)


def test_what_is_flat_is_another_place_in_every_photo():
    """Cells without detail, of which a photo may have none."""
    cams = np.zeros((4, 2, 2, 2))
    cams[:2, 0, 0, 0], cams[:2, 0, 1, 1] = 3, 1
    maps = seen(cams, [0, 0, 1, 1])
    maps.flat[0, 0, 0] = True
    flat = shares_of(maps)["flat"]
    assert (flat.evidence, flat.area, flat.n) == (3 / 8, 1 / 8, 2)
    assert (flat.alone, flat.others_alone) == (1, 0)


def test_a_class_that_nothing_speaks_for_has_no_shares():
    """There is nothing to share out."""
    assert shares_of(seen(np.full((4, 2, 2, 2), -1.0), [0, 0, 1, 1])) == {}


@pytest.mark.parametrize(("size", "missing"), [((2, 2), {"border"}), ((1, 3), {"top", "bottom", "border"})])
def test_small_maps_have_fewer_places(size, missing):
    """What would be all of the map is no place; corners of a map of four cells are a cell each."""
    places = shortcuts._places(*size)
    assert not missing & places.keys() and "left" in places and "top left" in places
    assert not any(mask.all() or not mask.any() for mask in places.values())


def test_a_corner_is_a_fourth_of_each_side():
    """Whatever the size of a map; the border is an eighth wide."""
    places = shortcuts._places(16, 16)
    assert places["top left"].sum() == 16 and places["top left"][:4, :4].all()
    assert places["border"].sum() == 256 - 12 * 12 and places["left"].sum() == 32


def test_a_single_cell_tells_nothing(planted):
    """None, and the model is not asked."""
    single = replace(planted.run, maps=(2048, 1, 1), folder=planted.project.folder / "nowhere")
    assert look(planted, single) is None


def test_what_was_found_is_kept(planted, monkeypatch):
    """The same value again, and no photo is looked at; where the file is damaged all is looked at again."""
    found = look(planted)
    (file,) = planted.project.shortcuts.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(shortcuts, "_look", None)
        assert look(planted) == found
    for damaged in ("{", "[]", "null", json.dumps({"version": 1}), json.dumps({"version": 0})):
        file.write_text(damaged)
        assert look(planted) == found
    assert json.loads(file.read_text("utf-8"))["kept"][0]["part"] == "all"


def test_another_model_is_looked_at_anew(planted, tmp_path):
    """Of the same name and on the same photos, but with its classes exchanged."""
    before = look(planted)
    shutil.copytree(planted.project.folder, tmp_path / "copy")
    project = open_project(tmp_path / "copy")
    run = replace(planted.run, folder=project.runs / planted.run.name)
    model = read_model(run.model_path)
    write_model(replace(model, weight=-model.weight, bias=-model.bias), read_backbone(run.model_path))
    after = look_for_shortcuts(project, run, look_at_split(project.folder))
    assert after.kept[0].right == before.kept[0].n - before.kept[0].right
    assert len(list(project.shortcuts.iterdir())) == 2


def test_a_run_on_other_photos_is_refused(planted):
    """With what to do."""
    with pytest.raises(ProjectError, match=r"changed since run 'cifar' was made: stockpot study"):
        look(planted, replace(planted.run, split_fingerprint="0" * 12))


def test_a_photo_that_changed_meanwhile_is_named(planted, tmp_path):
    """Where it cannot be read any more."""
    shutil.copytree(planted.project.folder, tmp_path / "copy")
    project = open_project(tmp_path / "copy")
    shutil.rmtree(project.shortcuts, ignore_errors=True)
    split = look_at_split(project.folder)
    split.validation[0].path.write_bytes(b"")
    run = replace(planted.run, folder=project.runs / planted.run.name)
    with pytest.raises(UnreadablePhoto, match="it changed during the work"):
        look_for_shortcuts(project, run, split)


def test_photos_are_drawn_evenly():
    """Of all classes in turn as far as they go; the order in which they come does not matter."""
    photos = [Photo(None, label, f"{i:02}", 1, 1) for label, n in (("a", 2), ("b", 9)) for i in range(n)]
    drawn = evenly(photos, 7)
    assert "".join(photo.label for photo in drawn) == "abab" + "bbb"
    assert evenly(photos[::-1], 7) == drawn and len(evenly(photos, 99)) == 11


def test_detail_by_hand():
    """A cell of two grays has half their difference, an even one nothing; cells need not be of one size."""
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[:3, :3] = 200
    pixels[0::2, 3:] = 100
    detail = measure_detail(pixels, 2, 2)
    assert detail[0, 0] == detail[1, 0] == pytest.approx(0)
    assert detail[0, 1] == pytest.approx(100 * np.sqrt(2) / 3)
    assert measure_detail(pixels, 4, 4).shape == (4, 4)


def test_the_fourth_that_speaks_most():
    """Of an odd number of cells about a fourth, never none."""
    assert shortcuts._most(np.arange(16.0).reshape(4, 4)).ravel().tolist() == [False] * 12 + [True] * 4
    assert shortcuts._most(np.array([[1.0, 2.0]])).tolist() == [[False, True]]


def test_a_place_that_does_not_tell_the_class_is_no_sign():
    """However much evidence lies there: others have it there too, or there are too few photos to say."""
    corner = Share("a", "top left", 0.4, (0.35, 0.45), 1 / 16, 1 / 16, 20, 19, 18, 9, 40, 2)
    assert corner.conspicuous
    assert not replace(corner, others_alone=36).conspicuous
    assert not replace(corner, interval=(0.1, 0.7)).conspicuous
    assert not replace(corner, expected=0.3).conspicuous
    assert not replace(corner, n=3, alone=3).conspicuous


def test_a_border_that_suffices():
    """Where it is classified far above chance, and better than what it frames: both beyond doubt."""

    def parts(border, interior, n=60):
        kept = [Kept("all", 1.0, 58, n), Kept("evidence", 0.25, 40, n), Kept("rest", 0.75, 30, n)]
        return Shortcuts(
            (), (*kept, Kept("border", 0.44, border, n), Kept("interior", 0.56, interior, n)), 1 / 3
        )

    assert parts(50, 25).found and "the border alone" in str(parts(50, 25))
    assert not parts(50, 48).found  # what it frames is as good
    assert not parts(30, 20).found  # hardly above chance
    assert not Shortcuts((), parts(50, 25).kept[:3], 1 / 3).found  # the map is all border
