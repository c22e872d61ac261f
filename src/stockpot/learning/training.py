"""Training: a recipe and a project in, a run out.

`N` photos, `S` input size, `K` classes.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones import cifar_resnet
from stockpot.backbones.backbone import Backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.errors import RecipeError
from stockpot.learning.checkpoint import checkpoint_of
from stockpot.learning.classifier import Classifier
from stockpot.learning.compute import Compute, Fitting
from stockpot.learning.evaluation import evaluate_logits
from stockpot.learning.features import Features, cached_features
from stockpot.learning.fitting import chosen_epoch
from stockpot.learning.freezing import audit_freeze, snapshot
from stockpot.learning.inputs import Inputs, fixed, from_photos, from_views, read_pixels
from stockpot.learning.knowing import calibrate_by_validation, know_from_folds, know_from_validation
from stockpot.learning.prefixes import Variation, Views, cached_views, forget_views, graph_before
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Epoch, Run, find_run, forget_checkpoint, run_folder
from stockpot.learning.saving import Trained, save_run
from stockpot.learning.seeds import has_seed, save_seed, seed_folder
from stockpot.learning.starting import check_unseen, learns_alone, start_classifier
from stockpot.learning.stopping import stop_softly
from stockpot.learning.torchrun import here
from stockpot.model.model_file import Calibration
from stockpot.model.rejection import Rejection
from stockpot.photos.photo import Photo
from stockpot.photos.splits import Split, split
from stockpot.progress import Progress, silent


def train(
    project: Path | str,
    recipe: Recipe | None = None,
    name: str | None = None,
    progress: Progress = silent,
    resume: bool = False,
    seeds: int = 1,
    device: str = "auto",
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[Epoch], None] = lambda epoch: None,
    compute: Compute | None = None,
) -> Run:
    """Train a classifier by a recipe, and keep the run.

    Killed before its end, the same call goes on after the last epoch that was kept. Ctrl-C ends the training
    after the batch it is at, and the run is completed with the epochs that were finished.

    Args:
        project: a project folder; it is split first if it is not.
        recipe: what to do; `Recipe.linear_probe()` by default.
        name: of the run's folder; by default scratch, cifar, probe, tail or tuned, by the recipe. A completed
            run of this recipe on this split is returned as it is.
        progress: told what is being done and how far it is.
        resume: go on with a run that Ctrl-C has completed early.
        seeds: how many seeds to train with, from the recipe's on; of those after the first only heads,
            predictions and figures are kept.
        device: what torch computes on: `"auto"` (CUDA where torch finds it), `"cpu"`, `"cuda"` or `"mps"`.
        stop: asked after every batch; ends the training as Ctrl-C does, but whatever is complete is returned.
        watch: told of every epoch that is complete, also of those that a checkpoint had.
        compute: what runs frozen networks and trains; by default the device, of this process or of all those that
            torchrun has started. `cluster.training.on_ray` gives a Ray cluster.

    Returns:
        The run, complete on disk.

    Raises:
        ProjectError, PhotoError: no project, or photos that no classifier can be made of.
        RecipeError: the name belongs to another recipe, a field cannot be carried out, or the run to start from
            has learned from what are validation photos now.
        WrongUse: there is no such device here.
        WeightsError: the backbone's weights cannot be had.
        ModelError: what was saved is not what was trained.
        Busy, FolderError: the project cannot be written.
        KeyboardInterrupt: stopped before the first epoch was complete.
    """
    recipe = recipe or Recipe.linear_probe()
    if seeds < 1:
        raise RecipeError(f"seeds is {seeds}; expected 1 or more.")
    compute = compute or here(device)
    opened = disk.open_project(project)
    with opened.writing():
        sides = split(opened.folder, progress=progress)
        run = find_run(opened, recipe.to_json(), sides.fingerprint, name)
        if run is None or (resume and run.interrupted):
            check_unseen(recipe, sides)
            folder = (
                run.folder
                if run
                else run_folder(opened, recipe.to_json(), sides.fingerprint, recipe.usual_name, name)
            )
            run = _Training(opened, recipe, sides, folder, compute, progress, stop, watch).run()
        forget_checkpoint(run)
        for seed in range(recipe.seed + 1, recipe.seed + seeds):
            if run.interrupted:
                break
            if not has_seed(run, seed):
                other = replace(recipe, seed=seed)
                beside = seed_folder(run.folder)
                _Training(opened, other, sides, beside, compute, progress, stop, watch).beside(run)
    return run


@dataclass(frozen=True, eq=False)
class _Learning:
    """The part of a classifier that learns, and what it is fed with."""

    module: nn.Module
    training: Inputs
    validation: Inputs
    clean: Callable[[], None] = lambda: None  # called when all is saved


@dataclass(frozen=True, eq=False)
class _Training:
    """One recipe on the photos of one project."""

    opened: disk.Project
    recipe: Recipe
    sides: Split
    folder: Path  # of the run, or of its other seeds
    compute: Compute
    progress: Progress
    stop: Callable[[], bool]
    watch: Callable[[Epoch], None]

    def run(self) -> Run:
        """Learn, and keep all of it as a run."""
        disk.write_json(self.folder / "recipe.json", self.recipe.to_json())  # whose folder it is from now on
        trained, features, clean = self._learn()
        trained = self._knowing(trained, features)
        run = save_run(self.folder, self.opened, trained, features)
        if not run.interrupted:
            clean()
            # Ctrl-C in the last epoch: the run is complete, but no more is wanted
            if trained.stopped and not self.stop():
                raise KeyboardInterrupt
        return run

    def _knowing(self, trained: Trained, seen: Features) -> Trained:
        """Find out how sure the model may be, and what is none of its classes.

        A network that was stopped is not sent through all training photos: it cannot say no until it goes on.
        """
        started = time.perf_counter()
        truth = _labels(self.sides.validation, self.sides.class_names)
        if trained.interrupted and self.recipe.trainable != "head":
            calibration, rejection = calibrate_by_validation(trained.logits, truth.numpy()), None
        else:
            calibration, rejection = self._known(trained, seen, truth)
        seconds = trained.seconds | {"calibrating": time.perf_counter() - started}
        return replace(trained, calibration=calibration, rejection=rejection, seconds=seconds)

    def _known(self, trained: Trained, seen: Features, truth: Tensor) -> tuple[Calibration, Rejection | None]:
        """Return both, from training photos held out in turn where that is fair, else from validation photos."""
        sides, recipe = self.sides, self.recipe
        labels = _labels(sides.training, sides.class_names).numpy()
        features = self._features(trained.classifier.backbone, sides.training).pooled
        known = None
        if learns_alone(recipe) and not trained.interrupted:
            groups = [photo.group for photo in sides.training]
            validation = fixed(torch.from_numpy(seen.pooled), truth)
            with stop_softly(self.stop) as stop:
                known = know_from_folds(
                    recipe, features, labels, groups, len(sides.class_names), validation, stop, self.progress
                )
        return known or know_from_validation(features, labels, seen.pooled, truth.numpy(), trained.logits)

    def beside(self, run: Run) -> None:
        """Learn with another seed than a run's, and keep figures, predictions and head beside it.

        Raises:
            KeyboardInterrupt: stopped before the last epoch.
        """
        trained, _, clean = self._learn()
        if trained.stopped:
            raise KeyboardInterrupt
        save_seed(run, self.opened, trained)
        clean()
        if self.recipe.trainable != "head":  # nobody will ask for this backbone's graph and maps again
            key = trained.classifier.backbone.key
            (self.opened.graphs / f"{key}.onnx").unlink(missing_ok=True)
            shutil.rmtree(self.opened.features / key, ignore_errors=True)

    def _learn(self) -> tuple[Trained, Features, Callable[[], None]]:
        """Return what was trained, features of the validation photos, and what to call when it is saved."""
        clock = _Clock()
        classifier = start_classifier(self.recipe, self.sides.class_names, self.progress)
        clock.lap("weights")
        learning = self._learning(classifier)
        clock.lap("preparing photos")
        checkpoint = checkpoint_of(self.folder, self.recipe, self.sides)
        checkpoint.forget_others()  # its folder was given to this recipe: they are of no use any more
        before = snapshot(classifier)
        with stop_softly(self.stop) as stop:
            fitted = self.compute.fit(
                Fitting(
                    learning.module,
                    learning.training,
                    learning.validation,
                    self.recipe,
                    None if self.recipe.trainable == "head" else checkpoint,
                    stop,
                    self.progress,
                    self.watch,
                )
            )
            stopped = stop()
        clock.lap("learning")
        history = fitted.history
        if not history:
            raise KeyboardInterrupt
        clock.seconds["learning"] = sum(epoch.seconds for epoch in history)  # also of those before a kill
        classifier.eval().to("cpu").to(memory_format=torch.contiguous_format)
        audit = audit_freeze(before, classifier)
        features = self._features(classifier.backbone, self.sides.validation)
        with torch.no_grad():
            logits = classifier.head(torch.from_numpy(features.pooled)).numpy()
        clock.lap("evaluating")
        truth = _labels(self.sides.validation, self.sides.class_names).numpy()
        trained = Trained(
            classifier=classifier,
            recipe=self.recipe,
            split=self.sides,
            fitted=fitted,
            chosen_epoch=chosen_epoch(history, self.recipe),
            interrupted=stopped and len(history) < self.recipe.epochs,
            stopped=stopped,
            logits=logits,
            evaluation=evaluate_logits(logits, truth, self.sides.class_names),
            audit=audit,
            seconds=clock.seconds,
        )

        def clean() -> None:
            checkpoint.delete()
            learning.clean()

        return trained, features, clean

    def _learning(self, classifier: Classifier) -> _Learning:
        """Freeze what is not to learn; return what does, and what it is fed with."""
        photos = (self.sides.training, self.sides.validation)
        y, y_validation = (_labels(side, self.sides.class_names) for side in photos)
        recipe, backbone = self.recipe, classifier.backbone
        if recipe.trainable == "head":
            classifier.freeze_backbone()
            x = torch.from_numpy(self._features(backbone, photos[0] + photos[1]).pooled)
            return _Learning(classifier.head, fixed(x[: len(y)], y), fixed(x[len(y) :], y_validation))
        pixels, seen = (read_pixels(side, backbone.preprocessing, self.progress) for side in photos)
        if recipe.trainable == "all":
            classifier.unfreeze()
            if recipe.start == "random" and recipe.backbone == "cifar":
                some = pixels[: max(1, cifar_resnet.WHITENING_PIXELS // recipe.image_size**2)]
                cifar_resnet.whiten(backbone.module, backbone.normalize(some))
            return _Learning(classifier, from_photos(pixels, y, recipe), fixed(seen, y_validation))
        before, tail = classifier.freeze_before(recipe.trainable)
        views = self._views(backbone, before, photos[0], pixels, recipe.views)
        plain = self._views(backbone, before, photos[1], seen, 1)
        forget_views(self.opened, (views, plain))  # those of trainings that were given up

        def clean() -> None:
            views.delete()
            plain.delete()

        return _Learning(
            tail, from_views(views, y, recipe.seed), from_views(plain, y_validation, recipe.seed), clean
        )

    def _features(self, backbone: Backbone, photos: Sequence[Photo]) -> Features:
        graph = ensure_graph(self.opened.graphs, backbone.key, lambda: backbone, self.progress)
        return cached_features(
            self.opened,
            photos,
            backbone.key,
            backbone.preprocessing,
            lambda: self.compute.engine(graph, backbone),
            self.progress,
        )

    def _views(
        self, backbone: Backbone, before: nn.Module, photos: Sequence[Photo], pixels: Tensor, count: int
    ) -> Views:
        key, graph = graph_before(self.opened, backbone, self.recipe.trainable, before, self.progress)
        variation = Variation(self.recipe.augment, count, self.recipe.seed)
        return cached_views(
            self.opened,
            photos,
            pixels,
            variation,
            key,
            lambda: self.compute.engine(graph, before),
            self.progress,
        )


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self.last
        self.last = now


def _labels(photos: Sequence[Photo], class_names: tuple[str, ...]) -> Tensor:
    """Return classes `(N,)` as indices into `class_names`."""
    index = {name: k for k, name in enumerate(class_names)}
    return torch.tensor([index[photo.label] for photo in photos])
