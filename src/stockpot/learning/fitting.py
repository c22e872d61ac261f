"""The training loop: inputs, labels and a recipe in, a module that has learned and the figures of its epochs out.

`n` photos of a batch, `N` of a side, `K` classes.
"""

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stockpot.errors import RecipeError
from stockpot.learning.augmentation import seed_of
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.devices import device_of
from stockpot.learning.folding import folded
from stockpot.learning.inputs import Inputs
from stockpot.learning.precision import Precision, multiplying_in, precision_of
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Epoch
from stockpot.progress import Progress, silent

SAVED_SECONDS = 10.0  # between checkpoints: all that a kill can cost where epochs are shorter
EVALUATED = 16  # photos that go through a module at once where no gradient is needed


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

    Returns:
        Figures of every complete epoch.

    Raises:
        KeyboardInterrupt: stopped before the first epoch was complete.
        RecipeError: the training diverged, or the checkpoint is damaged or of something else.
    """
    optimizer = _optimizer(module, recipe)
    history, kept = _take_up(module, optimizer, checkpoint)
    for epoch in history:
        watch(epoch)
    saved = -SAVED_SECONDS  # when: the first epoch is saved at once
    n = len(training.labels)
    with folded(module.train(), training.take(torch.arange(1), 1).to(device_of(module))):
        for number in range(len(history) + 1, recipe.epochs + 1):
            started = time.perf_counter()
            learned = _epoch(module, optimizer, training, recipe, number, stop, progress)
            if learned is None:
                break
            loss, right = learned
            figures = measure(module, validation)
            seconds, lr = time.perf_counter() - started, optimizer.param_groups[0]["lr"]
            history.append(Epoch(number, loss / n, right / n, *figures, lr, seconds))
            if not math.isfinite(history[-1].training_loss + history[-1].validation_loss):
                raise _diverged(history[-1], checkpoint)
            watch(history[-1])
            if chosen_epoch(history, recipe) == number:
                kept = _learned(module)
            stopped = stop()
            if checkpoint and (stopped or time.perf_counter() - saved > SAVED_SECONDS):
                _save(checkpoint, module, kept, optimizer, history)
                saved = time.perf_counter()
            if stopped:
                break
    if not history:
        raise KeyboardInterrupt
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


@torch.no_grad()
def measure(module: nn.Module, inputs: Inputs) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy of photos as they are, in inference mode."""
    module.eval()
    every, device = torch.arange(len(inputs.labels)), device_of(module)
    pieces = torch.split(every, EVALUATED)
    logits = torch.cat([module(inputs.take(rows, 0).to(device)).cpu() for rows in pieces])
    right = (logits.argmax(dim=1) == inputs.labels).float().mean()
    return float(F.cross_entropy(logits, inputs.labels)), float(right)


def _epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Inputs,
    recipe: Recipe,
    number: int,
    stop: Callable[[], bool],
    progress: Progress,
) -> tuple[float, int] | None:
    """Learn from every photo once; return the sum of their losses, and how many were right, or None if stopped."""
    module.train()
    weights = _class_weights(training.labels, recipe)
    precision = precision_of(recipe, module)
    n = len(training.labels)
    steps = math.ceil(n / recipe.batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed_of(recipe.seed, number)))
    loss, right = 0.0, 0
    for step, rows in enumerate(torch.tensor_split(order, steps)):  # no batch is much smaller than others
        if step and stop():
            return None
        done = (number - 1) * steps + step
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(done, recipe.epochs * steps, recipe.warmup)
        torch.manual_seed(seed_of(recipe.seed, number, step))  # of dropout, where there is some
        losses, correct = _learn(module, training, rows, number, weights, recipe.label_smoothing, precision)
        optimizer.step()
        loss += losses
        right += correct
        progress("training", done + 1, recipe.epochs * steps)
    return loss, right


def _learn(
    module: nn.Module,
    training: Inputs,
    rows: Tensor,
    epoch: int,
    weights: Tensor,
    smoothing: float,
    precision: Precision,
) -> tuple[float, int]:
    """Add up the gradients of a batch; return the sum of its losses, and how many it got right.

    A batch that is too large for the memory goes through in pieces. In inference mode the sum of their
    gradients is that of the whole.
    """
    device = device_of(module)
    labels = training.labels[rows]
    share = weights[labels] / weights[labels].sum()
    module.zero_grad()
    loss, right = 0.0, 0
    pieces = training.at_once or len(rows)
    for part, parts_share in zip(torch.split(rows, pieces), torch.split(share, pieces), strict=True):
        truth = training.labels[part].to(device)
        with multiplying_in(precision, device.type):
            logits = module(training.take(part, epoch).to(device)).float()
        losses = F.cross_entropy(logits, truth, label_smoothing=smoothing, reduction="none")
        (losses @ parts_share.to(device)).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            loss += float(F.cross_entropy(logits, truth, reduction="sum"))
            right += int((logits.argmax(dim=1) == truth).sum())
    return loss, right


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


def _learned(module: nn.Module) -> dict[str, Tensor]:
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
    module.load_state_dict(now, strict=False)
    there = device_of(module)
    return [Epoch(**epoch) for epoch in history], {name: t.to(there) for name, t in (kept or now).items()}


def _save(
    checkpoint: Checkpoint,
    module: nn.Module,
    kept: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
) -> None:
    now = _learned(module)
    tensors = {f"now.{name}": tensor for name, tensor in now.items()}
    if not all(tensor.equal(kept[name]) for name, tensor in now.items()):
        tensors |= {f"kept.{name}": tensor for name, tensor in kept.items()}
    checkpoint.save(tensors, [optimizer], [vars(epoch) for epoch in history])
