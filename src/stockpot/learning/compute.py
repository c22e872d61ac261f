"""Where the two heavy things are done: forward passes of frozen networks, and the training of those that learn.

Here; by all processes that torchrun has started (`torchrun`); or on a Ray cluster (`cluster.training`).
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from stockpot.errors import WorkersLost, WrongUse
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.devices import frozen_engine
from stockpot.learning.fitting import common_precision, fit, smallest_batch
from stockpot.learning.group import ALONE, Group
from stockpot.learning.inputs import Inputs
from stockpot.learning.precision import Precision
from stockpot.learning.recipes import Recipe
from stockpot.learning.runs import Epoch
from stockpot.learning.surroundings import surroundings
from stockpot.model.engine import Engine
from stockpot.progress import Progress, remark, silent


def _never() -> bool:
    return False


def _ignored(epoch: Epoch) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Fitting:
    """A training: a module, and all that `fit` is told about it."""

    module: nn.Module
    training: Inputs
    validation: Inputs
    recipe: Recipe
    checkpoint: Checkpoint | None
    stop: Callable[[], bool]
    progress: Progress
    watch: Callable[[Epoch], None]

    @property
    def can_be_shared(self) -> bool:
        """Tell whether several processes can do it as one would, and it is worth it."""
        return self.recipe.trainable != "head" and self.recipe.batch_norm == "inference"

    @property
    def most_processes(self) -> int:
        """Return how many can have a photo of every batch."""
        return smallest_batch(len(self.training.labels), self.recipe)


@dataclass(frozen=True)
class Fitted:
    """How a module has learned."""

    history: tuple[Epoch, ...]
    precision: Precision
    device: str  # its kind
    processes: int
    surroundings: dict[str, object]  # of the first process


class Compute(Protocol):
    """What does the heavy things."""

    def engine(self, graph: Path, network: nn.Module) -> Engine:
        """Return what runs a frozen network: from pixels to maps, as `graph` too, an ONNX file."""

    def fit(self, fitting: Fitting) -> Fitted:
        """Train the module of a `fitting`.

        Raises:
            WrongUse, RecipeError: as `fitting.fit` does, or a GPU has too little memory.
            WorkersLost: processes that train together died, or one of them cannot go on.
        """


@dataclass(frozen=True)
class Here:
    """This process and its device."""

    device: torch.device
    group: Group = ALONE

    def engine(self, graph: Path, network: nn.Module) -> Engine:
        """Return what runs a frozen network: its graph on the processor, a copy of it on a GPU."""
        return frozen_engine(graph, network, self.device)

    def fit(self, fitting: Fitting) -> Fitted:
        """Train a module on the device; a head alone, which is a matter of milliseconds, on the processor."""
        module, recipe = fitting.module, fitting.recipe
        if recipe.trainable != "head":
            module.to(self.device).to(memory_format=torch.channels_last)
        try:
            history = fit(**vars(fitting), group=self.group)
        except torch.OutOfMemoryError:
            kind = WrongUse if self.group.count == 1 else WorkersLost  # the others are still at work
            raise kind("A GPU has too little memory: lower --batch-size, or choose --device cpu.") from None
        precision = common_precision(recipe, module, self.group)
        return Fitted(history, precision, self.device.type, self.group.count, surroundings())


def done_here(fitting: Fitting, here: Here) -> Fitted:
    """Train a module that cannot be shared out, and say so where it takes long."""
    if fitting.recipe.trainable != "head":
        remark(fitting.progress, "BatchNorm learns from whole batches: this training is done here.")
    return here.fit(fitting)


@dataclass(frozen=True, eq=False)
class Job:
    """A training as another process is sent it, with the checkpoint to take up."""

    fitting: Fitting  # asks nobody and tells nobody
    origin: dict[str, Any]  # of the checkpoint
    taken_up: bytes  # its file; empty where there is none

    @contextmanager
    def unpacked(self) -> Iterator[Fitting]:
        """Yield the training, its checkpoint in a folder for this time."""
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder) / "checkpoint.safetensors", self.origin)
            if self.taken_up:
                checkpoint.path.write_bytes(self.taken_up)
            yield replace(self.fitting, checkpoint=checkpoint)


def packed(fitting: Fitting) -> Job:
    """Return a training as it is sent to another process."""
    checkpoint = fitting.checkpoint
    assert checkpoint is not None, "what can be shared has one"
    taken_up = checkpoint.path.read_bytes() if checkpoint.path.exists() else b""
    alone = replace(fitting, checkpoint=None, stop=_never, progress=silent, watch=_ignored)
    return Job(alone, checkpoint.origin, taken_up)
