import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.xception import xception
from stockpot.learning.folding import folded


def awake(network: nn.Module) -> nn.Module:
    """Give every BatchNorm something to do, in double precision."""
    chance = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=chance)
    return network.double().eval()


def gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of a loss that every output reaches differently."""
    network.zero_grad()
    output = network(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    (output * weights).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def small(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, bias=bias), nn.BatchNorm2d(8), nn.ReLU(),
    )  # fmt: skip


NETWORKS = {
    "with biases": (small, 16, 2),
    "without": (lambda: small(bias=False), 16, 2),
    "Xception": (lambda: xception()[10:14], 16, 11),
    "timm's, with ReLU inside BatchNorm": (
        lambda: nn.Sequential(*timm.create_model("tf_efficientnet_lite0").blocks[4:6]),
        16,
        20,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_plain_form(name):
    """Of W, gamma, beta and biases, and the output: equal to the last digits of double precision."""
    make, size, count = NETWORKS[name]
    torch.manual_seed(0)
    network = awake(make())
    channels = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d)).in_channels
    x = torch.randn(3, channels, size, size, dtype=torch.double)
    output, plain = network(x), gradients(network, x)
    with folded(network, x[:1]) as layers:
        assert layers == count
        torch.testing.assert_close(network(x), output, rtol=1e-9, atol=1e-9)
        for parameter, gradient in gradients(network, x).items():
            scale = plain[parameter].abs().max()
            assert (gradient - plain[parameter]).abs().max() <= 1e-9 * scale + 1e-9, parameter


def test_a_network_is_as_before_afterwards():
    """Names and bits of all its weights, and its layers' own way to compute, also after an error."""
    network = awake(small())
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(1, 3, 16, 16, dtype=torch.double)
    with pytest.raises(KeyError), folded(network, x):
        assert network.state_dict().keys() == before.keys()
        raise KeyError
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
    assert not any("forward" in vars(layer) for layer in network.modules())


class Shared(nn.Module):
    """A convolution that BatchNorm reads, and a shortcut too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        seen = self.convolution(x)
        return self.norm(seen) + seen


def test_what_follows_on_something_else_is_left_alone():
    """BatchNorm that reads no convolution or has no statistics; a convolution that others read too, and new."""
    x = torch.randn(2, 3, 16, 16, dtype=torch.double)
    first = awake(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)))
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).double().eval()
    for network in (first, bare, awake(Shared()), Shared().double().eval()):
        expected = network(x)
        with folded(network, x[:1]) as layers:
            assert layers == 0
            torch.testing.assert_close(network(x), expected)


def test_statistics_that_learn_are_not_touched():
    """A network with BatchNorm in training mode is not even run: one photo would move its statistics."""
    network = awake(small()).train()
    before = copy.deepcopy(network.state_dict())
    with folded(network, torch.randn(1, 3, 16, 16, dtype=torch.double)) as layers:
        assert layers == 0
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
    mixed = nn.Sequential(small(), nn.BatchNorm2d(8)).double()
    mixed[0].eval()
    before = copy.deepcopy(mixed.state_dict())
    with folded(mixed, torch.randn(1, 3, 16, 16, dtype=torch.double)) as layers:
        assert layers == 2 and mixed[1].training
    assert all(tensor.equal(before[name]) for name, tensor in mixed.state_dict().items())


def test_dropout_does_not_hide_that_it_is_the_same():
    """The caller's chance is not touched either."""
    network = awake(nn.Sequential(small(), nn.Dropout(0.5)))
    network[1].train()
    x = torch.randn(1, 3, 16, 16, dtype=torch.double)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with folded(network, x) as layers:
        assert layers == 2
        assert torch.rand(1).equal(expected)


def test_every_batch_norm_of_the_usual_backbone_is_folded():
    """40 layers of Xception, for which the fine-tuning of all layers was made faster."""
    network = load_backbone("xception")
    with folded(network, torch.zeros(1, 256, 256, 3, dtype=torch.uint8)) as layers:
        assert layers == sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 40


def test_learning_gives_what_the_plain_form_gives():
    """Five steps of SGD from the same weights: gamma, beta and W stay together."""
    plain = awake(small())
    other = copy.deepcopy(plain)
    x, y = torch.randn(4, 3, 16, 16, dtype=torch.double), torch.tensor([0, 1, 2, 3])
    for network in (plain, other):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        with folded(network, x[:1]) if network is other else torch.enable_grad():
            for _ in range(5):
                optimizer.zero_grad()
                F.cross_entropy(network(x).mean(dim=(2, 3)), y).backward()
                optimizer.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-8, atol=1e-8)
