import dataclasses
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from stockpot.errors import ModelError
from stockpot.model.model_file import (
    UNCALIBRATED,
    Calibration,
    ModelFile,
    read_backbone,
    read_model,
    write_model,
)
from stockpot.model.rejection import Rejection
from stockpot.photos.preprocessing import Preprocessing


@pytest.fixture
def model(tmp_path) -> ModelFile:
    return ModelFile(
        path=tmp_path / "model.safetensors",
        class_names=("cat", "žába"),
        backbone="xception",
        fingerprint="0123456789ab",
        preprocessing=Preprocessing(64, (1, 2, 3), (4, 5, 6), resize="pad"),
        recipe={"epochs": 3},
        metrics={"n": 10},
        attribution="somebody",
        weight=np.arange(6, dtype=np.float32).reshape(2, 3),
        bias=np.ones(2, np.float32),
        calibration=Calibration(1.25, 100, "training"),
        rejection=Rejection(np.eye(2, 3, dtype=np.float32), 0.4, 0.05, 100, "training"),
        versions={"stockpot": "0.1.0"},
    )


def test_what_is_written_is_read(model):
    """Every field and every tensor comes back."""
    write_model(model, {"conv.weight": np.full((2, 2), 7, np.float32)})
    again = read_model(model.path)
    for field in dataclasses.fields(Rejection):
        assert np.array_equal(getattr(again.rejection, field.name), getattr(model.rejection, field.name))
    for field in dataclasses.fields(ModelFile):
        if field.name == "rejection":
            continue
        assert np.array_equal(getattr(again, field.name), getattr(model, field.name))
    assert read_backbone(model.path)["conv.weight"].tolist() == [[7, 7], [7, 7]]
    assert model.path.stat().st_mode & 0o777 == 0o666 & ~0o022


def test_every_cut_of_the_file_is_refused(model):
    """A copy that broke off is one line that names the file."""
    write_model(model, {})
    whole = model.path.read_bytes()
    for length in range(0, len(whole), 13):
        model.path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="safetensors is"):
            read_model(model.path)


def test_a_file_of_somebody_else_is_refused(model):
    """Metadata that is not ours is named."""
    write_model(model, {})
    tensors = load_file(model.path)
    save_file(tensors, model.path)
    with pytest.raises(ModelError, match="not a stockpot model"):
        read_model(model.path)
    save_file(tensors, model.path, {"stockpot": json.dumps({"format": 1})})
    with pytest.raises(ModelError, match="no 'class_names'"):
        read_model(model.path)


def test_a_newer_format_is_refused(model):
    """With the command that helps."""
    write_model(model, {})
    save_file(load_file(model.path), model.path, {"stockpot": json.dumps({"format": 99})})
    with pytest.raises(ModelError, match="format 99.*pip install --upgrade"):
        read_model(model.path)


def test_a_head_of_another_shape_is_refused(model):
    """Path, expected and found."""
    write_model(dataclasses.replace(model, class_names=("a", "b", "c")), {})
    with pytest.raises(ModelError, match=r"3 classes.*\(2, 3\)"):
        read_model(model.path)


def test_a_model_of_before_says_what_it_can(model):
    """Neither calibrated nor able to say no: probabilities are as they were, and it is not known what is none."""
    write_model(dataclasses.replace(model, rejection=None), {})
    metadata = json.loads(safe_open(model.path, framework="numpy").metadata()["stockpot"])
    del metadata["calibration"]
    save_file(load_file(model.path), model.path, {"stockpot": json.dumps(metadata)})
    again = read_model(model.path)
    assert again.calibration == UNCALIBRATED and again.rejection is None


def test_what_it_knows_of_itself_must_fit(model):
    """Directions of another shape, and a temperature that is none."""
    other = dataclasses.replace(model.rejection, directions=np.ones((2, 4), np.float32))
    write_model(dataclasses.replace(model, rejection=other), {})
    with pytest.raises(ModelError, match=r"directions \(2, 4\) beside weights \(2, 3\)"):
        read_model(model.path)
    for wrong in (0.0, -1.0, float("nan")):
        write_model(dataclasses.replace(model, calibration=Calibration(wrong)), {})
        with pytest.raises(ModelError, match="damaged .temperature"):
            read_model(model.path)


def test_a_missing_file_is_named(tmp_path):
    """Not a traceback."""
    with pytest.raises(ModelError, match="no model file"):
        read_model(tmp_path / "gone.safetensors")


def test_what_cannot_be_is_refused_with_what_was_found(model):
    """A file that somebody put together: types, numbers that are none, names twice, words that mean nothing."""
    write_model(model, {})
    with safe_open(model.path, framework="numpy") as file:
        told = json.loads(file.metadata()["stockpot"])
    tensors = load_file(model.path)

    def refused(match: str, changed: dict | None = None, **other: np.ndarray) -> None:
        save_file(tensors | other, model.path, {"stockpot": json.dumps(told | (changed or {}))})
        with pytest.raises(ModelError, match=match):
            read_model(model.path)

    weight = tensors["head.weight"]
    refused(r"head\.weight of float16, expected float32", **{"head.weight": weight.astype(np.float16)})
    refused(r"head\.weight of int32, expected float32", **{"head.weight": weight.astype(np.int32)})
    refused("no numbers", **{"head.bias": np.array([1, np.nan], np.float32)})
    refused(r"class_names is .ab., expected list\[str\]", {"class_names": "ab"})
    refused(r"class_names\[0\] is 1, expected str", {"class_names": [1, 2]})
    refused("expected each once", {"class_names": ["cat", "cat"]})
    refused(
        "resize is 'bogus', expected 'squash'", {"preprocessing": told["preprocessing"] | {"resize": "bogus"}}
    )
    refused("interpolation is 'x'", {"preprocessing": told["preprocessing"] | {"interpolation": "x"}})
    refused("held_out is '<b>'", {"calibration": told["calibration"] | {"held_out": "<b>"}})
    refused("format -3, expected 1 to 1", {"format": -3})
    for number in ("2", None):
        refused("format is .*, expected int", {"format": number})
