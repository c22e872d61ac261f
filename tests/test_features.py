import shutil

import numpy as np
import pytest

from stockpot.errors import UnreadablePhoto
from stockpot.learning.features import cached_features
from stockpot.learning.models import model_engine
from stockpot.model.model_file import read_model
from stockpot.project import open_project


@pytest.fixture
def project(solar, tmp_path):
    """A copy of the trained project, to be damaged."""
    shutil.copytree(solar.project, tmp_path / "solar", ignore=shutil.ignore_patterns("*.safetensors"))
    return open_project(tmp_path / "solar")


def extract(project, photos, solar, engine=None):
    model = read_model(solar.run.model_path)
    return cached_features(
        project, photos, model.key, model.preprocessing, engine or (lambda: model_engine(model))
    )


def never():
    raise AssertionError("nothing had to be computed")


def test_features_are_the_means_of_their_maps(project, solar):
    """GAP of the cached maps gives the cached features, to float32 rounding."""
    photos = solar.split.validation
    features = extract(project, photos, solar, never)
    means = [features.maps(i).mean(axis=(1, 2), dtype=np.float64) for i in range(len(photos))]
    assert np.abs(np.stack(means) - features.pooled).max() < 1e-5


def test_rows_follow_the_photos_asked_for(project, solar):
    """The order of the cache does not show."""
    photos = [*solar.split.training, *solar.split.validation]
    forward, backward = (extract(project, order, solar, never) for order in (photos, photos[::-1]))
    assert np.array_equal(forward.pooled, backward.pooled[::-1])
    assert np.array_equal(forward.maps(0), backward.maps(len(photos) - 1))


def test_a_crash_costs_only_the_rows_it_tore(project, solar):
    """After a torn index the missing photos are computed again, to the same bits."""
    photos = solar.split.training[:10]
    whole = extract(project, photos, solar, never)
    index = next(project.features.glob("*/index.jsonl"))
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    again = extract(project, photos, solar)
    assert np.array_equal(again.pooled, whole.pooled)
    assert np.array_equal(again.maps(9), whole.maps(9))


def test_a_photo_that_breaks_meanwhile_is_named(project, solar):
    """Between the split and the forward pass a file may change; the message says what to do."""
    shutil.rmtree(project.features)
    photo = solar.split.training[0]
    broken = project.folder / photo.path.relative_to(solar.project)
    broken.write_bytes(b"")
    with pytest.raises(UnreadablePhoto, match=f"{broken.name} has other bytes now.*run the command again"):
        extract(project, [type(photo)(broken, photo.label, photo.sha256, 1, 1)], solar)
