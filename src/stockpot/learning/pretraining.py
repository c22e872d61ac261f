"""Pretraining: the CIFAR network learns CIFAR-10 from random weights and becomes a model file.

The photos stay in memory as uint8; a batch is moved and mirrored by one indexing operation. Every epoch draws
its order and movements from a seed of its own, so that a run that goes on from a checkpoint ends with the same
bits as an undisturbed one (on the same machine, with the same number of threads).

Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498: alternating flip, label smoothing,
filters by Muon and all else by SGD, a learning rate that falls along a line. `N` photos, `B` of a batch, `C`
channels, `K` classes.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones import cifar_resnet
from stockpot.backbones.backbone import Backbone
from stockpot.errors import RecipeError
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.classifier import new_head
from stockpot.learning.evaluation import Evaluation, evaluate_logits
from stockpot.learning.muon import Muon
from stockpot.learning.precision import Precision, fast_precision, multiplying_in
from stockpot.model.model_file import ModelFile, is_model, read_model, write_model
from stockpot.photos.cifar10 import CLASS_NAMES, SIZE, Cifar10, Side, read_cifar10
from stockpot.photos.preprocessing import Preprocessing
from stockpot.progress import Progress, silent

BIAS_RATE = 0.053  # highest learning rate of biases, for the sum of a batch's losses
HEAD_RATE = 0.67  # likewise of the head, were its inputs divided by their number
DECAY = 2e-6  # of biases and head, a photo


@dataclass(frozen=True)
class Pretraining:
    """Every choice that defines a pretraining."""

    width: int = 96  # channels of the network at 16 x 16
    channels: int = 256  # C, of its feature maps
    epochs: int = 20  # passes over the training photos
    batch_size: int = 2000  # B, photos a step
    learning_rate: float = 0.24  # of the filters at the first step; falls to zero along a line
    label_smoothing: float = 0.2  # of the truth is spread over all classes
    shift: int = 4  # pixels that a photo is moved by at most, its edge mirrored
    cutout: int = 8  # pixels on each side of a square that is hidden in every photo
    validation: float = 0.0  # share of the training photos to measure on instead of the test photos
    precision: Precision = "float32"  # of convolutions while learning
    seed: int = 0  # of the first weights, the order and the movements

    def __post_init__(self) -> None:
        for name in ("width", "channels", "epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} is {getattr(self, name)}; expected more than 0.")
        shares = 0 <= self.label_smoothing < 1 and 0 <= self.validation < 1
        if not (shares and 0 <= self.shift < SIZE and 0 <= self.cutout < SIZE):
            raise RecipeError(
                f"label_smoothing is {self.label_smoothing}, validation {self.validation}, shift {self.shift}, "
                f"cutout {self.cutout}; expected shares from 0 to below 1, and 0 to {SIZE - 1} pixels."
            )
        if self.seed < 0:
            raise RecipeError(f"seed is {self.seed}; expected 0 or more.")
        if self.precision not in ("bfloat16", "float32"):
            raise RecipeError(f"precision is {self.precision!r}; expected bfloat16 or float32.")


def pretrain(
    dataset: str = "cifar10",
    data: Path | str = "hub",
    output: Path | str = "cifar10.safetensors",
    recipe: Pretraining | None = None,
    progress: Progress = silent,
) -> ModelFile:
    """Train the CIFAR network from random weights and write it as a model file, with a model card beside it.

    After every epoch all that is needed to go on is kept in `OUTPUT.checkpoint`, which is deleted at the end.

    Args:
        dataset: `"cifar10"`.
        data: `"hub"`, or a folder with the data set's Parquet files.
        output: the model file to write, `.safetensors`; its card is named `.md`. A finished one of the same
            recipe and photos is returned as it is.
        recipe: how to train; `Pretraining()` in the processor's fastest precision by default.
        progress: told how many photos have been learned from, over all epochs.

    Returns:
        The model: accuracy and loss on the test photos, or on those held out, under `metrics`.

    Raises:
        PhotoError: the photos cannot be had.
        RecipeError: there is no such data set, `output` holds something else, or its checkpoint is of another
            recipe or other photos.
        FolderError: `output` cannot be written.
    """
    recipe, output = recipe or Pretraining(precision=fast_precision()), Path(output)
    if dataset != "cifar10":
        raise RecipeError(f"There is no data set {dataset!r} to pretrain on; choose one of: cifar10.")
    if output.suffix != ".safetensors":
        raise RecipeError(f"{output} must end in .safetensors: --out cifar10.safetensors")
    photos = read_cifar10(data, progress)
    origin = {"data": photos.name, "data_fingerprint": photos.fingerprint, **asdict(recipe)}
    kept = Checkpoint(output.with_suffix(".checkpoint"), origin)
    if not output.exists():
        _check_card(output.with_suffix(".md"), output.name)
        _pretrain(output, photos, recipe, kept, progress)
    elif not is_model(output) or read_model(output).recipe != origin:
        raise RecipeError(f"{output} exists and is of another recipe or other photos: give another --out.")
    if kept.epochs():  # of this recipe; also one that a kill has left beside the finished file
        kept.delete()
    return read_model(output)


def _check_card(card: Path, title: str) -> None:
    """Refuse a name whose card would replace a file of somebody else."""
    if card.exists() and card.read_text("utf-8", "replace").splitlines()[:1] != [f"# {title}"]:
        raise RecipeError(f"{card} is no model card of {title} and would be replaced: give another --out.")


def _pretrain(
    output: Path, photos: Cifar10, recipe: Pretraining, kept: Checkpoint, progress: Progress
) -> None:
    """Learn, measure, and write the card, then the model, which completes it."""
    learned, measured, name = _sides(photos, recipe)
    student = _Student(recipe, torch.from_numpy(learned.pixels))
    history = _learn(student, learned, recipe, kept, progress)
    student.round_to_float16()
    evaluation = _measure(student, measured)
    model = _model(output, student, kept.origin, {name: evaluation.to_json(), "epochs": history})
    disk.write_bytes(output.with_suffix(".md"), _card(model, evaluation, name, history).encode())
    tensors = student.backbone.weights()
    write_model(model, {name: (t.half() if t.ndim > 1 else t).numpy() for name, t in tensors.items()})


def _sides(data: Cifar10, recipe: Pretraining) -> tuple[Side, Side, str]:
    """Return the photos to learn from, those to measure on, and the name of the latter."""
    if not recipe.validation:
        return data.training, data.test, "test"
    order = np.random.default_rng(recipe.seed).permutation(len(data.training.labels))
    held = max(1, round(recipe.validation * len(order)))
    return data.training.take(order[held:]), data.training.take(order[:held]), "validation"


class _Student(nn.Module):
    """Network and head while they learn; BatchNorm in training mode, which no `Classifier` allows."""

    def __init__(self, recipe: Pretraining, pixels: Tensor) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = cifar_resnet.cifar_resnet(recipe.width, recipe.channels)
        preprocessing = Preprocessing(SIZE, cifar_resnet.MEAN, cifar_resnet.STD)
        self.backbone = Backbone(network, preprocessing=preprocessing, name="cifar")
        self.backbone.buildable = True
        self.head = new_head(recipe.channels, len(CLASS_NAMES), recipe.seed)
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std() * recipe.channels)
        cifar_resnet.whiten(
            network, self.backbone.normalize(pixels[: cifar_resnet.WHITENING_PIXELS // SIZE**2])
        )
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.requires_grad_(
                    False
                )  # gamma stays 1; the filters after it are normalized anyway
        self.head.bias.requires_grad_(False)  # stays 0
        self.to(memory_format=torch.channels_last)
        self.precision = recipe.precision

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits `(B, K)` of `(B, S, S, 3)` pixels in 0..255."""
        with multiplying_in(self.precision if self.training else "float32"):
            features = self.backbone(pixels).mean(dim=(2, 3))
        return self.head(features.float())  # type: ignore[no-any-return]

    def round_to_float16(self) -> None:
        """Make every filter what a float16 file holds, so that what is measured is what is shipped."""
        with torch.no_grad():
            for parameter in self.backbone.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(parameter.half())


