"""The training loop: inputs, labels and a recipe in, a module that has learned and the figures of its epochs out.

`n` photos of a batch, `N` of a side, `K` classes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stockpot.errors import RecipeError, WrongUse
from stockpot.learning.augmentation import seed_of
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.devices import device_of, exactly
from stockpot.learning.folding import folded
from stockpot.learning.group import ALONE, Group, add_up_gradients, share, total
from stockpot.learning.inputs import Inputs
from stockpot.learning.precision import Precision, multiplying_in, precision_of
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Epoch
from stockpot.progress import Progress, silent
from stockpot.shapes import Misshapen, made

SAVED_SECONDS = 10.0  # between checkpoints: all that a kill can cost where epochs are shorter
EVALUATED = 16  # photos that go through a module at once where no gradient is needed
ON_GPU = 32  # photos at once on a GPU, with gradients: 6 GB with Xception at 256 pixels


@torch.random.fork_rng(devices=[])  # the caller's chance is not touched
def fit(
    module: nn.Module,
    training: Inputs,
    validation: Inputs,
    recipe: Recipe,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
    watch: Callable[[Epoch], None] = lambda epoch: None,
    group: Group = ALONE,
) -> tuple[Epoch, ...]:
    """Train a module with AdamW and a learning rate that falls along half a cosine, after a warm-up if asked for.

    Afterwards the module is what it was after the epoch that the recipe keeps. Order and variation of every
    epoch follow from the recipe's seed and the epoch's number alone, so that a training that goes on from a
    checkpoint ends with the same bits as an undisturbed one.

    Args:
        module: gives logits `(n, K)`; those of its parameters that require gradients learn.
        training: what it learns from.
        validation: looked at after every epoch, never learned from.
        recipe: epochs, batch size, learning rate, weight decay, label smoothing, class weights, what to keep.
        checkpoint: where epochs are kept, at most one in `SAVED_SECONDS`, and taken up again if it is there.
        stop: asked after every batch; the epoch that it ends does not count.
        progress: told how many batches of all epochs are done.
        watch: told of every complete epoch, those that a checkpoint had first.
        group: the processes that do this together, each with its share of every batch. All of them are given
            the same module, photos, recipe and checkpoint to take up; the first alone keeps checkpoints, is asked
            whether to stop, and has somebody to tell.

    Returns:
        Figures of every complete epoch; none if it was stopped before the first one was.

    Raises:
        WrongUse: there are more processes than photos of a batch, or BatchNorm learns from whole batches.
        RecipeError: the training diverged, or the checkpoint is damaged or of something else.
    """
    _check(group, training, recipe)
    optimizer = _optimizer(module, recipe)
    learning = _Learning(module, training, recipe, common_precision(recipe, module, group), group)
    history, kept = _take_up(module, optimizer, checkpoint)
    for epoch in history:
        watch(epoch)
    saved = -SAVED_SECONDS  # when: the first epoch is saved at once
    n = len(training.labels)
    device = device_of(module)
    stop = _agreed(stop, group, device)
    with exactly(), folded(module.train(), training.fed(torch.arange(1), 1, device)):
        for number in range(len(history) + 1, recipe.epochs + 1):
            started = time.perf_counter()
            sums = learning.epoch(optimizer, number, stop, progress)
            if sums is None:
                break
            loss, right = sums
            figures = measure(module, validation, group)
            seconds, lr = time.perf_counter() - started, optimizer.param_groups[0]["lr"]
            history.append(Epoch(number, loss / n, right / n, *figures, lr, seconds))
            if not math.isfinite(history[-1].training_loss + history[-1].validation_loss):
                raise _diverged(history[-1], checkpoint)
            watch(history[-1])
            if chosen_epoch(history, recipe) == number:
                kept = learned(module)
            stopped = stop()
            due = stopped or time.perf_counter() - saved > SAVED_SECONDS
            if checkpoint and due and group.index == 0:
                _save(checkpoint, module, kept, optimizer, history)
                saved = time.perf_counter()
            if stopped:
                break
    module.load_state_dict(kept, strict=False)
    module.eval()
    return tuple(history)


def _diverged(epoch: Epoch, checkpoint: Checkpoint | None) -> RecipeError:
    """Return what went wrong; a checkpoint on the way there is of no use."""
    if checkpoint:
        checkpoint.delete()
    return RecipeError(
        f"The training diverged in epoch {epoch.number} (loss {epoch.training_loss:.3g} on training, "
        f"{epoch.validation_loss:.3g} on validation photos): lower --learning-rate."
    )


def chosen_epoch(history: list[Epoch] | tuple[Epoch, ...], recipe: Recipe) -> int:
    """Return the number of the epoch that a recipe keeps."""
    if recipe.keep == "last":
        return history[-1].number
    return min(history, key=lambda epoch: epoch.validation_loss).number


def common_precision(recipe: Recipe, module: nn.Module, group: Group = ALONE) -> Precision:
    """Return the precision that a module learns in by a recipe: bfloat16 only where it suits all processes."""
    fast = precision_of(recipe, module) == "bfloat16"
    return "bfloat16" if total(group, [fast], device_of(module)) == [group.count] else "float32"


@torch.no_grad()
def measure(module: nn.Module, inputs: Inputs, group: Group = ALONE) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy of photos as they are, in inference mode."""
    module.eval()
    n, device = len(inputs.labels), device_of(module)
    sums = torch.zeros(2, device=device)
    with exactly():
        for rows in torch.split(share(group, torch.arange(n)), EVALUATED):
            if len(rows):
                sums += _compared(module(inputs.fed(rows, 0, device)), inputs.labels[rows].to(device))
    loss, right = total(group, sums.tolist(), device)
    return loss / n, right / n


