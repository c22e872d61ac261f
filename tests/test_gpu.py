"""A GPU computes what the processor computes: `pytest -m gpu tests/test_gpu.py`. EfficientNet-Lite0 at 64 pixels.

It needs neither the photos nor the packages of the other tests, so that it runs on a borrowed machine too
(`--noconftest` there).
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from stockpot.learning.devices import find_device
from stockpot.learning.features import cached_features
from stockpot.learning.models import load_model
from stockpot.learning.precision import precision_of
from stockpot.learning.recipes import Recipe
from stockpot.learning.starting import start_classifier
from stockpot.learning.training import train
from stockpot.model.model_file import read_model
from stockpot.photos.intake import bring_in
from stockpot.photos.splits import split
from stockpot.project import open_project

pytestmark = pytest.mark.gpu
SIDES = {"processor": "cpu", "gpu": "cuda"}
SLOW = {"learning_rate": 3e-5, "precision": "float32", "keep": "last"}  # else rounding grows to 1 %
HEAD = Recipe.linear_probe("efficientnet_lite0", image_size=64, epochs=5)


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """The same photos twice: stripes of two directions in noise, ten of each."""
    folder = tmp_path_factory.mktemp("projects")
    chance = np.random.default_rng(0)
    for number in range(20):
        wave = np.sin(np.arange(96) * chance.uniform(0.3, 0.6))[:, None, None] * 50
        photo = 127 + (wave if number % 2 else wave.swapaxes(0, 1)) + chance.normal(0, 20, (96, 96, 3))
        path = folder / "photos" / ("lying" if number % 2 else "standing") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path)
    for name in SIDES:
        bring_in(folder / name, folder / "photos")
    return folder


@pytest.fixture(scope="module")
def probes(projects):
    """A head of each device on features of that device."""
    return {name: train(projects / name, HEAD, device=device) for name, device in SIDES.items()}


def features(project, run):
    sides, model = split(project), read_model(run.model_path)
    photos = sides.training + sides.validation
    return cached_features(open_project(project), photos, model.key, model.preprocessing, None).pooled


def losses(run):
    return [(epoch.training_loss, epoch.validation_loss) for epoch in run.history]


def test_a_gpu_is_found_and_preferred():
    """By its name, and where nothing is said."""
    assert find_device("cuda").type == find_device("auto").type == "cuda"


def test_frozen_features_are_those_of_the_processor(projects, probes):
    """Features, and logits of heads that learned from them, to a thousandth; the run says where it was made."""
    x, y = (features(projects / name, run) for name, run in probes.items())
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3 * np.abs(x).max())
    first, second = (load_model(run, device="cpu").logits(x) for run in probes.values())
    np.testing.assert_allclose(first, second, atol=1e-3 * np.abs(first).max())
    environment = json.loads((probes["gpu"].folder / "environment.json").read_text())
    assert environment["device"] == "cuda" and environment["engine"] == "torch cuda"


@pytest.mark.parametrize("trainable", ["blocks.5", "all"])
def test_fine_tuning_in_float32_has_the_losses_of_the_processor(projects, probes, trainable):
    """Epoch by epoch to a thousandth, from the same head; what was frozen stays, and the file says the same."""
    recipe = Recipe.fine_tune(probes["processor"], trainable, **SLOW, epochs=3)
    runs = {name: train(projects / name, recipe, device=device) for name, device in SIDES.items()}
    assert runs["gpu"].audit.passed
    np.testing.assert_allclose(losses(runs["gpu"]), losses(runs["processor"]), rtol=1e-3)
    checks = runs["gpu"].checks
    assert checks.reloaded_logits == checks.reloaded_maps == 0


def test_a_network_learns_from_scratch_with_its_statistics(projects):
    """BatchNorm in training mode, whose statistics all move; both devices begin alike."""
    recipe = Recipe.from_scratch(epochs=2, augment="none", precision="float32")
    runs = {name: train(projects / name, recipe, device=device) for name, device in SIDES.items()}
    assert runs["gpu"].audit.passed and runs["gpu"].audit.statistics_changed > 0
    np.testing.assert_allclose(losses(runs["gpu"]), losses(runs["processor"]), rtol=0.02)


def test_the_fastest_precision_of_a_gpu_learns_nearly_the_same(projects, probes):
    """The precision that is chosen there is kept with the run; losses of the first epoch agree to 5 %."""
    runs = []
    for precision in ("float32", "fastest"):
        recipe = Recipe.fine_tune(probes["gpu"], epochs=2, precision=precision)
        runs.append(train(projects / "gpu", recipe, name=precision, device="cuda"))
    module = start_classifier(HEAD, ("a", "b")).to("cuda")
    chosen = precision_of(recipe, module)
    assert chosen == ("bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32")
    assert json.loads((runs[1].folder / "environment.json").read_text())["precision"] == chosen
    np.testing.assert_allclose(losses(runs[1])[0], losses(runs[0])[0], rtol=0.05)


def test_a_stopped_training_goes_on_from_its_checkpoint(projects, probes):
    """Stopped in its second epoch and resumed, it ends with the epochs of an undisturbed one."""
    recipe = Recipe.fine_tune(probes["gpu"], **SLOW, epochs=4, batch_size=4)
    undisturbed = train(projects / "gpu", recipe, name="undisturbed", device="cuda")
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 5  # four batches an epoch

    first = train(projects / "gpu", recipe, name="stopped", device="cuda", stop=stop)
    assert first.interrupted and 0 < len(first.history) < 4
    resumed = train(projects / "gpu", recipe, name="stopped", device="cuda", resume=True)
    assert not resumed.interrupted and resumed.history[: len(first.history)] == first.history
    np.testing.assert_allclose(losses(resumed), losses(undisturbed), rtol=1e-3)
