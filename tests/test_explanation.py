import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stockpot.backbones.backbone import read_model_backbone
from stockpot.errors import PhotoError, UnreadablePhoto
from stockpot.explanation.explanation import explain, explain_files
from stockpot.explanation.selection import explain_run, farthest_first
from stockpot.learning.models import load_model
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
from stockpot.model.model_file import ModelFile
from stockpot.model.prediction import Predictor
from stockpot.photos.photo import Photo
from stockpot.photos.preprocessing import Preprocessing, read_prepared
from stockpot.photos.splits import look_at_split
from stockpot.project import open_project


def test_maps_average_to_the_logits_for_every_class_of_every_validation_photo(solar):
    """From cached maps, without computing anything again."""
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    assert len(selection.mistakes) == round((1 - solar.run.evaluation.accuracy) * solar.run.evaluation.n)
    for explanation in (*selection.correct, *(mistake.explanation for mistake in selection.mistakes)):
        assert explanation.residual < 1e-4
        assert explanation.cam.shape == (4, 8, 8)


def test_a_photo_explained_from_its_file_is_the_cached_one(solar):
    """Cached maps are those of the file."""
    predictor = load_model(solar.run)
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    for cached in selection.correct[:2]:
        fresh = explain(predictor, cached.photo)
        assert fresh.predicted == cached.predicted
        assert np.abs(fresh.cam - cached.cam).max() < 0.02 * np.abs(cached.cam).max()
        assert fresh.residual < 1e-4


def test_a_selection_is_varied_and_sorted(solar):
    """At least two correct photos a class where there are two; the surest mistakes first."""
    selection = explain_run(open_project(solar.project), solar.run, solar.split)
    right = {
        label: row[k]
        for k, (label, row) in enumerate(
            zip(solar.split.class_names, solar.run.evaluation.confusion, strict=True)
        )
    }
    for label, count in right.items():
        shown = [e for e in selection.correct if e.truth == label]
        assert len(shown) >= min(2, count)
        assert all(e.predicted == label for e in shown)
    sure = [mistake.explanation.probability for mistake in selection.mistakes]
    assert sure == sorted(sure, reverse=True)


def test_farthest_first_covers_the_corners():
    """Of a cloud with three far points those three follow the typical one."""
    cloud = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    cloud[[3, 20, 41]] = [[100, 0], [-100, 0], [0, 90]]
    assert set(farthest_first(cloud, 4)[1:]) == {3, 20, 41}
    assert farthest_first(cloud[:2], 9) in ([0, 1], [1, 0])
    assert farthest_first(cloud[:0], 3) == []


def test_pictures_are_written_one_a_file(solar, tmp_path):
    """Photos of the same name do not overwrite each other; a bad file is an answer, not an end."""
    photo = solar.split.validation[0].path
    twin = tmp_path / photo.name
    twin.write_bytes(photo.read_bytes())
    bad = tmp_path / "bad.png"
    bad.touch()
    answers = list(explain_files(solar.run, [photo, bad, twin], tmp_path / "out"))
    assert isinstance(answers[1][2], UnreadablePhoto)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{photo.stem}-why.png",
        f"{photo.stem}-2-why.png",
    }
    assert answers[0][2].overlay(longest=100).size == (100, 100)


def test_a_class_that_does_not_exist_is_refused(solar, tmp_path):
    """With the classes there are."""
    photo = solar.split.validation[0].path
    with pytest.raises(PhotoError, match="no class 'penguin'"):
        list(explain_files(solar.run, [photo], tmp_path, label="penguin"))


TRAINED = {  # by how photos become square: a small network, and the block from which on it is fine-tuned
    "squash": ("cifar", "block3"),
    "crop": ("cifar", "block3"),
    "pad": ("efficientnet_lite0", "blocks.6"),
}


@pytest.fixture(scope="module")
def oblong(cells_by_class, tmp_path_factory):
    """A project of solar cells that are cut to two thirds: half of them lie, half stand."""
    project = tmp_path_factory.mktemp("oblong") / "cells"
    for label in ("polycrystalline defective", "polycrystalline functional"):
        (project / "photos" / label).mkdir(parents=True)
        for number, file in enumerate(cells_by_class[label][::35][:8]):
            with Image.open(file) as cell:
                part = cell.crop((0, 0, 300, 200) if number % 2 else (0, 0, 200, 300))
            part.save(project / "photos" / label / file.name)
    return project


