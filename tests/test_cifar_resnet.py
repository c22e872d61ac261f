import numpy as np
import pytest
import torch

from stockpot.backbones.backbone import load_backbone, read_model_backbone
from stockpot.backbones.cifar_resnet import PATCH, WHITENED, cifar_resnet, like, whiten
from stockpot.backbones.weights import CIFAR10_WEIGHTS
from stockpot.explanation.explanation import explain
from stockpot.learning.models import load_model
from stockpot.model.model_file import read_backbone, read_model


def test_the_network_keeps_eight_by_eight_cells():
    """At most 2.5 million parameters; photos of twice the size give twice the cells."""
    network = cifar_resnet().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 256, 8, 8)
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 256, 16, 16)
    assert sum(parameter.numel() for parameter in network.parameters()) + 256 * 10 + 10 < 2_500_000


def test_a_network_is_built_like_its_tensors():
    """Width and channels are found in the shapes; of strange tensors the usual network is made."""
    narrow = like(cifar_resnet(width=8, channels=12).state_dict())
    assert [len(narrow.state_dict()[name]) for name in ("block1.1.bn.weight", "block3.0.bn.weight")] == [
        8,
        12,
    ]
    assert like({}).state_dict().keys() == cifar_resnet().state_dict().keys()


def test_whitened_patches_are_uncorrelated():
    """On the photos it was made for, the filters' outputs have variance 1 and no covariance."""
    torch.manual_seed(0)
    photos = torch.nn.functional.avg_pool2d(torch.randn(200, 3, 34, 34), 3, 1).contiguous() * 2
    network = cifar_resnet()
    whiten(network, photos)
    outputs = torch.nn.functional.conv2d(photos, network.whitening.conv.weight[: WHITENED // 2])
    flat = outputs.detach().transpose(0, 1).flatten(1)
    assert torch.allclose(flat @ flat.T / flat.shape[1], torch.eye(3 * PATCH**2), atol=0.05)
    assert not network.whitening.conv.weight.requires_grad


@pytest.fixture(scope="module")
def shipped():
    """The model file in the package."""
    return read_model(CIFAR10_WEIGHTS)


def test_the_shipped_weights_are_what_their_file_and_card_say(shipped):
    """At most 5 MB, filters in float16, the fingerprint of the card, the accuracy that was measured once."""
    assert CIFAR10_WEIGHTS.stat().st_size <= 5_000_000
    assert all(value.dtype == np.float16 for value in read_backbone(shipped.path).values() if value.ndim > 1)
    backbone = read_model_backbone(shipped)
    assert backbone.fingerprint == load_backbone("cifar").fingerprint == shipped.fingerprint
    assert backbone.num_features == 256
    card = CIFAR10_WEIGHTS.with_suffix(".md").read_text("utf-8")
    figures = shipped.metrics["test"]
    assert figures["n"] == 10_000 and figures["accuracy"] >= 0.93
    for words in (
        shipped.fingerprint,
        f"{figures['accuracy']:.2%} of 10,000 test photos",
        shipped.recipe["data"],
    ):
        assert words in card


def test_the_shipped_maps_average_to_the_logits(cells_by_class):
    """`cam.mean() + bias == logit` for each of the ten classes, on a photo of something else."""
    why = explain(load_model(CIFAR10_WEIGHTS), cells_by_class["monocrystalline defective"][0])
    assert why.cam.shape == (10, 8, 8)
    assert why.residual < 1e-4


def test_the_shipped_weights_classify_cifar10(cifar10, shipped):
    """2,000 test photos of the JPEG copy, through ONNX Runtime: what its card says of such photos."""
    test = cifar10.test
    engine = load_model(CIFAR10_WEIGHTS).engine
    features = np.concatenate([engine.run(batch)[0] for batch in np.split(test.pixels[:2000], 20)])
    predicted = (features @ shipped.weight.T + shipped.bias).argmax(axis=1)
    accuracy = 0.8485  # of all 10,000
    assert f"{accuracy:.2%}".replace("%", " %") in CIFAR10_WEIGHTS.with_suffix(".md").read_text("utf-8")
    error = (accuracy * (1 - accuracy) / 2000) ** 0.5
    assert (predicted == test.labels[:2000]).mean() == pytest.approx(accuracy, abs=4 * error)
