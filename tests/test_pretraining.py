import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, stripes
from safetensors import safe_open

from stockpot.backbones.backbone import load_backbone, read_model_backbone
from stockpot.errors import RecipeError
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.models import load_model
from stockpot.learning.pretraining import Pretraining, _hidden, _moved, _sides, pretrain
from stockpot.model.model_file import read_model
from stockpot.photos.cifar10 import read_cifar10


def test_it_learns(learned):
    """From random weights to most of the photos it has not seen: chance is a tenth."""
    assert learned.metrics["test"]["n"] == 100
    assert learned.metrics["test"]["accuracy"] > 0.5
    losses = [epoch["loss"] for epoch in learned.metrics["epochs"]]
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_the_file_is_what_was_measured(learned, striped):
    """Read again, its backbone and head give the accuracy that it names; filters are float16, no pickle."""
    test = read_cifar10(striped).test
    backbone = read_model_backbone(learned)
    with torch.no_grad():
        features = backbone(torch.from_numpy(test.pixels)).mean(dim=(2, 3)).numpy()
    predicted = (features @ learned.weight.T + learned.bias).argmax(axis=1)
    assert (predicted == test.labels).mean() == learned.metrics["test"]["accuracy"]
    filters = [value for value in backbone.weights().values() if value.ndim > 1]
    assert all(torch.equal(value, value.half().float()) for value in filters)


def test_the_card_names_data_recipe_and_accuracy(learned):
    """The card beside the file says what the file says; its command has every field that is not usual."""
    card = learned.path.with_suffix(".md").read_text()
    accuracy = learned.metrics["test"]["accuracy"]
    for words in (
        f"{accuracy:.2%} of 100 test photos",
        "--width 16 --channels 32 --epochs 4",
        learned.fingerprint,
    ):
        assert words in card


def test_it_predicts_and_explains_as_any_model(learned, tmp_path):
    """A pretrained file is a model file: the same engine, the same identity of map and logit."""
    path = tmp_path / "photo.png"
    path.write_bytes(stripes(3, 77))
    from stockpot.explanation.explanation import explain

    why = explain(load_model(learned.path), path)
    assert why.cam.shape == (10, 8, 8)
    assert why.residual < 1e-4


def test_what_is_finished_is_not_done_again(learned, striped):
    """The same call returns the file; another recipe never overwrites it."""
    before = learned.path.stat().st_mtime_ns
    again = pretrain("cifar10", striped, learned.path, SMALL)
    assert again.fingerprint == learned.fingerprint
    assert learned.path.stat().st_mtime_ns == before
    with pytest.raises(RecipeError, match="another recipe"):
        pretrain("cifar10", striped, learned.path, Pretraining(epochs=1))


COMMAND = [sys.executable, "-m", "stockpot", "pretrain", "cifar10", "--width", "16", "--channels", "32"]
COMMAND += ["--epochs", "4", "--batch-size", "50", "--learning-rate", "0.1", "--precision", "float32"]


def epochs_in(checkpoint: Path) -> int:
    """How many epochs a checkpoint holds; none while it is not there."""
    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, framework="numpy") as file:
        return len(json.loads(file.metadata()["state"]))


