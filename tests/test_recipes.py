import pytest

from stockpot.errors import RecipeError
from stockpot.learning.recipes import Recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1, "batch_size": 0}, "batch_size is 0 and learning_rate is -1"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"resize": "stretch"}, "squash, crop or pad"),
        ({"seed": -1}, "seed is -1"),
        ({"epoch": 3}, "no field epoch; it has .*epochs"),
    ],
)
def test_a_wrong_field_is_named(changes, words):
    """All problems at once, each with what is expected."""
    with pytest.raises(RecipeError, match=words):
        Recipe.linear_probe(**changes)


def test_a_recipe_has_a_name():
    """`train --recipe` knows the names of the constructors."""
    assert Recipe.named("linear-probe", epochs=3) == Recipe.linear_probe(epochs=3)
    with pytest.raises(RecipeError, match="from-scratch, linear-probe, fine-tune"):
        Recipe.named("magic")


def test_fields_that_belong_together_come_from_the_backbone():
    """Start and size are the backbone's usual ones until they are given."""
    assert Recipe.linear_probe() == Recipe()
    cifar = Recipe.linear_probe("cifar")
    assert (cifar.start, cifar.image_size) == ("cifar10", 32)
    assert Recipe.linear_probe("cifar", image_size=64).image_size == 64
    assert (cifar.learning_rate, Recipe.linear_probe().learning_rate) == (3e-2, 3e-3)
    assert Recipe.linear_probe("cifar", learning_rate=1e-3).learning_rate == 1e-3
    assert Recipe.linear_probe("cifar", trainable="all").learning_rate == 3e-3  # that of heads is too high
    resnet = Recipe.linear_probe("resnet18")
    assert (resnet.start, resnet.image_size) == ("pretrained", 224)
    assert Recipe.named("linear-probe", backbone=None, start=None, image_size=None) == Recipe()


def test_from_scratch_is_from_random_weights():
    """The small network by default; another start is a contradiction."""
    scratch = Recipe.from_scratch()
    assert (scratch.backbone, scratch.start, scratch.image_size) == ("cifar", "random", 32)
    assert (scratch.trainable, scratch.batch_norm, scratch.name) == ("all", "training", "from-scratch")
    assert Recipe.from_scratch("resnet18").image_size == 224
    with pytest.raises(RecipeError, match="leave out start"):
        Recipe.from_scratch(start="imagenet")


def test_photos_that_are_not_varied_have_one_view():
    """Four copies of the same picture would be three too many."""
    recipe = Recipe.linear_probe(trainable="block12", augment="none")
    assert recipe.views == 1
    assert Recipe.linear_probe(trainable="block12", augment="light").views == 4


def test_a_recipe_comes_back_from_its_run(lab):
    """Also one that goes on from another run; what only its owner has is named."""
    runs = lab.study.project / "runs"
    for run in lab.study.runs:
        assert Recipe.from_json(run.recipe, runs).to_json() == run.recipe
    own = lab.study.runs[0].recipe | {"start": "weights 0123456789ab-0123456789ab"}
    with pytest.raises(RecipeError, match="starts from weights 0123.* which is not here"):
        Recipe.from_json(own, runs)
    with pytest.raises(RecipeError, match="not one of this version"):
        Recipe.from_json(lab.study.runs[0].recipe | {"magic": 1}, runs)
