"""Fine-tuning as a user does it: from a saved run, with EfficientNet-Lite0 at 64 pixels."""

import filecmp
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stockpot.backbones.backbone import load_backbone
from stockpot.errors import RecipeError
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.forecast import forecast
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import read_run
from stockpot.learning.starting import start_classifier
from stockpot.learning.training import train
from stockpot.model.model_file import read_backbone, read_model
from stockpot.photos.splits import split
from stockpot.project import Project


@pytest.fixture(scope="module")
def probed(solar, tmp_path_factory):
    """The solar cells with a probe of a small backbone. Read only."""
    copy = tmp_path_factory.mktemp("probed") / "solar"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "features", "report.html"))
    return copy, train(copy, Recipe.linear_probe("efficientnet_lite0", image_size=64, epochs=5))


@pytest.fixture
def project(probed, tmp_path):
    shutil.copytree(probed[0], tmp_path / "solar")
    return tmp_path / "solar"


def test_all_layers_learn_and_statistics_stand(project, probed):
    """From the probe's weights and head, a tenth of its learning rate, the best epoch kept and marked."""
    recipe = Recipe.fine_tune(project / "runs" / "probe", epochs=2)
    assert recipe.learning_rate == pytest.approx(3e-4) and recipe.warmup == 0.1
    run = train(project, recipe)
    assert run.name == "tuned" and run.started_from == "probe" and run.chosen
    audit = run.audit
    assert audit.passed and audit.frozen_parameters == 0 and audit.statistics_changed == 0
    assert audit.trained_parameters == probed[1].audit.frozen_parameters + 1280 * 4 + 4
    best = min(run.history, key=lambda epoch: epoch.validation_loss)
    assert run.chosen_epoch == best.number
    assert run.evaluation.loss == pytest.approx(best.validation_loss, abs=1e-3)
    before, after = (read_backbone(each.model_path) for each in (probed[1], run))
    for name in after:
        fixed = name.endswith(("running_mean", "running_var"))
        assert np.array_equal(before[name], after[name]) == fixed, name
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in probed[1].folder.iterdir()}


@pytest.mark.parametrize(("heads", "usual"), [(None, 3e-4), (1e-3, 1e-4)])
def test_fine_tuning_is_ten_times_slower_or_more(project, heads, usual):
    """A tenth of the head's rate, but never more than what whole networks bear: that of cifar's head is 0.03."""
    run = train(project, Recipe.linear_probe("cifar", epochs=1, learning_rate=heads))
    assert run.recipe["learning_rate"] == (heads or 3e-2)
    assert Recipe.fine_tune(run).learning_rate == pytest.approx(usual)


def test_the_last_blocks_learn_from_cached_views(project, probed):
    """Below the block every bit stays; above it all learns; the cached views are gone afterwards."""
    run = train(project, Recipe.fine_tune(project / "runs" / "probe", "blocks.5", epochs=2, views=2))
    assert run.name == "tail" and run.audit.passed and run.audit.frozen_parameters > 0
    before, after = (read_backbone(each.model_path) for each in (probed[1], run))
    statistics = ("running_mean", "running_var")
    for name in after:
        frozen = name.startswith(("conv_stem", "bn1", *(f"blocks.{i}." for i in range(5))))
        assert np.array_equal(before[name], after[name]) == (frozen or name.endswith(statistics)), name
    prefixes = Project(project).prefixes
    assert not prefixes.exists() or not any(prefixes.iterdir())


def test_a_tail_computes_what_the_whole_network_computes(probed):
    """Cut before any block, both parts together give the same bits; the oracle is the network itself."""
    backbone = load_backbone("efficientnet_lite0", image_size=64)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        whole = backbone(pixels)
        for block in ("bn1", "blocks.0", "blocks.5", "conv_head"):
            before, after = backbone.parts(block)
            assert torch.equal(after(before(pixels)), whole)


def test_a_network_that_is_no_row_is_not_cut():
    """A block that there is not, the first one, and a network whose blocks do not follow one another."""
    backbone = load_backbone("efficientnet_lite0", image_size=64)
    for block in ("blocks.9", "conv_stem", "block12"):
        with pytest.raises(RecipeError, match="choose all, head, or one of: bn1.*, blocks.5"):
            backbone.parts(block)

    class Crossed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.first(x) + self.second(x)

    from stockpot.backbones.backbone import Backbone
    from stockpot.photos.preprocessing import Preprocessing

    crossed = Backbone(Crossed(), preprocessing=Preprocessing(8, (0,) * 3, (255,) * 3), name="crossed")
    with pytest.raises(RecipeError, match="crossed is not a row of blocks.*choose all or head"):
        crossed.parts("second")


