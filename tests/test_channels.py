from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stockpot.errors import PhotoError, WrongUse
from stockpot.explanation.channels import Channels
from stockpot.explanation.explanation import explain, explain_files
from stockpot.learning.models import load_model
from stockpot.photos.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(64, (0, 0, 0), (1, 1, 1))


@pytest.fixture
def three(tmp_path) -> Channels:
    """Three channels of 2 x 2 cells whose sums can be done in one's head."""
    maps = np.array([[[4, 0], [0, 0]], [[0, 8], [0, 0]], [[1, 1], [1, 1]]], np.float32)
    weight = np.array([1, -2, 0.5], np.float32)
    Image.new("RGB", (64, 32)).save(tmp_path / "cat.png")
    return Channels("cat", maps, weight, 0.25, tmp_path / "cat.png", PREPROCESSING)


def test_channels_sum_up_to_the_logit(three):
    """By hand: 1 x 1 - 2 x 2 + 0.5 x 1 + 0.25."""
    assert three.contributions.tolist() == [1, -4, 0.5]
    assert three.logit == 1 - 4 + 0.5 + 0.25
    assert three.strongest(2) == [1, 0]
    assert three.running_logit(1) == -3.75 and three.running_logit(3) == three.logit
    assert three.running_map(1).tolist() == [[0, -16], [0, 0]]
    assert three.running_map(3).tolist() == [[4.5, -15.5], [0.5, 0.5]]
    assert three.counts == (1, 3)
    assert three.to_json(1) == [{"channel": 1, "weight": -2, "mean": 2, "contribution": -4}]
    with pytest.raises(WrongUse, match="channels is 0"):
        three.strongest(0)


def test_others_are_not_the_strongest(three):
    """What is drawn by chance is drawn from the rest; more than there are is all of them."""
    assert three.arbitrary(9, but=1) == [0, 2]
    assert three.arbitrary(9) == [0, 1, 2] and three.arbitrary(9, but=3) == []
    assert three.strongest(9) == [1, 0, 2]


def test_a_tile_shows_where_a_channel_is_active(three):
    """Cell by cell, on one scale for all that are shown: the strongest cell is white."""
    first, second = (np.asarray(tile) for tile in three.tiles([0, 1], pixels=8))
    assert (first[:4, :4] == 128).all() and (second[:4, 4:] == 255).all()
    assert first.sum() == 128 * 16 and second.sum() == 255 * 16


def test_the_running_sum_ends_as_the_map(solar):
    """On a real photo: all 2048 channels are the map, and the logit is that of the prediction."""
    answer = explain(load_model(solar.run), solar.split.validation[0].path)
    for k, label in enumerate(answer.class_names):
        channels = answer.channels(label)
        assert channels.counts == (1, 10, 100, 2048)
        assert channels.logit == pytest.approx(float(answer.logits[k]), abs=1e-4)
        assert np.abs(channels.running_map(2048) - answer.cam[k]).max() < 1e-4
    predicted = answer.channels()
    assert predicted.label == answer.predicted
    sizes = np.abs(predicted.contributions[predicted.order])
    assert (np.diff(sizes) <= 0).all()
    whole, last = answer.overlay(scale=2.0, longest=100), predicted.running_overlays(2.0, 100)[-1]
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(last)).max() <= 1
    with pytest.raises(PhotoError, match="no class 'penguin'"):
        answer.channels("penguin")


def test_a_second_picture_shows_the_channels(solar, tmp_path):
    """Beside the map, under a name of its own; a negative number is refused before anything is written."""
    photo = solar.split.validation[0].path
    list(explain_files(solar.run, [photo], tmp_path / "few", channels=8))
    list(explain_files(solar.run, [photo], tmp_path / "out", channels=20))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{photo.stem}-why.png", f"{photo.stem}-channels.png"}
    sizes = []
    for out in ("few", "out"):
        with Image.open(tmp_path / out / f"{photo.stem}-channels.png") as picture:
            sizes.append(picture.size)
    (width, few), (same, more) = sizes
    assert width == same and few < more
    with pytest.raises(WrongUse, match="channels is -1"):
        next(explain_files(solar.run, [photo], Path("nowhere"), channels=-1))
