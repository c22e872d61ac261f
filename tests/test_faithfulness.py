import shutil
from dataclasses import replace

import numpy as np
import pytest

from stockpot.errors import PhotoError, WrongUse
from stockpot.explanation.faithfulness import Gain, _areas, measure_faithfulness
from stockpot.learning.models import load_model
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train


def test_areas_by_hand():
    """Four cells of which the first is all: gone with the first lot in its order, with the last in the reverse."""
    order = np.array([[4.0, 3.0], [2.0, 1.0]])

    def is_the_first_there(masks):
        return masks[:, 0, 0].astype(float)

    assert _areas(is_the_first_there, order, 1, 0) == (0.125, 0.875)
    assert _areas(is_the_first_there, -order, 1, 0) == (0.875, 0.125)
    assert _areas(lambda masks: np.full(len(masks), 0.3), order, 0.3, 0.3) == pytest.approx((0.3, 0.3))


def test_maps_gain_over_chance(solar):
    """By cells, on real photos: beyond doubt, and more than maps of permuted heads."""
    photos = [photo.path for photo in solar.split.validation + solar.split.training]
    found = measure_faithfulness(solar.run, photos)
    assert (found.n, found.refused) == (len(photos), ())
    for gain in (
        found.deletion,
        found.insertion,
        found.over_permuted_deletion,
        found.over_permuted_insertion,
    ):
        assert gain.mean > 0 and gain.beyond_chance
    assert found.deletion.mean > 2 * abs(found.permuted_deletion.mean)
    assert found.insertion.mean > 2 * abs(found.permuted_insertion.mean)
    assert f"by cells, n = {len(photos)}" in str(found)


def test_a_head_that_looks_at_one_channel_is_caught_where_it_looks(solar):
    """Planted: a class hangs on one channel; taking its cells away takes the class away, others do not."""
    predictor = load_model(solar.run)
    weight = np.zeros_like(predictor.model.weight)
    features = predictor.engine.run(np.full((1, 256, 256, 3), 128, np.uint8))[0][0]
    weight[0, int(features.argmax())] = 50.0
    planted = replace(predictor, model=replace(predictor.model, weight=weight))
    photos = [photo.path for photo in solar.split.validation + solar.split.training][:12]
    found = measure_faithfulness(planted, photos)
    assert found.deletion.mean > 0 and found.insertion.mean > 0


def test_photos_are_taken_apart_by_pixels(solar, tmp_path):
    """With the small network, which is quick: 44 passes a photo, unreadable files named, the same again."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "report.html"))
    run = train(copy, Recipe.linear_probe("cifar"))
    bad = tmp_path / "bad.jpg"
    bad.touch()
    photos = [photo.path for photo in solar.split.validation + solar.split.training] + [bad]
    found = measure_faithfulness(run, photos, "pixels")
    assert found.n == len(photos) - 1 and found.refused == (bad,)
    assert found.insertion.mean > 0 and found.over_permuted_insertion.mean > 0
    assert measure_faithfulness(run, photos, "pixels") == found


def test_an_interval_that_holds_zero_shows_nothing():
    """Whatever the mean."""
    assert Gain(0.1, (0.01, 0.2)).beyond_chance and Gain(-0.1, (-0.2, -0.01)).beyond_chance
    assert not Gain(0.1, (-0.01, 0.2)).beyond_chance


def test_wrong_use(solar, tmp_path):
    """An unknown way, and too few photos, before and after reading them."""
    photo = solar.split.validation[0].path
    with pytest.raises(WrongUse, match="'cells' or 'pixels'"):
        measure_faithfulness(solar.run, [photo], "colors")
    with pytest.raises(PhotoError, match="1 files are too few to tell: give at least 10"):
        measure_faithfulness(solar.run, [photo])
    for i in range(10):
        (tmp_path / f"{i}.jpg").touch()
    with pytest.raises(PhotoError, match="1 of 11 files are photos: give at least 10"):
        measure_faithfulness(solar.run, [photo, tmp_path])