def test_from_scratch_learns_its_statistics(project):
    """Random weights by the seed; BatchNorm in training mode; only the whitening filters are computed."""
    run = train(project, Recipe.from_scratch(epochs=3))
    assert run.name == "scratch" and not run.chosen and run.chosen_epoch == 3
    assert run.audit.passed and run.audit.batch_norm == "training"
    assert run.audit.statistics_changed == run.audit.statistics > 0
    assert run.audit.frozen_parameters == 24 * 3 * 2 * 2
    assert read_model(run.model_path).attribution == "random weights"
    again = train(project, Recipe.from_scratch(epochs=3), name="again")
    assert again.name == "again"
    assert filecmp.cmp(again.model_path, run.model_path, shallow=False)


def test_another_seed_keeps_figures_and_head(project):
    """Three seeds: one whole run, two beside it; called again nothing is trained."""
    stages = []
    recipe = Recipe.linear_probe("efficientnet_lite0", image_size=64, epochs=5)
    run = train(project, recipe, seeds=3, progress=lambda stage, *_: stages.append(stage))
    kept = sorted(path.name for path in (run.folder / "seeds").iterdir())
    assert kept == ["1.csv", "1.json", "1.safetensors", "2.csv", "2.json", "2.safetensors"]
    assert "training" in stages
    stages.clear()
    train(project, recipe, seeds=3, progress=lambda stage, *_: stages.append(stage))
    assert "training" not in stages


def test_fine_tuning_with_a_seed_starts_from_the_head_of_that_seed(project):
    """Where the probe's run has it, and the recipe says so; heads of fine-tuned runs are never borrowed."""
    probe = train(project, Recipe.linear_probe("efficientnet_lite0", image_size=64, epochs=5), seeds=2)
    first, second = (Recipe.fine_tune(probe, "conv_head", epochs=1, views=1, seed=seed) for seed in (0, 1))
    assert ", head " in second.to_json()["start"] and ", head " not in first.to_json()["start"]
    tail = train(project, first, seeds=2)
    classifier = start_classifier(second, read_model(probe.model_path).class_names)
    kept = load_file(probe.folder / "seeds" / "1.safetensors")
    assert np.array_equal(classifier.head.weight.detach().numpy(), kept["weight"])
    assert (tail.folder / "seeds" / "1.safetensors").exists()
    third = Recipe.fine_tune(tail, "conv_head", epochs=1, views=1, seed=1)
    assert ", head " not in third.to_json()["start"]
    assert len(list(Project(project).graphs.glob("*.onnx"))) == 4  # probe, before, tail; not that of seed 1


def test_what_cannot_be_kept_is_refused(project):
    """Another size than the model's, and a head of other classes."""
    with pytest.raises(RecipeError, match="image_size is 128; .* has 64: leave it out"):
        Recipe.fine_tune(project / "runs" / "probe", image_size=128)
    with pytest.raises(RecipeError, match="backbone is 'xception'"):
        Recipe.fine_tune(project / "runs" / "probe", backbone="xception")
    (project / "photos" / "polycrystalline defective").rename(project / "photos" / "broken")
    with pytest.raises(RecipeError, match="knows the classes"):
        train(project, Recipe.fine_tune(project / "runs" / "probe", epochs=1))


def test_a_forecast_is_of_what_is_left_to_do(project):
    """Positive before, nothing afterwards; the graphs it makes serve the training."""
    recipe = Recipe.linear_probe("efficientnet_lite0", image_size=64, epochs=5)
    assert forecast(project, recipe).seconds == 0
    for other in (
        Recipe.linear_probe("efficientnet_lite0", image_size=96, epochs=2),
        Recipe.from_scratch(epochs=2),
        Recipe.fine_tune(project / "runs" / "probe", epochs=2),
        Recipe.fine_tune(project / "runs" / "probe", "blocks.6", epochs=2, views=1),
    ):
        expected = forecast(project, other)
        assert expected.learning > 0 and expected.seconds < 600
    graphs = len(list(Project(project).graphs.glob("*.onnx")))
    tail = train(project, other)
    assert len(list(Project(project).graphs.glob("*.onnx"))) == graphs + 1  # that of the tuned network
    assert forecast(project, other).seconds == 0
    assert (
        read_model(tail.model_path).learned_from
        == read_model(project / "runs/probe/model.safetensors").learned_from
    )


