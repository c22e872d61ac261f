import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from stockpot.backbones.backbone import Backbone, read_model_backbone
from stockpot.errors import ModelError, RecipeError, WeightsError
from stockpot.learning.classifier import new_head
from stockpot.learning.fitting import fit
from stockpot.learning.inputs import fixed
from stockpot.learning.models import predict
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
from stockpot.model.model_file import read_model
from stockpot.photos.preprocessing import Preprocessing
from stockpot.photos.splits import look_at_split


def test_the_head_finds_what_logistic_regression_finds():
    """scikit-learn is the oracle: without weight decay both reach the same lowest loss."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4)).astype(np.float32)
    y = (x @ random.normal(size=(4, 3)) + 2 * random.normal(size=(300, 3))).argmax(axis=1)
    data = fixed(torch.from_numpy(x), torch.from_numpy(y))
    recipe = Recipe.linear_probe(epochs=150, learning_rate=0.03, weight_decay=0.0)
    *_, last = fit(new_head(4, 3, seed=0), data, data, recipe)
    oracle = LogisticRegression(C=np.inf, max_iter=1000).fit(x, y)
    assert last.training_loss == pytest.approx(log_loss(y, oracle.predict_proba(x)), abs=1e-3)
    assert last.training_loss == pytest.approx(last.validation_loss, abs=1e-3)


def test_validation_photos_teach_nothing():
    """Other validation labels leave every weight as it is."""
    x, y = torch.randn(40, 4), torch.arange(40) % 2
    heads = [new_head(4, 2, seed=0) for _ in range(2)]
    for head, labels in zip(heads, (y, 1 - y), strict=True):
        fit(head, fixed(x, y), fixed(x, labels), Recipe.linear_probe(epochs=3))
    assert torch.equal(heads[0].weight, heads[1].weight)


def test_permuted_labels_give_chance():
    """It cannot fool itself: without a relation there is nothing to find on unseen photos."""
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(900, 20)).astype(np.float32))
    y = torch.from_numpy(random.integers(0, 3, 900))
    sides = fixed(x[:300], y[:300]), fixed(x[300:], y[300:])
    *_, last = fit(new_head(20, 3, seed=0), *sides, Recipe.linear_probe())
    assert last.validation_accuracy == pytest.approx(1 / 3, abs=4 * (2 / 9 / 600) ** 0.5)


def test_a_run_is_complete_and_true(solar):
    """Curves for every epoch, a passed audit, checks within their bounds, figures that fit together."""
    run = solar.run
    assert [epoch.number for epoch in run.history] == list(range(1, 31))
    assert run.history[-1].training_loss < run.history[0].training_loss
    assert run.audit.passed
    assert run.audit.frozen_parameters == 20_806_952
    assert run.audit.trained_parameters == 2048 * 4 + 4
    assert run.audit.batch_norms == 40
    assert run.checks.map_identity < 1e-4
    assert run.checks.cached_features < 1e-3
    assert run.checks.reloaded_logits == run.checks.reloaded_maps == 0
    assert run.evaluation.n == len(solar.split.validation)
    assert run.history[-1].validation_accuracy == pytest.approx(run.evaluation.accuracy)
    assert run.history[-1].validation_loss == pytest.approx(run.evaluation.loss, abs=1e-5)
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "recipe.json",
        "history.jsonl",
        "model.safetensors",
        "predictions.csv",
        "environment.json",
        "evaluation.json",
        "cross_validation.json",  # written by the comparison
        "learning_curve.json",
    }


def test_the_same_again_is_the_same_bits(solar, tmp_path):
    """A project trained anew, from its photos and seed, gives the same model byte for byte."""
    copy = tmp_path / solar.project.name
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "features", "report.html"))
    run = train(copy)
    assert run.model_path.read_bytes() == solar.run.model_path.read_bytes()
    assert (run.folder / "predictions.csv").read_bytes() == (
        solar.run.folder / "predictions.csv"
    ).read_bytes()


def test_another_recipe_never_replaces_a_run(solar, tmp_path):
    """It gets a name of its own; a name that is taken is refused."""
    copy = tmp_path / "copy"
    shutil.copytree(solar.project, copy)
    short = Recipe.linear_probe(epochs=2)
    with pytest.raises(RecipeError, match="'probe' with another recipe exists"):
        train(copy, short, name="probe")
    with pytest.raises(RecipeError, match="cannot name a run"):
        train(copy, short, name="../probe")
    assert train(copy, short).name == "probe-2"
    assert train(copy, short).name == "probe-2"
    assert train(copy).name == "probe"


@pytest.fixture
def unlearned(solar, tmp_path):
    """The solar cells, split, without runs and caches."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "cache", "report.html"))
    return copy


