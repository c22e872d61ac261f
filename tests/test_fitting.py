import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from stockpot.errors import RecipeError
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.classifier import new_head
from stockpot.learning.fitting import _schedule, fit, measure
from stockpot.learning.inputs import Inputs, fixed
from stockpot.learning.precision import fast_precision, precision_of
from stockpot.learning.recipes import Recipe

RECIPE = Recipe.linear_probe(epochs=4, batch_size=16, learning_rate=0.05)


@pytest.fixture
def data() -> Inputs:
    """Sixty points of three classes that overlap."""
    chance = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    return fixed(torch.randn(60, 5, generator=chance) + y[:, None], y)


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), new_head(8, 3, seed=0))


def bits(module: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def test_pieces_of_a_batch_add_up_to_the_batch(data):
    """What goes through in pieces of five, to save memory, learns the same to rounding."""
    heads = [new_head(5, 3, seed=0) for _ in range(2)]
    recipe = replace(RECIPE, label_smoothing=0.1, class_weights="balanced")
    for head, at_once in zip(heads, (0, 5), strict=True):
        fit(head, Inputs(data.labels, data.take, at_once), data, recipe)
    assert torch.allclose(heads[0].weight, heads[1].weight, atol=1e-6)
    assert not torch.equal(heads[0].weight, new_head(5, 3, seed=0).weight)


def test_bfloat16_learns_nearly_the_same_and_repeatably(data):
    """Products are rounded to 8 bits, weights and their sums are not."""
    learned = {}
    for name, precision in (("exact", "float32"), ("rounded", "bfloat16"), ("again", "bfloat16")):
        head = new_head(5, 3, seed=0)
        fit(head, data, data, replace(RECIPE, precision=precision))
        learned[name] = head.weight.detach()
    assert torch.equal(learned["rounded"], learned["again"])
    assert not torch.equal(learned["rounded"], learned["exact"])
    assert torch.allclose(learned["rounded"], learned["exact"], atol=0.02)


def test_the_fastest_precision_depends_on_the_layers():
    """A head alone, and depthwise convolutions of 5 x 5, are not faster in bfloat16."""
    separable = [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1)]
    large = nn.Conv2d(8, 8, 5, groups=8)
    assert precision_of(RECIPE, new_head(5, 3, seed=0)) == "float32"
    assert precision_of(RECIPE, nn.Sequential(*separable)) == fast_precision()
    assert precision_of(RECIPE, nn.Sequential(*separable, large)) == "float32"
    assert precision_of(replace(RECIPE, precision="bfloat16"), large) == "bfloat16"


@pytest.mark.parametrize("keep", ["last", "best"])
def test_it_goes_on_from_a_checkpoint_with_the_same_bits(data, module, tmp_path, monkeypatch, keep):
    """Stopped in any epoch and called again, it ends as if undisturbed; complete epochs are not learned again.

    The validation photos have wrong labels, so that the best epoch is not the last one before the stop.
    """
    monkeypatch.setattr("stockpot.learning.fitting.SAVED_SECONDS", 0.0)
    wrong = fixed(data.take(torch.arange(60), 0), data.labels.flip(0))
    recipe = replace(RECIPE, keep=keep, learning_rate=0.3, epochs=6)
    undisturbed = copy.deepcopy(module)
    whole = fit(undisturbed, data, wrong, recipe)
    assert min(whole[:4], key=lambda epoch: epoch.validation_loss).number < 4
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", {"of": "this"})
    for epochs in (2, 4, 6):
        batches = []
        last = 4 * epochs + 2  # four batches an epoch: in the middle of the next one
        again = fit(
            copy.deepcopy(module),
            data,
            wrong,
            recipe,
            checkpoint,
            stop=lambda: len(batches) > 0 and batches[-1] >= last,  # noqa: B023
            progress=lambda _, done, total: batches.append(done),  # noqa: B023
        )
        assert len(again) == epochs
        assert batches[0] == 4 * (epochs - 2) + 1
    resumed = copy.deepcopy(module)
    fit(resumed, data, wrong, recipe, checkpoint)
    assert same(bits(resumed), bits(undisturbed))
    untimed = [[replace(epoch, seconds=0.0) for epoch in history] for history in (again, whole)]
    assert untimed[0] == untimed[1]


