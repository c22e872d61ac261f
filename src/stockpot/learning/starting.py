"""The classifier that a recipe begins with."""

import copy
from pathlib import Path

import torch

from stockpot.backbones.backbone import Backbone, load_backbone, read_model_backbone
from stockpot.errors import RecipeError
from stockpot.learning.classifier import Classifier
from stockpot.learning.recipes import Recipe
from stockpot.learning.seeds import read_head
from stockpot.model.model_file import read_model
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


def _backbone(recipe: Recipe, progress: Progress) -> Backbone:
    own = None if isinstance(recipe.backbone, str) else recipe.backbone
    if recipe.head == "keep":
        return read_model_backbone(read_model(Path(recipe.start)), own)
    if not isinstance(recipe.backbone, str):
        return copy.deepcopy(recipe.backbone).eval()  # learning must not reach the user's own module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # of random weights
        return load_backbone(recipe.backbone, recipe.start, recipe.image_size, recipe.resize, progress)
