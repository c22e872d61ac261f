"""How fast the layers that learn are in float32 and in bfloat16, and by which one `precision_of` decides.

    python benchmarks/precision.py

Photos a second of the faster of two epochs on 64 noise photos, in turns. A line of JSON each.
"""

import json
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stockpot.learning.fitting import fit
from stockpot.learning.inputs import AT_ONCE, SMALL, Inputs
from stockpot.learning.precision import precision_of
from stockpot.learning.recipes import Recipe
from stockpot.learning.starting import start_classifier

PHOTOS = 64
PARTS = (
    ("xception", "block12"),
    ("xception", "all"),
    ("efficientnet_lite0", "blocks.5"),
    ("efficientnet_lite0", "all"),
    ("cifar", "all"),
)


def parts() -> Iterator[tuple[Recipe, nn.Module, Tensor]]:
    """Yield a recipe, what learns by it, and noise that it takes."""
    for backbone, trainable in PARTS:
        if backbone == "cifar":
            recipe = Recipe.from_scratch(epochs=3)
        else:
            recipe = Recipe.linear_probe(backbone, trainable=trainable, epochs=3, learning_rate=1e-4)
        classifier = start_classifier(recipe, ("a", "b", "c"))
        size = recipe.image_size
        photos = torch.randint(0, 256, (PHOTOS, size, size, 3), dtype=torch.uint8)
        if trainable == "all":
            yield recipe, classifier.unfreeze().to(memory_format=torch.channels_last), photos
        else:
            before, tail = classifier.freeze_before(trainable)
            with torch.no_grad():
                maps = torch.cat([before(some) for some in photos.split(AT_ONCE)])
            yield recipe, tail.to(memory_format=torch.channels_last), maps


def rate(recipe: Recipe, module: nn.Module, given: Tensor, precision: str) -> float:
    """Return photos a second; the first epoch warms up."""
    labels = torch.arange(PHOTOS) % 3
    inputs = Inputs(labels, lambda rows, _: given[rows], 0 if recipe.image_size <= SMALL else AT_ONCE)
    one = Inputs(labels[:1], lambda rows, _: given[:1])
    changed = Recipe(**{**vars(recipe), "precision": precision})
    return PHOTOS / min(epoch.seconds for epoch in fit(module, inputs, one, changed)[1:])


def main() -> None:
    """Measure every part and print a line as soon as it is known."""
    for recipe, module, given in parts():
        rates = {
            precision: round(rate(recipe, module, given, precision), 1)
            for precision in ("float32", "bfloat16")
        }
        row = {"backbone": recipe.backbone, "trainable": recipe.trainable, **rates}
        print(json.dumps(row | {"chosen": precision_of(recipe, module)}), flush=True)


if __name__ == "__main__":
    main()