def _compared(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of some photos, and how many are right; no GPU is waited for."""
    right = (logits.argmax(dim=1) == truth).sum()
    return torch.stack([F.cross_entropy(logits, truth, reduction="sum"), right])


def _check(group: Group, training: Inputs, recipe: Recipe) -> None:
    """Refuse what several processes cannot do as one would."""
    if group.count == 1:
        return
    if recipe.batch_norm == "training":
        raise WrongUse("BatchNorm that learns from whole batches cannot be shared out: train in one process.")
    if group.count > smallest_batch(len(training.labels), recipe):
        raise WrongUse(
            f"{group.count} processes cannot share batches of {recipe.batch_size} photos: give fewer of them, or a "
            f"larger --batch-size."
        )


def smallest_batch(photos: int, recipe: Recipe) -> int:
    """Return how many photos the smallest of the batches has that some photos make."""
    return photos // _batches(photos, recipe)


def _batches(photos: int, recipe: Recipe) -> int:
    return math.ceil(photos / recipe.batch_size)


def _agreed(stop: Callable[[], bool], group: Group, device: torch.device) -> Callable[[], bool]:
    """Return what all processes are told alike; each asks as often as the others."""
    return lambda: total(group, [stop()], device) != [0]


@dataclass(frozen=True, eq=False)
class _Learning:
    """What learns from what, and how."""

    module: nn.Module
    training: Inputs
    recipe: Recipe
    precision: Precision
    group: Group

    def epoch(
        self, optimizer: torch.optim.Optimizer, number: int, stop: Callable[[], bool], progress: Progress
    ) -> tuple[float, float] | None:
        """Learn from all photos once; return the sum of the losses, and how many were right; None if stopped."""
        self.module.train()
        recipe, labels = self.recipe, self.training.labels
        weights = _class_weights(labels, recipe)
        steps = _batches(len(labels), recipe)
        chance = torch.Generator().manual_seed(seed_of(recipe.seed, number))
        batches = torch.tensor_split(
            torch.randperm(len(labels), generator=chance), steps
        )  # all of nearly one size
        sums = torch.zeros(2, device=device_of(self.module))
        for step, rows in enumerate(batches):
            if step and stop():
                return None
            done = (number - 1) * steps + step
            for parameters in optimizer.param_groups:
                parameters["lr"] = recipe.learning_rate * _schedule(
                    done, recipe.epochs * steps, recipe.warmup
                )
            others = [self.group.index] if self.group.index else []
            torch.manual_seed(seed_of(recipe.seed, number, step, *others))  # of dropout, if there is some
            worth = weights[labels[rows]]
            sums += self.batch(share(self.group, rows), share(self.group, worth / worth.sum()), number)
            optimizer.step()
            progress("training", done + 1, recipe.epochs * steps)
        loss, right = total(self.group, sums.tolist(), device_of(self.module))
        return loss, right

    def batch(self, rows: Tensor, worth: Tensor, epoch: int) -> Tensor:
        """Add up the gradients of a batch; return the sum of the losses of the photos here, and how many are right.

        What is too much for the memory goes through in pieces. In inference mode the sum of their gradients is that
        of the whole.

        Args:
            rows: the photos `(n,)` of the batch that this process has.
            worth: the weight of each `(n,)` in the loss of the batch.
            epoch: its number.
        """
        device, smoothing = device_of(self.module), self.recipe.label_smoothing
        self.module.zero_grad()
        sums = torch.zeros(2, device=device)
        pieces = self.training.at_once or len(rows)
        if device.type != "cpu":
            pieces = max(pieces, ON_GPU)
        for part, weight in zip(torch.split(rows, pieces), torch.split(worth, pieces), strict=True):
            truth = self.training.labels[part].to(device)
            with multiplying_in(self.precision, device.type):
                logits = self.module(self.training.fed(part, epoch, device)).float()
            each = F.cross_entropy(logits, truth, label_smoothing=smoothing, reduction="none")
            (each @ weight.to(device)).backward()  # type: ignore[no-untyped-call]
            sums += _compared(logits.detach(), truth)
        add_up_gradients(self.group, self.module)
        return sums


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW; biases, gamma and beta do not decay."""
    learns = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learns if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learns if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, recipe.learning_rate, fused=True)