def test_the_cifar_network_is_borrowed_at_its_own_size(unlearned):
    """32 x 32 pixels, 8 x 8 maps, frozen as every backbone; the model names where its weights come from."""
    run = train(unlearned, Recipe.linear_probe(backbone="cifar"))
    assert (run.recipe["start"], run.recipe["image_size"]) == ("cifar10", 32)
    assert run.audit.passed and run.audit.trained_parameters == 256 * 4 + 4
    assert run.checks.map_identity < 1e-4
    assert run.history[-1].training_loss < run.history[0].training_loss
    model = read_model(run.model_path)
    assert model.preprocessing.image_size == 32
    assert "CIFAR-10" in model.attribution


def test_a_file_of_weights_starts_a_probe_by_itself(unlearned, learned, tmp_path):
    """`start` alone: the file says what its backbone and size are; the run names its sha256, not its folder."""
    shutil.copy(learned.path, tmp_path / "my.safetensors")
    run = train(unlearned, Recipe.linear_probe(start=str(tmp_path / "my.safetensors")))
    assert (run.recipe["backbone"], run.recipe["image_size"]) == ("cifar", 32)
    assert run.recipe["start"].startswith("my.safetensors (sha256 ")
    assert run.audit.passed and run.audit.trained_parameters == 32 * 4 + 4
    assert run.checks.map_identity < 1e-4
    assert run.history[-1].training_loss < run.history[0].training_loss
    with pytest.raises(WeightsError, match="--backbone cifar"):
        train(unlearned, Recipe.linear_probe("xception", start=str(tmp_path / "my.safetensors")))


def test_the_module_that_was_given_stays_as_it_is(unlearned):
    """Freezing and inference mode are for a copy: it may go on learning elsewhere."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    mine = Backbone(module, preprocessing=Preprocessing(32, (127.0,) * 3, (64.0,) * 3), name="mine")
    train(unlearned, Recipe.linear_probe(mine, epochs=1))
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_network_of_ones_own_trains_and_travels(unlearned, tmp_path):
    """A module is enough; its model file carries its graph and predicts without the module, in any folder."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5, stride=4), torch.nn.BatchNorm2d(16), torch.nn.ReLU()
    )
    preprocessing = Preprocessing(64, (127.0, 127.0, 127.0), (64.0, 64.0, 64.0))
    mine = Backbone(module, preprocessing=preprocessing, name="mine")
    run = train(unlearned, Recipe.linear_probe(mine))
    assert run.recipe["backbone"] == "mine" and mine.fingerprint in run.recipe["start"]
    assert run.audit.passed
    photos = [photo.path for photo in look_at_split(unlearned).validation]
    expected = [answer.probabilities for answer in predict(run, photos)]
    shutil.copy(run.model_path, tmp_path / "mine.safetensors")
    found = [answer.probabilities for answer in predict(tmp_path / "mine.safetensors", photos)]
    assert found == expected
    with pytest.raises(ModelError, match="a network of your own"):
        read_model_backbone(read_model(run.model_path))
    with pytest.raises(RecipeError, match="mine expects 64 pixels"):
        Recipe.linear_probe(mine, image_size=32)