@pytest.fixture(scope="module", params=TRAINED)
def trained(request, oblong):
    """A probe and its fine-tuned tail, of photos that become square in one of the three ways."""
    backbone, block = TRAINED[request.param]
    recipe = Recipe.linear_probe(backbone, resize=request.param, epochs=3)
    probe = train(oblong, recipe, name=f"probe-{request.param}")
    tail = train(oblong, Recipe.fine_tune(probe, block, epochs=1, views=1), name=f"tail-{request.param}")
    return probe, tail


def colors(picture: Image.Image) -> np.ndarray:
    """How orange (above zero) or purple (below) every pixel is: `(H, W)`; gray is 0."""
    red, _, blue = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
    return red - blue


def in_torch(model: ModelFile) -> tuple[torch.nn.Sequential, Callable[[Photo], torch.Tensor]]:
    """The whole network as torch computes it, and what it takes of a photo: `(1, 3, S, S)`."""
    backbone = read_model_backbone(model)
    head = torch.nn.Linear(*reversed(model.weight.shape))
    head.load_state_dict({"weight": torch.from_numpy(model.weight), "bias": torch.from_numpy(model.bias)})

    def prepared(photo: Photo) -> torch.Tensor:
        return backbone.normalize(torch.tensor(read_prepared(photo.path, model.preprocessing)[None]))

    gap = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(backbone.module, *gap, head), prepared


@pytest.fixture
def one_thread():
    """Torch on one processor: on two it waits for whatever else runs on them, many times a pass."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("one_thread")
def test_maps_average_to_the_logits_however_photos_become_square(oblong, trained):
    """Frozen or fine-tuned, for every class of every validation photo; torch's whole network has these logits."""
    for run in trained:
        predictor = load_model(run)
        network, prepared = in_torch(predictor.model)
        for photo in look_at_split(oblong).validation:
            answer = explain(predictor, photo.path)
            assert answer.residual < 1e-4
            with torch.no_grad():
                expected = network(prepared(photo))[0].numpy()
            assert np.abs(answer.cam.mean(axis=(1, 2)) + predictor.model.bias - expected).max() < 1e-3


def test_color_lies_where_the_network_looked(oblong, trained):
    """Evidence in every cell colors all of a photo that is squashed or padded, and of a cropped one its middle."""
    for photo in look_at_split(oblong).validation:
        answer = explain(trained[0], photo.path)
        shown = replace(answer, cam=np.ones_like(answer.cam)).overlay(scale=1.0)
        assert shown.size == (photo.width, photo.height)
        inside = np.ones((photo.height, photo.width), bool)
        if answer.model.preprocessing.resize == "crop":
            lying = photo.width > photo.height
            inside[...] = False
            inside[(slice(None), slice(50, 250)) if lying else slice(50, 250)] = True
        assert (colors(shown)[inside] > 150).all() and (colors(shown)[~inside] == 0).all()


