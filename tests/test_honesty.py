"""It cannot fool itself: whole projects of real photos in which there is nothing to find, or too much."""

import io
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import losses
from PIL import Image, ImageEnhance

import stockpot as sp
from stockpot import project as disk
from stockpot.learning.runs import read_run
from stockpot.photos.samples import bring_in_samples
from stockpot.photos.splits import split

PROBE = sp.Recipe.linear_probe(backbone="cifar")


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    """160 solar cells of four classes in a project."""
    folder = tmp_path_factory.mktemp("honest") / "cells"
    bring_in_samples(folder, 40)
    return folder


def relabelled(source: Path, target: Path, labels: list[str]) -> Path:
    """A project of the same photos under other names, each in the class that is given for it."""
    for number, (file, label) in enumerate(zip(disk.class_entries(source / "photos"), labels, strict=True)):
        place = target / "photos" / label / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return target


def test_permuted_labels_give_chance(cells, tmp_path):
    """Of three permutations' held-out photos a quarter is right; of the true labels more is learned."""
    labels = [file.parent.name for file in disk.class_entries(cells / "photos")]
    right = n = 0
    for seed in range(3):
        permuted = random.Random(seed).sample(labels, len(labels))
        found = held_out(relabelled(cells, tmp_path / str(seed), permuted))
        right, n = right + found.accuracy * found.n, n + found.n
    assert n >= 230
    assert abs(right / n - 1 / 4) < 4 * deviation(n)
    true = held_out(relabelled(cells, tmp_path / "true", labels))
    assert true.accuracy - 1 / 4 > 4 * deviation(true.n)


def held_out(project: Path):
    """What a training is worth on the half of the photos that it has not seen."""
    sp.split(project, validation=0.5)
    return sp.train(project, PROBE).evaluation


def deviation(n: int) -> float:
    """The standard deviation of the accuracy of `n` guesses among four classes."""
    return (1 / 4 * 3 / 4 / n) ** 0.5


def copies(file: Path) -> dict[str, Image.Image]:
    """What becomes of a photo that is sent around."""
    with Image.open(file) as opened:
        photo = opened.convert("RGB")
    width, height = photo.size
    again = io.BytesIO()
    photo.save(again, "JPEG", quality=60)
    return {
        "jpeg": Image.open(again),
        "small": photo.resize((width * 2 // 3, height * 2 // 3)),
        "mirrored": photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "bright": ImageEnhance.Brightness(photo).enhance(1.15),
    }


def test_planted_duplicates_never_straddle(cells, tmp_path):
    """Of 20 photos four copies each: whatever the seed, all are on one side or left out."""
    folder = tmp_path / "cells"
    shutil.copytree(cells / "photos", folder / "photos")
    files = disk.class_entries(folder / "photos")
    groups = {}
    for original in random.Random(0).sample(files, 20):
        groups[original] = {original}
        for how, copy in copies(original).items():
            place = original.with_name(f"{original.stem}-{how}.png")
            copy.save(place)
            groups[original].add(place)
    for seed in range(10):
        result = split(folder, seed=seed)
        sides = [{photo.path for photo in side} for side in (result.training, result.validation)]
        torn = [original for original, group in groups.items() if group & sides[0] and group & sides[1]]
        assert not torn


def test_the_same_seed_gives_the_same_figures_everywhere(cells, tmp_path):
    """On the command line and in Python, in another folder, under other file names, copied in another order."""
    labels = [file.parent.name for file in disk.class_entries(cells / "photos")]
    moved = relabelled(cells, tmp_path / "elsewhere" / "cells", labels)
    here = sp.train(cells, PROBE)
    command = [sys.executable, "-m", "stockpot", "train", str(moved), "--backbone", "cifar", "-q"]
    subprocess.run(command, capture_output=True, text=True, check=True)
    there = read_run(moved / "runs" / "cifar")
    assert there is not None and there.evaluation == here.evaluation
    assert there.model_path.read_bytes() == here.model_path.read_bytes()
    assert losses(moved, "cifar") == losses(cells, "cifar")
