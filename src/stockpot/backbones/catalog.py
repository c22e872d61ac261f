"""The backbones by name: where they start and what size they expect. Torch is not imported."""

from dataclasses import dataclass

from stockpot.errors import RecipeError


@dataclass(frozen=True)
class Entry:
    """What is known of a backbone before it is built."""

    start: str  # name of its own pretrained weights
    image_size: int  # pixels on each side that these were trained with, or that are usual
    smallest: int  # pixels that its layers need


CATALOG = {
    "xception": Entry("imagenet", 256, 71),
    "cifar": Entry("cifar10", 32, 8),
}


def look_up(name: str) -> Entry:
    """Return what is known of a backbone.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in CATALOG:
        raise RecipeError(f"There is no backbone {name!r}; choose one of: {', '.join(CATALOG)}.")
    return CATALOG[name]
