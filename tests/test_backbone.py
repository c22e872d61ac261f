import pytest
import torch
from torch import nn

from stockpot.backbones.backbone import Backbone, load_backbone
from stockpot.errors import RecipeError, WeightsError
from stockpot.photos.preprocessing import Preprocessing


@pytest.fixture
def small() -> Backbone:
    """A network of one convolution and BatchNorm."""
    module = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU())
    return Backbone(
        module, preprocessing=Preprocessing(33, (127, 127, 127), (128, 64, 32)), name="small"
    ).eval()


def test_a_network_of_ones_own_is_a_backbone(small):
    """It says how many channels it gives, its blocks, and normalizes as its preprocessing says."""
    assert small.num_features == 5
    assert small.blocks == ("0", "1", "2")
    pixels = torch.full((2, 33, 33, 3), 255, dtype=torch.uint8)
    assert small.normalize(pixels)[0, :, 0, 0].tolist() == [1.0, 2.0, 4.0]
    assert small(pixels).shape == (2, 5, 16, 16)


def test_a_network_with_its_head_on_is_refused():
    """What gives no maps is no backbone."""
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(WeightsError, match="cut it before GAP"):
        Backbone(module, preprocessing=Preprocessing(32, (0, 0, 0), (1, 1, 1)), name="whole")


def test_the_fingerprint_follows_every_bit(small):
    """One bit of one value, also of a BatchNorm statistic, is another fingerprint."""
    seen = {small.fingerprint}
    for tensor in small.weights().values():
        before = tensor.view(-1)[0].item()
        tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))
        seen.add(small.fingerprint)
        tensor.view(-1)[0] = before
    assert len(seen) == 1 + len(small.weights())


def test_weights_of_another_shape_are_refused(small):
    """The first tensor that differs, expected and found; nothing is taken over."""
    before = small.fingerprint
    wrong = dict(small.weights()) | {"0.weight": torch.zeros(5, 3, 1, 1)}
    with pytest.raises(WeightsError, match=r"first 0\.weight: expected \(5, 3, 3, 3\), found \(5, 3, 1, 1\)"):
        small.load_weights(wrong, "some file")
    del wrong["0.weight"]
    with pytest.raises(WeightsError, match="found none"):
        small.load_weights(wrong, "some file")
    assert small.fingerprint == before


def test_what_cannot_be_built_is_a_sentence():
    """An unknown name, and a size that the network cannot see anything at."""
    with pytest.raises(
        RecipeError, match="choose one of xception, efficientnet_lite0, cifar, or a model of timm"
    ):
        load_backbone("resnet")
    with pytest.raises(RecipeError, match="xception needs at least 71"):
        load_backbone(image_size=32)
    with pytest.raises(RecipeError, match="cifar needs at least 8"):
        load_backbone("cifar", image_size=4)


def test_equal_weights_in_other_layers_are_another_network(small):
    """What is cached for one must not be taken for the other."""
    other = nn.Sequential(*list(small.module)[:2], nn.Tanh())
    twin = Backbone(other, preprocessing=small.preprocessing, name="small")
    assert twin.fingerprint != small.fingerprint


def test_what_cannot_compute_a_photo_is_a_sentence():
    """A head that does not fit, and a network that gives a list."""

    class Several(nn.Module):
        def forward(self, x):
            return [x]

    whole = nn.Sequential(nn.Flatten(), nn.Linear(10, 2))
    preprocessing = Preprocessing(32, (0, 0, 0), (1, 1, 1))
    with pytest.raises(WeightsError, match="cannot compute a photo of 32 x 32 pixels"):
        Backbone(whole, preprocessing=preprocessing, name="whole")
    with pytest.raises(WeightsError, match="gives list, not feature maps"):
        Backbone(Several(), preprocessing=preprocessing, name="several")
