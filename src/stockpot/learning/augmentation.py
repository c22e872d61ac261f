"""Varying training photos: what a photo shows stays the same, its pixels do not.

`S` pixels on each side.
"""

import torch
from torch import Tensor
from torchvision.transforms import v2


def varied(pixels: Tensor, kind: str, seed: int) -> Tensor:
    """Return a photo `(S, S, 3)`, uint8, cropped, mirrored, and by `"strong"` also recolored and partly hidden.

    Args:
        pixels: `(S, S, 3)`, uint8.
        kind: `"none"`, `"light"` or `"strong"`.
        seed: the same one gives the same picture.
    """
    if kind == "none":
        return pixels
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # that of GPUs is none of our business
        return _transform(kind, len(pixels))(pixels.permute(2, 0, 1)).permute(1, 2, 0)  # type: ignore[no-any-return]


def seed_of(*numbers: int) -> int:
    """Return one seed that differs as soon as one of a few numbers does."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (2**63 - 1)
    return seed


def _transform(kind: str, size: int) -> v2.Compose:
    smallest = {"light": 0.6, "strong": 0.35}[kind]  # share of the area that a crop keeps
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop(size, scale=(smallest, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if kind == "strong":
        steps += [
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
            v2.RandomErasing(p=0.5, scale=(0.02, 0.15), value=127),
        ]
    return v2.Compose(steps)
