import pytest
import torch

from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.cifar_resnet import PATCH, WHITENED, cifar_resnet, like, whiten
from stockpot.errors import WeightsError


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


def test_without_weights_the_way_to_them_is_named():
    """They do not come with the package yet."""
    with pytest.raises(WeightsError, match="stockpot pretrain cifar10 --out FILE"):
        load_backbone("cifar")