def _class_weights(labels: Tensor, recipe: Recipe) -> Tensor:
    """Return the weight of each class `(K,)`: equal, or inversely to how many photos it has."""
    counts = torch.bincount(labels).float()
    return (
        counts.sum() / counts.clamp(min=1) if recipe.class_weights == "balanced" else torch.ones_like(counts)
    )


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest learning rate at a step: half a cosine, which rises over the first steps."""
    rising = min(1.0, (step + 1) / max(1.0, warmup * steps))
    return rising * (1 + math.cos(math.pi * step / steps)) / 2


def learned(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that may differ from one epoch to the next."""
    learns = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in module.named_buffers()}
    state = module.state_dict()
    return {name: state[name].detach().clone() for name in state if name in learns | buffers}


def _take_up(
    module: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint | None
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Return the epochs that a checkpoint has, and what is kept of them; the module goes on from there."""
    found = checkpoint.read([optimizer]) if checkpoint else None
    if found is None:
        return [], {}
    tensors, history = found
    now, kept = (
        {name.removeprefix(side): tensor for name, tensor in tensors.items() if name.startswith(side)}
        for side in ("now.", "kept.")
    )
    there = device_of(module)
    try:
        for side in (kept, now):  # the module ends with what is now
            module.load_state_dict(side, strict=False)
        return [made(Epoch, row) for row in history], {name: t.to(there) for name, t in (kept or now).items()}
    except (RuntimeError, Misshapen) as error:  # torch's word for tensors of other shapes
        reason = str(error).splitlines()[-1].strip()
        raise RecipeError(f"The checkpoint is damaged ({reason}): delete it to begin anew.") from None


def _save(
    checkpoint: Checkpoint,
    module: nn.Module,
    kept: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
) -> None:
    now = learned(module)
    tensors = {f"now.{name}": tensor for name, tensor in now.items()}
    if not all(tensor.equal(kept[name]) for name, tensor in now.items()):
        tensors |= {f"kept.{name}": tensor for name, tensor in kept.items()}
    checkpoint.save(tensors, [optimizer], [vars(epoch) for epoch in history])
