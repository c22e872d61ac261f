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
    with pytest.raises(RecipeError, match="linear-probe"):
        Recipe.named("magic")