def test_what_a_run_has_learned_from_is_not_validated_on(project):
    """After another split nothing goes on from the old probe; a run on the new split can be gone on from."""
    probe = read_model(project / "runs" / "probe" / "model.safetensors")
    assert set(probe.learned_from) == {photo.sha256[:12] for photo in split(project).training}
    sides = split(project, seed=3)
    seen = sum(photo.sha256[:12] in probe.learned_from for photo in sides.validation)
    assert seen
    for go_on in (train, forecast):
        with pytest.raises(
            RecipeError, match=f"learned from {seen} of the {len(sides.validation)} validation photos"
        ):
            go_on(project, Recipe.fine_tune(probe.path, "conv_head", epochs=1))
    assert not (project / "runs" / "tail").exists()
    again = train(project, Recipe.linear_probe("efficientnet_lite0", image_size=64, epochs=5))
    assert (
        train(project, Recipe.fine_tune(again, "conv_head", epochs=1, views=1)).split_fingerprint
        == sides.fingerprint
    )


def start(project, *more):
    command = [sys.executable, "-m", "stockpot", "train", str(project), "--recipe", "from-scratch"]
    command += ["--epochs", "25", "--quiet", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def learning(project):
    """Start a training; return it and its checkpoint as soon as an epoch is complete."""
    checkpoint, process = project / "runs" / "scratch" / "checkpoint.safetensors", start(project)
    while not checkpoint.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return process, checkpoint


def test_the_first_ctrl_c_ends_the_training_softly(project):
    """The run is completed with the epochs that were finished, exit 130; --resume goes on to the same bits."""
    process, checkpoint = learning(project)
    os.kill(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 130, messages
    assert "Stopping after this batch" in messages and "--resume goes on" in messages
    run = read_run(project / "runs" / "scratch")
    assert run.interrupted and 0 < len(run.history) < 25
    assert run.chosen_epoch == len(run.history)
    resumed = start(project, "--resume")
    _, messages = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, messages
    run = read_run(project / "runs" / "scratch")
    assert not run.interrupted and len(run.history) == 25 and not checkpoint.exists()
    undisturbed = train(project, Recipe.from_scratch(epochs=25), name="undisturbed")
    assert filecmp.cmp(undisturbed.model_path, run.model_path, shallow=False)


def test_a_tail_goes_on_where_it_was_stopped(project):
    """Stopped in the middle of its epochs, resumed from its cached views: the same bits as undisturbed."""
    recipe = Recipe.fine_tune(project / "runs" / "probe", "blocks.6", epochs=3, views=2)
    undisturbed = train(project, recipe, name="undisturbed")

    def stop(stage, done, total):
        if stage == "training" and done == total // 2:
            signal.raise_signal(signal.SIGINT)

    stopped = train(project, recipe, name="stopped", progress=stop)
    assert stopped.interrupted and len(stopped.history) < 3
    stages = []
    resumed = train(project, recipe, "stopped", lambda *state: stages.append(state), resume=True)
    assert not resumed.interrupted and "computing frozen blocks" not in {stage for stage, *_ in stages}
    first = next(done for stage, done, _ in stages if stage == "training")
    assert first > 1, "complete epochs are not learned again"
    assert filecmp.cmp(resumed.model_path, undisturbed.model_path, shallow=False)
    assert not any(Project(project).prefixes.iterdir())


def test_killed_the_same_command_goes_on(project):
    """No run is complete after kill -9; called again, it ends with the same bits as undisturbed."""
    process, _ = learning(project)
    process.kill()
    process.communicate()
    assert read_run(project / "runs" / "scratch") is None
    again = start(project)
    _, messages = again.communicate(timeout=300)
    assert again.returncode == 0, messages
    run = read_run(project / "runs" / "scratch")
    undisturbed = train(project, Recipe.from_scratch(epochs=25), name="undisturbed")
    assert filecmp.cmp(undisturbed.model_path, run.model_path, shallow=False)


def test_a_kill_before_the_checkpoint_was_deleted_leaves_none(project, monkeypatch):
    """The run is complete; the same call returns it and deletes the checkpoint."""
    monkeypatch.setattr("stockpot.learning.training.forget_checkpoint", lambda run: None)
    monkeypatch.setattr(Checkpoint, "delete", lambda self: None)
    run = train(project, Recipe.from_scratch(epochs=2), name="left")
    assert (run.folder / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    assert train(project, Recipe.from_scratch(epochs=2), name="left").name == "left"
    assert not (run.folder / "checkpoint.safetensors").exists()


def test_an_unfinished_run_is_not_replaced_by_another_recipe(project):
    """After kill -9 other options get a folder of their own; the first command still goes on."""
    process, checkpoint = learning(project)
    process.kill()
    process.communicate()
    assert train(project, Recipe.from_scratch(epochs=1)).name == "scratch-2"
    with pytest.raises(RecipeError, match="'scratch' with another recipe exists"):
        train(project, Recipe.from_scratch(epochs=1, seed=3), name="scratch")
    assert checkpoint.exists()
    assert train(project, Recipe.from_scratch(epochs=25)).name == "scratch"
