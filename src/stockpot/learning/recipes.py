"""Every choice that defines a training, as one flat value."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stockpot.backbones.catalog import CATALOG, look_up
from stockpot.errors import RecipeError
from stockpot.learning.runs import find_model, kind_of, short_hash, started_from
from stockpot.learning.seeds import seed_head
from stockpot.model.model_file import is_model, read_model

if TYPE_CHECKING:
    from stockpot.backbones.backbone import Backbone
    from stockpot.learning.runs import Run

MOST_VIEWS = 4
USUAL: dict[str, dict[str, Any]] = {  # recipes by name, and the fields in which they differ from `Recipe()`
    "from-scratch": {
        "start": "random",
        "trainable": "all",
        "batch_norm": "training",
        "augment": "light",
        "epochs": 30,
        "learning_rate": 2e-3,
        "weight_decay": 5e-2,
    },
    "linear-probe": {},
    "fine-tune": {
        "head": "keep",
        "augment": "light",
        "epochs": 10,
        "keep": "best",
        "label_smoothing": 0.1,
    },
}
WARMUP = 0.1  # where all layers go on learning: AdamW's first steps are as long for each of them
_NAMED_STARTS = {"random", "pretrained", *(entry.start for entry in CATALOG.values())}
CHOICES = {
    "head": ("new", "keep"),
    "batch_norm": ("inference", "training"),
    "resize": ("squash", "crop", "pad"),
    "augment": ("none", "light", "strong"),
    "keep": ("last", "best"),
    "class_weights": ("none", "balanced"),
    "precision": ("fastest", "bfloat16", "float32"),
}


@dataclass(frozen=True)
class Recipe:
    """Every choice that defines a training."""

    backbone: "str | Backbone" = "xception"  # the pretrained feature extractor: a name, or one's own network
    start: str = "imagenet"  # where its weights come from: a name, a file, or "random"
    head: Literal["new", "keep"] = "new"  # an untrained last layer, or that of the model in `start`
    trainable: str = "head"  # what learns: "head", "all", or a block and everything after it
    batch_norm: Literal["inference", "training"] = "inference"  # its running statistics: fixed, or learned
    image_size: int = 256  # pixels on each side of what the network receives
    resize: Literal["squash", "crop", "pad"] = "squash"  # photos that are not square
    augment: Literal["none", "light", "strong"] = "none"  # how training photos are varied
    views: int = 4  # varied copies of a photo that frozen blocks below the trainable ones are applied to
    epochs: int = 30  # passes over the training photos
    keep: Literal["last", "best"] = "last"  # epoch that counts; best: of the lowest validation loss
    batch_size: int = 32  # photos a step
    learning_rate: float = 3e-3  # the highest; falls to zero along half a cosine
    warmup: float = 0.0  # share of all steps in which it rises first
    weight_decay: float = 1e-2  # AdamW's, decoupled; of filters and matrices
    label_smoothing: float = 0.0  # share of the truth that is spread over all classes
    class_weights: Literal["none", "balanced"] = "none"  # balanced: every class counts as much as any other
    precision: Literal["fastest", "bfloat16", "float32"] = (
        "fastest"  # of products while more than the head learns
    )
    seed: int = 0  # of new weights, the order of photos, and how they are varied

    def __post_init__(self) -> None:
        self._check_values()
        self._check_learning()
        if self.head == "keep":
            self._check_kept()
        if not isinstance(self.backbone, str):
            own = self.backbone.preprocessing
            if (self.image_size, self.resize) != (own.image_size, own.resize):
                raise RecipeError(
                    f"{self.backbone.name} expects {own.image_size} pixels and {own.resize}, the recipe says "
                    f"{self.image_size} and {self.resize}: change its Preprocessing."
                )

    def _check_values(self) -> None:
        """Refuse a field that is out of range, whatever the others are."""
        positive = ("image_size", "epochs", "batch_size", "learning_rate", "views")
        wrong = [f"{name} is {getattr(self, name)}" for name in positive if not getattr(self, name) > 0]
        if wrong:
            raise RecipeError(f"{' and '.join(wrong)}; expected more than 0.")
        if self.weight_decay < 0:
            raise RecipeError(f"weight_decay is {self.weight_decay}; expected 0 or more.")
        if not 0 <= self.seed < 2**32:
            raise RecipeError(f"seed is {self.seed}; expected 0 to {2**32 - 1}.")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"warmup is {self.warmup}; expected 0 to below 1.")
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(f"label_smoothing is {self.label_smoothing}; expected 0 to below 1.")
        if self.views > MOST_VIEWS:
            raise RecipeError(
                f"views is {self.views}; expected at most {MOST_VIEWS}: each is a copy on disk."
            )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise RecipeError(f"{name} is {getattr(self, name)!r}; expected {_listed(choices)}.")

    def _check_learning(self) -> None:
        """Refuse what contradicts the layers that learn."""
        if self.batch_norm == "training" and self.trainable != "all":
            raise RecipeError(
                f"batch_norm is 'training' and trainable {self.trainable!r}: statistics of frozen layers must "
                f"not move; choose trainable 'all' or batch_norm 'inference'."
            )
        if self.augment != "none" and self.trainable == "head":
            raise RecipeError(
                "augment is for layers that learn; the features of a frozen backbone are computed once: "
                "choose augment 'none', or trainable 'all' or a block."
            )

    def _check_kept(self) -> None:
        """Refuse what differs from the model whose head is kept."""
        if not is_model(Path(self.start)):
            raise RecipeError(
                f"head is 'keep' and start {self.start!r}, which is no model: give one as --start."
            )
        model = read_model(Path(self.start))
        backbone = self.backbone if isinstance(self.backbone, str) else self.backbone.name
        own = model.preprocessing
        found = {"backbone": backbone, "image_size": self.image_size, "resize": self.resize}
        expected = {"backbone": model.backbone, "image_size": own.image_size, "resize": own.resize}
        for name, value in expected.items():
            if found[name] != value:
                raise RecipeError(f"{name} is {found[name]!r}; {self.start} has {value!r}: leave it out.")

    @property
    def name(self) -> str:
        """What the recipe is called: one of `USUAL`."""
        return kind_of(self.start, self.trainable)

    @property
    def usual_name(self) -> str:
        """Return what its run is called where no name is given."""
        if self.name == "fine-tune":
            return "tuned" if self.trainable == "all" else "tail"
        if self.name == "linear-probe":
            return "cifar" if self.backbone == "cifar" else "probe"
        return "scratch"

    @classmethod
    def from_scratch(cls, backbone: "str | None" = None, **changes: Any) -> "Recipe":
        """Return the recipe that trains a network from random weights, with varied photos.

        Args:
            backbone: `"cifar"` by default, at 32 x 32 pixels.
            changes: other fields.

        Raises:
            RecipeError: an unknown field, or a value that cannot be carried out.
        """
        if changes.get("start") not in (None, "random"):
            raise RecipeError("From scratch weights are random: leave out start, or choose another recipe.")
        if backbone is not None and not isinstance(backbone, str):
            raise RecipeError(
                f"{backbone.name} is a network of your own and starts from the weights it has: "
                f"Recipe.linear_probe(backbone, trainable='all', batch_norm='training')."
            )
        return cls._made(USUAL["from-scratch"], backbone or "cifar", changes)

    @classmethod
    def linear_probe(cls, backbone: "str | Backbone | None" = None, **changes: Any) -> "Recipe":
        """Return the recipe that trains a new head on a frozen backbone.

        Args:
            backbone: `"xception"`, `"efficientnet_lite0"`, `"cifar"`, a model of timm, or a `Backbone` of one's
                own. By default the one in the model file `start`, else Xception.
            changes: other fields. `start`, `image_size` and a head's `learning_rate` are the backbone's usual
                ones by default.

        Raises:
            RecipeError: an unknown field, or a value that cannot be carried out.
        """
        return cls._made(USUAL["linear-probe"], backbone, changes)

    @classmethod
    def fine_tune(cls, start: "Run | Path | str", trainable: str = "all", **changes: Any) -> "Recipe":
        """Return the recipe that goes on training a run with a tenth of its learning rate, at most 0.0003.

        BatchNorm stays in inference mode: running means and variances are fixed, gamma and beta learn. Of the
        epochs the one with the lowest validation loss is kept. With another seed it starts from that seed's head,
        where the run has one.

        Args:
            start: a run, its folder, or its model file.
            trainable: `"all"`, or the first block that learns; those before it stay frozen.
            changes: other fields.

        Raises:
            RecipeError: an unknown field, or a value that cannot be carried out.
            ModelError: there is no such model, or it is damaged.
        """
        place = start if isinstance(start, Path | str) else start.model_path
        model = read_model(find_model(Path(place)))
        is_run = "trainable" in model.recipe  # a pretrained model's rate was that of another optimizer
        rate = model.recipe["learning_rate"] if is_run else cls.learning_rate
        own = {"start": str(model.path), "trainable": trainable, "learning_rate": tuning_rate(rate)}
        if trainable == "all":
            own["warmup"] = WARMUP
        return cls._made(USUAL["fine-tune"] | own, None, changes)

    @classmethod
    def _made(
        cls, usual: dict[str, Any], backbone: "str | Backbone | None", changes: dict[str, Any]
    ) -> "Recipe":
        """Return a recipe of usual values, those of the backbone, and changes, later ones first."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(changes) - known):
            raise RecipeError(
                f"A recipe has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}."
            )
        given = {name: value for name, value in changes.items() if value is not None}
        together = usual | given
        start = together.get("start")
        if start is not None and start not in _NAMED_STARTS and Path(start).is_dir():
            together["start"] = str(find_model(Path(start)))
        if together.get("augment") == "none":
            together.setdefault("views", 1)
        own = _usual(backbone, together.get("start"))
        if together.get("trainable", cls.trainable) == "head":
            own["learning_rate"] = head_rate(own["backbone"])
        return cls(**(own | together))

    @classmethod
    def named(cls, name: str, **changes: Any) -> "Recipe":
        """Return the recipe of a name, one of `USUAL`, with some fields changed; None leaves a field as usual.

        Raises:
            RecipeError: no such name or field, or a value that cannot be carried out.
            ModelError: fine-tuning starts from a model that is not there.
        """
        given = {field: value for field, value in changes.items() if value is not None}
        if name == "from-scratch":
            return cls.from_scratch(given.pop("backbone", None), **given)
        if name == "linear-probe":
            return cls.linear_probe(given.pop("backbone", None), **given)
        if name == "fine-tune" and "start" in given:
            return cls.fine_tune(given.pop("start"), given.pop("trainable", "all"), **given)
        if name == "fine-tune":
            raise RecipeError("fine-tune goes on from a run: give --start PROJECT/runs/probe.")
        raise RecipeError(f"There is no recipe {name!r}; choose one of: {', '.join(USUAL)}.")

    @classmethod
    def from_json(cls, value: dict[str, Any], runs: Path) -> "Recipe":
        """Return the recipe that `to_json` told of; `runs` is the folder of the runs that it may go on from.

        Raises:
            RecipeError: it starts from a file or a network that only its owner has, or is another version's.
        """
        start = str(value.get("start", ""))
        file = runs / started_from(value) / "model.safetensors" if started_from(value) else Path(start)
        if start not in _NAMED_STARTS and not is_model(file):
            raise RecipeError(f"The recipe starts from {start}, which is not here: train it from Python.")
        try:
            return cls(**value | {"start": start if start in _NAMED_STARTS else str(file)})
        except TypeError as error:
            raise RecipeError(f"The recipe is not one of this version ({error}): train it anew.") from None

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it: a file of weights by its name and sha256, without its folder."""
        name = self.backbone if isinstance(self.backbone, str) else self.backbone.name
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "backbone": name,
            "start": self._describe_start(),
        }

    def _describe_start(self) -> str:
        file = Path(self.start)
        if not file.is_file():
            return self.start
        of = f"run {file.absolute().parent.name}" if file.name == "model.safetensors" else file.name
        head = seed_head(read_model(file), self.seed) if self.head == "keep" else None
        with_head = f", head {short_hash(head)}" if head else ""
        return f"{of} (sha256 {short_hash(file)}{with_head})"


def head_rate(backbone: "str | Backbone") -> float:
    """Return the usual learning rate of a new head on a backbone."""
    return CATALOG[backbone].head_rate if backbone in CATALOG else Recipe.learning_rate


def tuning_rate(rate: float) -> float:
    """Return the usual learning rate for going on from a run that learned with `rate`.

    A tenth; heads on few channels bear rates that whole networks do not.
    """
    return min(rate, Recipe.learning_rate) / 10


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _usual(backbone: "str | Backbone | None", start: str | None) -> dict[str, Any]:
    """Return backbone, start, image size and resizing that belong together."""
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