def test_killed_and_started_again_it_ends_with_the_same_weights(learned, striped, tmp_path):
    """Kill -9 after the first checkpoint; the same command goes on; every bit is that of the undisturbed run."""
    output = tmp_path / "stripes.safetensors"
    checkpoint = output.with_suffix(".checkpoint")
    command = [*COMMAND, "--data", str(striped), "--out", str(output), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not epochs_in(checkpoint) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoint.exists() and not output.exists()
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["test"]["n"] == 100
    assert read_model(output).fingerprint == learned.fingerprint
    assert np.array_equal(read_model(output).weight, learned.weight)
    assert not checkpoint.exists()


def test_a_kill_before_the_checkpoint_was_deleted_leaves_none(striped, tmp_path, monkeypatch):
    """The same call deletes it and returns the finished file."""
    recipe = dataclasses.replace(SMALL, epochs=1)
    monkeypatch.setattr(Checkpoint, "delete", lambda self: None)
    output = pretrain("cifar10", striped, tmp_path / "stripes.safetensors", recipe).path
    assert output.with_suffix(".checkpoint").exists()
    monkeypatch.undo()
    assert pretrain("cifar10", striped, output, recipe).path == output
    assert not output.with_suffix(".checkpoint").exists()


def test_a_checkpoint_of_another_recipe_is_not_used(striped, tmp_path):
    """It is named, and neither deleted nor overwritten."""
    output = tmp_path / "stripes.safetensors"

    class Stop(Exception):
        pass

    def stop(stage, done, total):
        if done > total / 2 and stage.startswith("learning"):
            raise Stop

    with pytest.raises(Stop):
        pretrain("cifar10", striped, output, SMALL, stop)
    before = output.with_suffix(".checkpoint").read_bytes()
    with pytest.raises(RecipeError, match=r"stripes\.checkpoint is of another recipe"):
        pretrain("cifar10", striped, output, dataclasses.replace(SMALL, seed=1))
    assert output.with_suffix(".checkpoint").read_bytes() == before


def test_a_damaged_checkpoint_is_named(striped, tmp_path):
    """Whoever cut it short is told to delete it."""
    (tmp_path / "stripes.checkpoint").write_bytes(b"half a file")
    with pytest.raises(RecipeError, match=r"stripes\.checkpoint is damaged.*delete it"):
        pretrain("cifar10", striped, tmp_path / "stripes.safetensors", SMALL)


def test_held_out_photos_are_measured_instead_of_the_test_photos(striped, tmp_path):
    """For decisions: a share of the training photos; the test photos are not looked at."""
    recipe = Pretraining(width=16, channels=32, epochs=1, batch_size=50, validation=0.1)
    model = pretrain("cifar10", striped, tmp_path / "held.safetensors", recipe)
    assert set(model.metrics) == {"validation", "epochs"}
    assert model.metrics["validation"]["n"] == 60
    data = read_cifar10(striped)
    learned, measured, _ = _sides(data, recipe)
    rows = [photo.tobytes() for side in (learned, measured) for photo in side.pixels]
    assert sorted(rows) == sorted(photo.tobytes() for photo in data.training.pixels)
    assert len(measured.labels) == 60


def test_a_square_of_each_photo_is_hidden():
    """In the mean color, also where it reaches over the edge; every other pixel stays."""
    pixels = torch.full((2, 32, 32, 3), 7, dtype=torch.uint8)
    hidden = _hidden(pixels, torch.tensor([[4, 10], [-5, 28]]), 8)
    assert (hidden[0, 4:12, 10:18] == torch.tensor([125, 123, 114])).all()
    assert (hidden[1, :3, 28:] == torch.tensor([125, 123, 114])).all()
    assert [(photo == 7).all(dim=2).sum() for photo in hidden] == [32 * 32 - 64, 32 * 32 - 12]
    assert torch.equal(_hidden(pixels, torch.tensor([[4, 10], [1, 1]]), 0), pixels)


def test_photos_are_moved_with_their_edges_reflected():
    """Against numpy's own reflection; mirrored after moving."""
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    shifts = torch.tensor([[0, 0], [2, -1], [-2, 2]])
    moved = _moved(pixels, torch.tensor([2, 0, 1]), shifts, torch.tensor([False, False, True]))
    padded = np.pad(pixels.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    assert np.array_equal(moved[0], pixels[2])
    assert np.array_equal(moved[1], padded[0, 4:36, 1:33])
    assert np.array_equal(moved[2], padded[1, 0:32, 4:36][:, ::-1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"validation": 1.0}, "validation 1.0"),
        ({"shift": 32}, "shift 32"),
        ({"precision": "float8"}, "precision is 'float8'"),
    ],
)
def test_a_recipe_that_cannot_be_carried_out_is_refused(change, words):
    """The field and its value."""
    with pytest.raises(RecipeError, match=words):
        Pretraining(**change)


def test_another_data_set_or_ending_is_refused(tmp_path):
    """Before anything is read."""
    with pytest.raises(RecipeError, match="choose one of: cifar10"):
        pretrain("mnist", tmp_path / "nothing", tmp_path / "x.safetensors")
    with pytest.raises(RecipeError, match=r"must end in \.safetensors"):
        pretrain("cifar10", tmp_path / "nothing", tmp_path / "x.pt")


def test_the_small_network_starts_a_linear_probe(learned):
    """`start` names its file; width and channels are read from it."""
    backbone = load_backbone("cifar", str(learned.path))
    assert backbone.num_features == 32
    assert learned.path.name in backbone.attribution