@pytest.mark.usefixtures("one_thread")
def test_grad_cam_gives_the_same_map(oblong, trained):
    """An independent program: over GAP and a linear head it is the map, clipped at zero and stretched to 0..1."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    for run in trained:
        predictor = load_model(run)
        network, prepared = in_torch(predictor.model)
        with GradCAM(network, [network[0]]) as oracle:
            for photo in look_at_split(oblong).validation[:2]:
                answer = explain(predictor, photo.path)
                for k, cam in enumerate(answer.cam):
                    found = oracle(prepared(photo), [ClassifierOutputTarget(k)])[0]
                    assert np.abs(found - stretched(cam, len(found))).max() < 1e-3


def stretched(cam: np.ndarray, size: int) -> np.ndarray:
    """Return what is above zero of a map, enlarged to a square, from its least to its most as 0..1."""
    above = Image.fromarray(np.maximum(cam, 0)).resize((size, size), Image.Resampling.BILINEAR)
    return (above - np.min(above)) / (1e-7 + np.ptp(above))  # nothing where all speaks against the class


class Redness:
    """An engine with one channel of 8 x 8 cells: how red each is."""

    def run(self, pixels):
        """Return features and maps of squares of 64 pixels."""
        cells = pixels.reshape(len(pixels), 8, 8, 8, 8, 3).mean(axis=(2, 4), dtype=np.float32)
        maps = (cells[..., 0] - cells[..., 2])[:, None]
        return maps.mean(axis=(2, 3)), maps


def red_or_not(resize: str) -> Predictor:
    preprocessing = Preprocessing(64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize)
    weight = np.array([[0.1], [-0.1]], np.float32)
    names = ("red", "other")
    model = ModelFile(
        Path("red"), names, "redness", "", preprocessing, {}, {}, "", weight, np.zeros(2, np.float32)
    )
    return Predictor(model, Redness())


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(320, 200), (201, 333)])
@pytest.mark.parametrize("turned", [False, True])
def test_planted_evidence_gets_the_hottest_color_at_its_place(resize, size, turned, tmp_path):
    """A red patch as large as a cell, at every cell's place in turn; also in a photo that was taken sideways."""
    predictor, (width, height) = red_or_not(resize), size
    left, top, right, bottom = predictor.model.preprocessing.box(width, height)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 1), np.uint8).repeat(3, axis=2)
    planted = 0
    for row, column in np.ndindex(8, 8):
        x0, x1 = (left + (column + i) * (right - left) / 8 for i in (0, 1))
        y0, y1 = (top + (row + i) * (bottom - top) / 8 for i in (0, 1))
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            continue  # in what is padded
        pixels = noise.copy()
        pixels[round(y0) : round(y1), round(x0) : round(x1)] = (255, 0, 0)
        answer = explain(predictor, saved(pixels, tmp_path / "planted.png", turned))
        color = colors(answer.overlay("red", scale=float(answer.cam.max())))
        assert color.shape == (height, width)
        y, x = np.unravel_index(color.argmax(), color.shape)
        assert x0 <= x < x1 and y0 <= y < y1
        assert colors(answer.overlay("other", scale=float(answer.cam.max())))[y, x] < -40
        planted += 1
    assert planted == 64 or (resize == "pad" and planted >= 32)


def saved(pixels: np.ndarray, path: Path, turned: bool) -> Path:
    """Write a photo, upright or lying on its side with a note that says so."""
    photo = Image.fromarray(pixels)
    exif = Image.Exif()
    if turned:
        photo = photo.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6  # orientation: turn it by 90 degrees, clockwise
    photo.save(path, exif=exif)
    return path


def test_what_is_padded_colors_nothing(tmp_path):
    """Evidence in the padding alone leaves the photo gray but where it borders on it, by half a cell at most."""
    predictor = red_or_not("pad")
    answer = explain(predictor, saved(np.full((128, 256, 3), 90, np.uint8), tmp_path / "wide.png", False))
    cam = np.zeros_like(answer.cam)
    cam[:, :2] = cam[:, 6:] = 5.0  # two cells above the photo and two below
    color = colors(replace(answer, cam=cam).overlay("red", scale=5.0))
    assert color.shape == (128, 256) and (color[16:-16] == 0).all() and color[0].min() > 0


ANONYMOUS = """
import sys
from pathlib import Path

from stockpot.explanation.explanation import explain_maps
from stockpot.learning.features import cached_features
from stockpot.model.model_file import read_model
from stockpot.photos.splits import look_at_split
from stockpot.project import open_project

project = open_project(sys.argv[1])
split, model = look_at_split(project.folder), read_model(Path(sys.argv[2]))
photos = split.training + split.validation
features = cached_features(project, photos, model.key, model.preprocessing, engine=None)
logits = features.pooled @ model.weight.T + model.bias
for number in range(800):
    i = number % len(photos)
    answer = explain_maps(model, photos[i].path, features.maps(i), logits[i], photos[i].label)
    assert answer.residual < 1e-4
    answer.overlay(longest=100)
    if number + 1 in (100, 800):
        print(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])
assert "torch" not in sys.modules
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc: Linux only")
def test_hundreds_of_photos_take_no_more_memory_than_a_few(solar):
    """Of 800 photos explained from cached maps, none stays in memory: 100 need as much."""
    command = [sys.executable, "-c", ANONYMOUS, str(solar.project), str(solar.run.model_path)]
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # more would only wait for each other
    printed = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=True).stdout
    after_100, after_800 = map(int, printed.split())  # KiB
    assert after_800 - after_100 < 4096