def _learn(
    student: _Student,
    side: Side,
    recipe: Pretraining,
    kept: Checkpoint,
    progress: Progress,
) -> list[dict[str, float]]:
    """Learn every epoch that is not in the checkpoint; return the figures of all."""
    pixels, labels = torch.from_numpy(side.pixels), torch.from_numpy(side.labels)
    optimizers = _optimizers(student, recipe)
    history: list[dict[str, float]] = []
    if found := kept.read(optimizers):
        student.load_state_dict(found[0])
        history = found[1]
    kept.save(student.state_dict(), optimizers, history)  # a place that cannot be written says so now
    n, steps = len(labels), math.ceil(len(labels) / recipe.batch_size)
    for epoch in range(len(history), recipe.epochs):
        started, loss, correct = time.perf_counter(), 0.0, 0
        student.train()
        for step, (rows, photos) in enumerate(_batches(pixels, recipe, epoch)):
            share = 1 - (epoch * steps + step) / (recipe.epochs * steps)
            logits = student(photos)
            batch_loss = F.cross_entropy(
                logits, labels[rows], label_smoothing=recipe.label_smoothing, reduction="sum"
            )
            student.zero_grad()
            batch_loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["highest"] * share
                optimizer.step()
            loss += batch_loss.item() / n
            correct += int((logits.argmax(dim=1) == labels[rows]).sum())
            progress("learning CIFAR-10", epoch * n + (step + 1) * n // steps, recipe.epochs * n)
        seconds = time.perf_counter() - started
        history.append({"number": epoch + 1, "loss": loss, "accuracy": correct / n, "seconds": seconds})
        kept.save(student.state_dict(), optimizers, history)
    return history


def _batches(pixels: Tensor, recipe: Pretraining, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows `(B,)` and photos `(B, S, S, 3)`: moved, with a square hidden, every second time mirrored."""
    n = len(pixels)
    first = torch.rand(n, generator=torch.Generator().manual_seed(recipe.seed)) < 0.5
    chance = torch.Generator().manual_seed(1000 * (recipe.seed + 1) + epoch)
    shifts = torch.randint(-recipe.shift, recipe.shift + 1, (n, 2), generator=chance)
    corners = torch.randint(1 - recipe.cutout, SIZE, (n, 2), generator=chance)
    for rows in torch.split(torch.randperm(n, generator=chance), recipe.batch_size):
        photos = _moved(pixels, rows, shifts[rows], first[rows] ^ bool(epoch % 2))
        yield rows, _hidden(photos, corners[rows], recipe.cutout)


def _moved(pixels: Tensor, rows: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """Return photos `(B, S, S, 3)` moved by `shifts` `(B, 2)` pixels, edges reflected, some mirrored."""
    line = torch.arange(SIZE)
    y, x = _reflected(line + shifts[:, :1]), _reflected(line + shifts[:, 1:])
    x = torch.where(mirrored[:, None], x.flip(1), x)
    return pixels[rows[:, None, None], y[:, :, None], x[:, None, :]]


def _hidden(photos: Tensor, corners: Tensor, size: int) -> Tensor:
    """Return photos `(B, S, S, 3)`, each with a square from `corners` `(B, 2)` on in the mean color.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    arXiv:1708.04552.
    """
    line = torch.arange(SIZE)
    y, x = ((line >= corners[:, i : i + 1]) & (line < corners[:, i : i + 1] + size) for i in (0, 1))
    mean = torch.tensor(cifar_resnet.MEAN).round().to(photos.dtype)
    return torch.where((y[:, :, None] & x[:, None, :])[..., None], mean, photos)


def _reflected(index: Tensor) -> Tensor:
    return SIZE - 1 - (SIZE - 1 - index.abs()).abs()


def _optimizers(student: _Student, recipe: Pretraining) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the filters and SGD for biases and head, each with its highest learning rate.

    The rates of the latter are for the *sum* of a batch's losses, as in the paper's program.
    """
    learns = [parameter for parameter in student.backbone.parameters() if parameter.requires_grad]
    filters = [parameter for parameter in learns if parameter.ndim == 4]
    biases = [parameter for parameter in learns if parameter.ndim == 1]
    rates = {BIAS_RATE: biases, HEAD_RATE / recipe.channels**2: [student.head.weight]}
    decay = DECAY * recipe.batch_size
    return (
        Muon([{"params": filters, "highest": recipe.learning_rate}]),
        torch.optim.SGD(
            [{"params": p, "lr": r, "highest": r, "weight_decay": decay / r} for r, p in rates.items()],
            momentum=0.85,
            nesterov=True,
        ),
    )


@torch.no_grad()
def _measure(student: _Student, side: Side) -> Evaluation:
    """Return the figures in inference mode and float32, without any test-time mirroring."""
    student.eval()
    batches = torch.split(torch.from_numpy(side.pixels), 1000)
    logits = torch.cat([student(batch) for batch in batches])
    return evaluate_logits(logits.numpy(), side.labels, CLASS_NAMES)


def _model(output: Path, student: _Student, origin: dict[str, Any], metrics: dict[str, Any]) -> ModelFile:
    backbone, head = student.backbone, student.head
    return ModelFile(
        path=output,
        class_names=CLASS_NAMES,
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        preprocessing=backbone.preprocessing,
        recipe=origin,
        metrics=metrics,
        attribution=f"weights trained by stockpot on {origin['data']}",
        weight=head.weight.detach().numpy(),
        bias=head.bias.detach().numpy(),
    )


def _card(model: ModelFile, evaluation: Evaluation, name: str, history: list[dict[str, float]]) -> str:
    """Return the model card, in Markdown."""
    recipe = model.recipe
    low, high = evaluation.interval
    usual = asdict(Pretraining())
    changed = [
        f"--{field.replace('_', '-')} {recipe[field]}"
        for field in usual
        if field == "precision" or recipe[field] != usual[field]
    ]
    command = " ".join(["stockpot pretrain cifar10 --data FOLDER", *changed, f"--out {model.path.name}"])
    fields = ", ".join(f"{field.replace('_', ' ')} {recipe[field]}" for field in usual)
    minutes = sum(epoch["seconds"] for epoch in history) / 60
    rows = {
        "data": f"{recipe['data']} (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009); "
        f"Parquet files with the fingerprint {recipe['data_fingerprint']}",
        "network": f"`cifar_resnet(width={recipe['width']}, channels={recipe['channels']})`: "
        f"8 x 8 x {recipe['channels']} feature maps, GAP, one linear layer",
        "accuracy": f"{evaluation.accuracy:.2%} of {evaluation.n:,} {name} photos (95 % interval {low:.2%} to "
        f"{high:.2%}), loss {evaluation.loss:.3f}; measured once, after the last epoch, without mirroring",
        "recipe": fields,
        "time": f"{minutes:.0f} minutes, {torch.get_num_threads()} threads, torch {version('torch')}",
        "command": f"`{command}`",
        "weights": f"fingerprint {model.fingerprint}; filters in float16, all else in float32",
    }
    table = "\n".join(f"| {left} | {right} |" for left, right in rows.items())
    return f"""# {model.path.name}

A small network for photos of 32 x 32 pixels, and the ten classes it was trained on: {", ".join(model.class_names)}.

| | |
|---|---|
{table}

The filters of the first layer are the principal directions of patches of training photos and were not learned.
Photos of another size are resized to 32 x 32 pixels, so fine detail is lost. Probabilities are
not calibrated: label smoothing keeps them modest.
"""
