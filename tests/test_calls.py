from dataclasses import replace
from types import SimpleNamespace

from stockpot.learning.recipes import Recipe, tuning_rate
from stockpot.reporting.calls import training_call


def test_the_code_of_a_training_makes_its_recipe(solar):
    """Whatever was chosen: the call in the report, evaluated, has the run's recipe."""
    probe = solar.run
    made = {
        "scratch": Recipe.from_scratch(epochs=2),
        "cifar": Recipe.linear_probe("cifar", keep="best"),
        "slow": Recipe.linear_probe("cifar", learning_rate=3e-3),
        "large": Recipe.linear_probe("xception", image_size=299, epochs=7),
        "blocks": Recipe.linear_probe("efficientnet_lite0", trainable="blocks.5", augment="light"),
        "random": Recipe.linear_probe(start="random", epochs=2),
        "tail": Recipe.fine_tune(probe, "block12", seed=3),
        "tuned": Recipe.fine_tune(probe, batch_norm="training", learning_rate=1e-4),
        "head": Recipe.linear_probe(start=probe.folder, trainable="block13", augment="light"),
    }
    fast = replace(probe, recipe=probe.recipe | {"learning_rate": 3e-2})  # as the head of the small network
    for rate in (tuning_rate(3e-2), 3e-3):  # the usual one after it, and another
        recipe = Recipe.fine_tune(probe, learning_rate=rate)
        call = training_call(replace(probe, recipe=recipe.to_json()), fast, "solar")
        assert ("learning_rate" in call) == (rate == 3e-3)
    names = {
        "stockpot": SimpleNamespace(train=lambda project, recipe, name="": recipe, Recipe=Recipe),
        "probe": probe,
    }
    for name, recipe in made.items():
        run = replace(probe, name=name, recipe=recipe.to_json())
        variable, call = training_call(run, probe if run.started_from else None, "solar").split(" = ", 1)
        assert (f'name="{name}"' in call) == (name not in ("scratch", "cifar", "tail", "tuned"))
        assert variable == name and eval(call, names).to_json() == recipe.to_json(), call


def test_a_network_of_ones_own_is_a_variable(solar):
    """The report cannot build it; its owner can."""
    recipe = solar.run.recipe | {
        "backbone": "my-net",
        "start": "weights 0123456789ab-0123456789ab",
        "epochs": 9,
    }
    call = training_call(replace(solar.run, recipe=recipe), None, "solar")
    assert call.endswith("Recipe.linear_probe(backbone=my_net, epochs=9))")
