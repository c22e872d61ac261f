"""Backbone + GAP + head as one torch network.

`N` photos, `S` input size, `C` channels, `h`, `w` cells of a feature map, `K` classes.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stockpot.backbones.backbone import Backbone
from stockpot.learning.precision import multiplying_in


class Classifier(nn.Module):
    """A backbone, global average pooling, and a linear head.

    BatchNorm stays in inference mode whatever mode the classifier is put into: running mean and variance are
    used and never updated. Gamma and beta may still learn. Only `batch_norm="training"`, for a start from
    random weights, lets them follow the classifier's mode.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, seed: int = 0, batch_norm: str = "inference"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = new_head(backbone.num_features, num_classes, seed)
        self.batch_norm = batch_norm

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits `(N, K)` of pixels `(N, S, S, 3)` in 0..255."""
        return _logits(self.head, self.backbone(pixels))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but BatchNorm, which stays in inference mode."""
        super().train(mode)
        if self.batch_norm == "inference":
            _hold_statistics(self)
        return self

    def freeze_backbone(self) -> Self:
        """Let only the head learn."""
        self.backbone.requires_grad_(False)
        return self

    def unfreeze(self) -> Self:
        """Let every weight of every layer learn."""
        self.requires_grad_(True)
        return self

    def freeze_before(self, block: str) -> tuple[nn.Module, nn.Module]:
        """Let a block and everything after it learn; return what is before, and the rest with GAP and head.

        The first takes pixels `(N, S, S, 3)` and gives what the second makes logits `(N, K)` of.

        Raises:
            RecipeError: the backbone cannot be cut there.
        """
        before, after = self.backbone.parts(block)
        self.train(self.training)
        self.freeze_backbone()
        after.requires_grad_(True)
        return before, _Tail(after, self)


class _Tail(nn.Module):
    """The last blocks of a classifier, with GAP and head."""

    def __init__(self, blocks: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.blocks = blocks
        self.head = classifier.head

    def forward(self, maps: Tensor) -> Tensor:
        return _logits(self.head, self.blocks(maps))

    def train(self, mode: bool = True) -> Self:
        """As its classifier."""
        super().train(mode)
        _hold_statistics(self)
        return self


def _logits(head: nn.Linear, maps: Tensor) -> Tensor:
    """Apply GAP and head, in float32 whatever the blocks before multiply in."""
    with multiplying_in("float32", maps.device.type):
        return head(maps.float().mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _hold_statistics(network: nn.Module) -> None:
    """Put every BatchNorm into inference mode."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def new_head(num_features: int, num_classes: int, seed: int) -> nn.Linear:
    """Return an untrained last layer whose weights depend on the seed alone."""
    head = nn.Linear(num_features, num_classes)
    bound = num_features**-0.5
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.zero_()
    return head
