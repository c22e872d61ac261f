"""Xception as keras.applications has it, up to but excluding GAP.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017. Two details decide whether
published weights give the published maps: BatchNorm's epsilon is 1e-3, and "same" padding of the four strided
poolings pads the far side only where a map is even. Modules are named as Keras' layers, `block2_sepconv1` as
`block2.sepconv1`; the four convolutions that Keras leaves unnamed are `residual`.

`(N, 3, S, S)` in, `(N, 2048, h, w)` out; 256 px give 8 x 8 cells, 299 px give 10 x 10.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = (127.5, 127.5, 127.5)  # x / 127.5 - 1
STD = (127.5, 127.5, 127.5)
RESIDUAL_BLOCKS = ("block2", "block3", "block4", "block13")  # in the order of Keras' unnamed layers


def xception() -> nn.Sequential:
    """Return the network with random weights: 14 blocks in a row, 20.8 million parameters."""
    blocks: list[nn.Module] = [
        _Entry(),
        _Block(64, (128, 128), strided=True, first_relu=False),
        _Block(128, (256, 256), strided=True),
        _Block(256, (728, 728), strided=True),
        *(_Block(728, (728, 728, 728)) for _ in range(8)),
        _Block(728, (728, 1024), strided=True),
        _Exit(),
    ]
    return nn.Sequential(OrderedDict((f"block{number}", block) for number, block in enumerate(blocks, 1)))


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Separable(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise one; nothing between them."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class _Entry(nn.Module):
    """Two plain 3x3 convolutions without padding; the first halves the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.conv1_bn = _batch_norm(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.conv2_bn = _batch_norm(64)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1_bn(self.conv1(x)))
        return F.relu(self.conv2_bn(self.conv2(x)))


class _Block(nn.Module):
    """Separable convolutions with a shortcut beside them; a strided block halves the size at its end."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], strided: bool = False, first_relu: bool = True
    ) -> None:
        super().__init__()
        self.depth = len(widths)
        self.strided = strided
        self.first_relu = first_relu
        for number, (before, after) in enumerate(zip((channels, *widths), widths, strict=False), 1):
            self.add_module(f"sepconv{number}", _Separable(before, after))
            self.add_module(f"sepconv{number}_bn", _batch_norm(after))
        if strided:
            self.residual = nn.Conv2d(channels, widths[-1], 1, stride=2, bias=False)
            self.residual_bn = _batch_norm(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.residual_bn(self.residual(x)) if self.strided else x
        for number in range(1, self.depth + 1):
            if number > 1 or self.first_relu:
                x = F.relu(x)
            x = self.get_submodule(f"sepconv{number}_bn")(self.get_submodule(f"sepconv{number}")(x))
        return (_pool_same(x) if self.strided else x) + shortcut


class _Exit(nn.Module):
    """Two separable convolutions, each followed by ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.sepconv1 = _Separable(1024, 1536)
        self.sepconv1_bn = _batch_norm(1536)
        self.sepconv2 = _Separable(1536, 2048)
        self.sepconv2_bn = _batch_norm(2048)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.sepconv1_bn(self.sepconv1(x)))
        return F.relu(self.sepconv2_bn(self.sepconv2(x)))


def _pool_same(x: Tensor) -> Tensor:
    """3x3 max pooling with stride 2 and Keras' "same" padding: (0, 1) on even sizes, (1, 1) on odd ones."""
    return torch.max_pool2d(x, 3, 2, padding=(x.shape[-2] % 2, x.shape[-1] % 2), ceil_mode=True)