def test_a_checkpoint_of_something_else_is_refused(data, module, tmp_path):
    """Neither another recipe's nor a damaged one is taken up; both are named."""
    path = tmp_path / "checkpoint.safetensors"
    fit(module, data, data, RECIPE, Checkpoint(path, {"of": "this"}))
    with pytest.raises(RecipeError, match="another recipe or other photos: delete it"):
        fit(module, data, data, RECIPE, Checkpoint(path, {"of": "that"}))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecipeError, match="damaged"):
        fit(module, data, data, RECIPE, Checkpoint(path, {"of": "this"}))


def test_the_epoch_that_counts_is_the_best_one(data):
    """Afterwards the module is what it was after the epoch with the lowest validation loss."""
    wrong = fixed(data.take(torch.arange(60), 0), data.labels.flip(0))  # learning makes it worse
    recipe = replace(RECIPE, keep="best", epochs=6, learning_rate=0.3)
    heads = [new_head(5, 3, seed=0) for _ in range(2)]
    best = fit(heads[0], data, wrong, recipe)
    losses = [epoch.validation_loss for epoch in best]
    assert min(losses) < losses[-1]
    assert measure(heads[0], wrong)[0] == pytest.approx(min(losses))
    last = fit(heads[1], data, wrong, replace(recipe, keep="last"))
    assert measure(heads[1], wrong)[0] == pytest.approx(last[-1].validation_loss)


def test_the_learning_rate_rises_and_falls(data):
    """A quarter of sixteen steps rises evenly; then half a cosine, as without a warm-up."""
    rates = [_schedule(step, 16, 0.25) for step in range(16)]
    plain = [_schedule(step, 16, 0.0) for step in range(16)]
    assert plain[0] == 1 and plain[8] == pytest.approx(0.5) and plain == sorted(plain, reverse=True)
    assert [rate / flat for rate, flat in zip(rates, plain, strict=True)] == pytest.approx(
        [0.25, 0.5, 0.75] + [1] * 13
    )
    head = new_head(5, 3, seed=0)
    history = fit(head, data, data, replace(RECIPE, warmup=0.5))
    assert history[0].learning_rate == pytest.approx(RECIPE.learning_rate * _schedule(3, 16, 0.5))


def test_a_diverging_training_says_so(data):
    """Not "what was saved is not what was trained": a sentence with the remedy, and nothing is kept."""
    with pytest.raises(RecipeError, match="diverged in epoch 1 .* lower --learning-rate"):
        fit(new_head(5, 3, seed=0), data, data, replace(RECIPE, learning_rate=1e30))


def test_stopped_before_the_first_epoch_it_has_nothing(data):
    """There is no epoch that could count."""
    assert fit(new_head(5, 3, seed=0), data, data, RECIPE, stop=lambda: True) == ()


def test_every_epoch_is_told_of_and_stopping_keeps_what_there_is(data, module, tmp_path):
    """Whoever watches sees each complete epoch once; going on, those of the checkpoint first."""
    seen, again = [], []
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", {})
    history = fit(module, data, data, RECIPE, checkpoint, lambda: len(seen) == 2, watch=seen.append)
    assert seen == list(history) and len(seen) == 2
    history = fit(module, data, data, RECIPE, checkpoint, watch=again.append)
    assert again == list(history) and again[:2] == seen and len(again) == RECIPE.epochs


def test_balanced_weights_help_the_rare_class():
    """Ninety photos against ten that overlap: the recall of the ten rises."""
    chance = torch.Generator().manual_seed(1)
    y = (torch.arange(100) >= 90).long()
    data = fixed(torch.randn(100, 3, generator=chance) + 0.7 * y[:, None], y)
    recalls = []
    for weights in ("none", "balanced"):
        head = new_head(3, 2, seed=0)
        fit(head, data, data, replace(RECIPE, epochs=20, class_weights=weights))
        recalls.append((head(data.take(torch.arange(90, 100), 0)).argmax(dim=1) == 1).float().mean())
    assert recalls[1] > recalls[0] + 0.3
