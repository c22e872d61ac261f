"""The backbones by name: where they start and what size they expect.

Torch is not imported for those in `CATALOG`; any other name is looked up among timm's models.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What is known of a backbone before it is built."""

    start: str  # name of its own pretrained weights
    image_size: int  # pixels on each side that these were trained with, or that are usual
    smallest: int  # pixels that its layers need
    tail: str = ""  # first of the last blocks, which a quick fine-tuning lets learn; none: unknown
    head_rate: float = 3e-3  # learning rate of a new head, by experiment (docs/experiments.md)


CATALOG = {
    "xception": Entry("imagenet", 256, 71, "block12"),
    "efficientnet_lite0": Entry("imagenet", 256, 32, "blocks.5"),
    "cifar": Entry("cifar10", 32, 8, "block3", 3e-2),
}


def look_up(name: str) -> Entry:
    """Return what is known of a backbone.

    Raises:
        RecipeError: there is none of this name.
    """
    if name in CATALOG:
        return CATALOG[name]
    from stockpot.backbones.timm_models import describe

    return describe(name)
