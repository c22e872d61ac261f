"""The classifier that a recipe begins with."""

import copy
from pathlib import Path

import torch

from stockpot.backbones.backbone import Backbone, load_backbone, read_model_backbone
from stockpot.errors import RecipeError
from stockpot.learning.classifier import Classifier
from stockpot.learning.recipes import Recipe
from stockpot.learning.seeds import read_head
from stockpot.model.model_file import is_model, read_model
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split
from stockpot.progress import Progress, silent


def start_classifier(recipe: Recipe, class_names: tuple[str, ...], progress: Progress = silent) -> Classifier:
    """Return the classifier that training begins with, in training mode; nothing is frozen yet.

    Raises:
        RecipeError: the head that is to be kept knows other classes.
        WeightsError: the backbone's weights cannot be had.
        ModelError: the model to start from is damaged.
    """
    classifier = Classifier(_backbone(recipe, progress), len(class_names), recipe.seed, recipe.batch_norm)
    if recipe.head == "keep":
        model = read_model(Path(recipe.start))
        if model.class_names != class_names:
            raise RecipeError(
                f"{recipe.start} knows the classes {', '.join(model.class_names)}; the photos have "
                f"{', '.join(class_names)}: train a new head first, or choose head 'new'."
            )
        head = read_head(model, recipe.seed)
        classifier.head.load_state_dict({part: torch.from_numpy(array) for part, array in head.items()})
    return classifier.train()


def check_unseen(recipe: Recipe, sides: Split) -> None:
    """Refuse to go on from a model that has learned from photos that are to be validated on.

    Raises:
        RecipeError: it has; says how many.
    """
    learned = learned_before(recipe)
    seen = sum(photo_id(photo) in learned for photo in sides.validation)
    if seen:
        raise RecipeError(
            f"{recipe.start} has learned from {seen} of the {len(sides.validation)} validation photos, because the "
            f"split is another one now: train a new run to start from."
        )


def learned_before(recipe: Recipe) -> frozenset[str]:
    """Return which photos the model has learned from that a recipe starts with; none where it is no model."""
    start = Path(recipe.start)
    return frozenset(read_model(start).learned_from) if is_model(start) else frozenset()


def learns_alone(recipe: Recipe) -> bool:
    """Tell whether a head learns on a backbone that has learned from no photos of ours."""
    return recipe.trainable == "head" and not learned_before(recipe)


def photo_id(photo: Photo) -> str:
    """Return how a model remembers a photo: 12 hexadecimal digits."""
    return photo.sha256[:12]


def _backbone(recipe: Recipe, progress: Progress) -> Backbone:
    own = None if isinstance(recipe.backbone, str) else recipe.backbone
    if recipe.head == "keep":
        return read_model_backbone(read_model(Path(recipe.start)), own)
    if not isinstance(recipe.backbone, str):
        return copy.deepcopy(recipe.backbone).eval()  # learning must not reach the user's own module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # of random weights
        return load_backbone(recipe.backbone, recipe.start, recipe.image_size, recipe.resize, progress)
