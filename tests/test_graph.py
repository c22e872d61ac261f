from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from stockpot.backbones import graph
from stockpot.backbones.backbone import Backbone
from stockpot.errors import ModelError
from stockpot.learning.models import model_engine
from stockpot.model.model_file import read_model
from stockpot.photos.preprocessing import Preprocessing, read_prepared


def test_the_graph_computes_what_torch_computes_for_any_batch(solar):
    """Features and maps of real photos equal torch's, and do not depend on the batch."""
    from stockpot.backbones.backbone import read_model_backbone

    model = read_model(solar.run.model_path)
    pixels = np.stack([read_prepared(p.path, model.preprocessing) for p in solar.split.validation[:3]])
    engine = model_engine(model)
    features, maps = engine.run(pixels)
    with torch.no_grad():
        expected = read_model_backbone(model)(torch.from_numpy(pixels)).numpy()
    assert np.abs(maps - expected).max() < 1e-4
    assert np.abs(features - expected.mean(axis=(2, 3))).max() < 1e-5
    alone = [engine.run(pixels[i : i + 1])[1][0] for i in range(3)]
    assert np.array_equal(np.stack(alone), maps)


class Scaled(nn.Module):
    """A convolution whose maps are as large as one likes."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return maps."""
        return self.layers(x) * self.scale


def backbone(scale: float) -> Backbone:
    half = (0.5, 0.5, 0.5)
    return Backbone(
        Scaled(scale), preprocessing=Preprocessing(image_size=32, mean=half, std=half), name="scaled"
    )


def test_large_features_may_differ_by_what_rounding_makes_of_them(tmp_path):
    """A network that has hardly learned has features in the thousands: 1e-3 is less than their last bit."""
    network = backbone(1e6)
    path = graph.ensure_graph(tmp_path, network.key, lambda: network)
    assert path.exists()


def test_a_graph_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    """By a hundredth, on whatever scale; nothing is kept."""
    load = graph.load_engine

    def wrong(path):
        engine = load(path)
        return SimpleNamespace(run=lambda pixels: tuple(1.01 * output for output in engine.run(pixels)))

    monkeypatch.setattr(graph, "load_engine", wrong)
    for scale in (1.0, 1e6):
        network = backbone(scale)
        with pytest.raises(ModelError, match="The exported graph differs from torch by"):
            graph.ensure_graph(tmp_path, network.key, lambda one=network: one)
    assert list(tmp_path.iterdir()) == []
