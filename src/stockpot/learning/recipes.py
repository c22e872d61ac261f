"""Every choice that defines a training, as one flat value."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stockpot.backbones.catalog import CATALOG, look_up
from stockpot.errors import RecipeError
from stockpot.model.model_file import is_model, read_model

if TYPE_CHECKING:
    from stockpot.backbones.backbone import Backbone


@dataclass(frozen=True)
class Recipe:
    """Every choice that defines a training."""

    backbone: "str | Backbone" = "xception"  # the pretrained feature extractor: a name, or one's own network
    start: str = "imagenet"  # where its weights come from: a name or a file
    image_size: int = 256  # pixels on each side of what the network receives
    resize: Literal["squash", "crop", "pad"] = "squash"  # photos that are not square
    epochs: int = 30  # passes over the training photos
    batch_size: int = 32  # photos a step
    learning_rate: float = 1e-3  # at the first step; falls to zero along half a cosine
    weight_decay: float = 1e-2  # AdamW's, decoupled
    seed: int = 0  # of the new head and the order of photos

    def __post_init__(self) -> None:
        positive = ("image_size", "epochs", "batch_size", "learning_rate")
        wrong = [f"{name} is {getattr(self, name)}" for name in positive if not getattr(self, name) > 0]
        if wrong:
            raise RecipeError(f"{' and '.join(wrong)}; expected more than 0.")
        if self.weight_decay < 0:
            raise RecipeError(f"weight_decay is {self.weight_decay}; expected 0 or more.")
        if self.resize not in ("squash", "crop", "pad"):
            raise RecipeError(f"resize is {self.resize!r}; expected squash, crop or pad.")
        if not isinstance(self.backbone, str):
            own = self.backbone.preprocessing
            if (self.image_size, self.resize) != (own.image_size, own.resize):
                raise RecipeError(
                    f"{self.backbone.name} expects {own.image_size} pixels and {own.resize}, the recipe says "
                    f"{self.image_size} and {self.resize}: change its Preprocessing."
                )

    @classmethod
    def linear_probe(cls, backbone: "str | Backbone | None" = None, **changes: Any) -> "Recipe":
        """Return the recipe that trains a new head on a frozen backbone.

        Args:
            backbone: `"xception"`, `"efficientnet_lite0"`, `"cifar"`, a model of timm, or a `Backbone` of one's
                own. By default the one in the model file `start`, else Xception.
            changes: other fields. `start` and `image_size` are the backbone's usual ones by default.

        Raises:
            RecipeError: an unknown field, or a value that cannot be carried out.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(changes) - known):
            raise RecipeError(
                f"A recipe has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}."
            )
        given = {name: value for name, value in changes.items() if value is not None}
        return cls(**(_usual(backbone, given.get("start")) | given))

    @classmethod
    def named(cls, name: str, **fields_: Any) -> "Recipe":
        """Return the recipe of a name, `"linear-probe"`, with some fields changed.

        Raises:
            RecipeError: no such name or field, or a value that cannot be carried out.
        """
        if name != "linear-probe":
            raise RecipeError(f"There is no recipe {name!r}; choose one of: linear-probe.")
        return cls.linear_probe(**fields_)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it: a file of weights by its name and sha256, without its folder."""
        start, file = self.start, Path(self.start)
        if file.is_file():
            start = f"{file.name} (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]})"
        name = self.backbone if isinstance(self.backbone, str) else self.backbone.name
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "backbone": name,
            "start": start,
        }


def _usual(backbone: "str | Backbone | None", start: str | None) -> dict[str, Any]:
    """Return backbone, start and image size that belong together."""
    if backbone is not None and not isinstance(backbone, str):
        preprocessing = backbone.preprocessing
        return {
            "backbone": backbone,
            "start": f"weights {backbone.key}",
            "image_size": preprocessing.image_size,
            "resize": preprocessing.resize,
        }
    if backbone is None and start is not None and is_model(Path(start)):
        model = read_model(Path(start))
        size, resize = model.preprocessing.image_size, model.preprocessing.resize
        return {"backbone": model.backbone, "image_size": size, "resize": resize}
    named = [name for name, entry in CATALOG.items() if entry.start == start]
    backbone = backbone or (named[0] if named else None)
    entry = look_up(backbone or "xception")
    return {"backbone": backbone or "xception", "start": entry.start, "image_size": entry.image_size}
