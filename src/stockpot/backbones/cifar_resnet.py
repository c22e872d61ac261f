"""A compact residual network for 32 x 32 photos that keeps 8 x 8 cells, so that its maps are worth looking at.

A fixed whitening layer and filters that start as the identity are tricks of the fastest CIFAR-10 trainings
(Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498; Page, "How to train your ResNet",
2018). Those end in one cell; this network ends in GAP over all cells.

`(N, 3, S, S)` in, `(N, C, S/4, S/4)` out; 32 px give 8 x 8 cells.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = (125.3, 123.0, 113.9)  # of CIFAR-10's training photos
STD = (63.0, 62.1, 66.7)
PATCH = 2  # pixels on each side of what the whitening layer looks at
WHITENING_PIXELS = 5000 * 32**2  # at most, of the photos whose patches the whitening layer is made of
WHITENED = 2 * 3 * PATCH**2  # its channels: every principal direction of a patch, and its negative


def cifar_resnet(width: int = 96, channels: int = 256) -> nn.Sequential:
    """Return the network with random weights: a whitening layer and three blocks, 2.2 million parameters.

    Args:
        width: channels at 16 x 16.
        channels: C, of the feature maps.
    """
    return nn.Sequential(
        OrderedDict(
            whitening=_Whitening(),
            block1=nn.Sequential(_Layer(WHITENED, width, pool=True), _Residual(width), _Residual(width)),
            block2=nn.Sequential(_Layer(width, channels, pool=True), _Residual(channels)),
            block3=nn.Sequential(_Residual(channels), _Residual(channels)),
        )
    )


def like(tensors: dict[str, Tensor]) -> nn.Sequential:
    """Return the network, with random weights, whose tensors have the shapes of these."""
    names = ("block1.1.bn.weight", "block3.0.bn.weight")
    widths = [len(tensors[name]) for name in names if name in tensors]
    return cifar_resnet(*widths) if len(widths) == len(names) else cifar_resnet()


@torch.no_grad()
def whiten(network: nn.Module, photos: Tensor) -> None:
    """Set the first layer so that its outputs on patches of `photos` `(N, 3, S, S)` are uncorrelated.

    Its filters are the principal directions of the patches, divided by their standard deviations, and are
    not learned; its bias is.
    """
    layer = network.get_submodule("whitening")
    assert isinstance(layer, _Whitening)
    patches = F.unfold(photos, PATCH).transpose(1, 2).reshape(-1, 3 * PATCH**2)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + 5e-4).sqrt()).T.reshape(-1, 3, PATCH, PATCH)
    layer.conv.weight.copy_(torch.cat([filters, -filters]))
    layer.conv.weight.requires_grad_(False)
    layer.conv.bias.zero_()  # type: ignore[union-attr]


class _Whitening(nn.Module):
    """A 2x2 convolution that keeps the size, then GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WHITENED, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(F.pad(x, (0, 1, 0, 1), mode="reflect")))


class _Layer(nn.Module):
    """A 3x3 convolution, max pooling where the size is halved, BatchNorm, GELU."""

    def __init__(self, channels: int, out: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        nn.init.dirac_(self.conv.weight.data[:channels])
        self.pool = pool
        self.bn = nn.BatchNorm2d(out, momentum=0.4)  # few steps an epoch: statistics must follow

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.pool:
            x = F.max_pool2d(x, 2)
        return F.gelu(self.bn(x))


class _Residual(_Layer):
    """The same with a shortcut beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)
