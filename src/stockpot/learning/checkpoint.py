"""A checkpoint: all that a training needs to go on after an epoch, as one file without pickle."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stockpot import project as disk
from stockpot.errors import FolderError, RecipeError
from stockpot.learning.precision import fast_precision
from stockpot.learning.recipes import Recipe
from stockpot.photos.splits import Split

log = logging.getLogger("stockpot")
_WRONG = (
    SafetensorError,
    OSError,
    TypeError,
    KeyError,
    ValueError,
    AttributeError,
)  # what damaged files raise
Optimizers = Sequence[torch.optim.Optimizer]


class Checkpoint:
    """A file that is replaced after every epoch, and says what it is a checkpoint of."""

    def __init__(self, path: Path, origin: Mapping[str, Any]) -> None:
        self.path = path
        self.origin = dict(origin)  # must be the same for the file to be taken up again

    def save(self, tensors: Mapping[str, Tensor], optimizers: Optimizers, state: Any) -> None:
        """Replace the file.

        Args:
            tensors: what has been learned, by name.
            optimizers: whose moments are kept.
            state: anything that JSON holds.

        Raises:
            FolderError: the place cannot be written.
        """
        kept = {f"tensor.{name}": value.detach() for name, value in tensors.items()}
        for number, optimizer in enumerate(optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                kept |= {f"optimizer.{number}.{index}.{name}": value for name, value in moments.items()}
        text = {
            "origin": json.dumps(self.origin),
            "state": json.dumps(state),
            "machine": json.dumps(_machine(optimizers)),
        }
        with disk.replacing(self.path) as temporary:
            try:
                save_file(
                    {
                        name: value.clone(memory_format=torch.contiguous_format)
                        for name, value in kept.items()
                    },
                    temporary,
                    text,
                )
            except SafetensorError as error:
                raise FolderError(f"{self.path} cannot be written ({error}): free space.") from None

    def read(self, optimizers: Optimizers) -> tuple[dict[str, Tensor], Any] | None:
        """Return the tensors and the state, and fill the optimizers; None where there is no file.

        Raises:
            RecipeError: the file is damaged, or of something else.
        """
        if not self.path.exists():
            return None
        try:
            origin, state, text = self._told()
            with safe_open(self.path, framework="pt") as file:
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except _WRONG as error:
            raise RecipeError(f"{self.path} is damaged ({error}): delete it to begin anew.") from None
        if text.get("machine") != json.dumps(_machine(optimizers)):
            log.warning(
                "%s was made with another torch, device or number of threads: the last bits may differ.",
                self.path,
            )
        if origin != json.loads(json.dumps(self.origin)):
            raise RecipeError(
                f"{self.path} is of another recipe or other photos: delete it, or give another name."
            )
        for number, optimizer in enumerate(optimizers):
            learns = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            try:
                moments = _moments(_below(f"optimizer.{number}.", tensors), learns)
                optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
            except (ValueError, IndexError, KeyError) as error:
                raise RecipeError(f"{self.path} is damaged ({error}): delete it to begin anew.") from None
        return _below("tensor.", tensors), state

    def epochs(self) -> int:
        """Return how many epochs its file has; none where there is no file, or one of something else."""
        with suppress(*_WRONG):
            origin, state, _ = self._told()
            if origin == json.loads(json.dumps(self.origin)):
                return len(state)
        return 0

    def forget_others(self) -> None:
        """Delete a file of another origin: of photos or of a run to start from that have changed since."""
        with suppress(*_WRONG):
            if self._told()[0] != json.loads(json.dumps(self.origin)):
                self.delete()

    def _told(self) -> tuple[Any, list[Any], dict[str, str]]:
        """Return what it is of, its state, and all that its metadata say."""
        if not self.path.is_file():
            raise ValueError("not an ordinary file")
        with safe_open(self.path, framework="pt") as file:
            text = file.metadata()
        state: list[Any] = disk.parse_json(text["state"])
        return disk.parse_json(text["origin"]), state, text

    def delete(self) -> None:
        """Delete the file, if it is there."""
        self.path.unlink(missing_ok=True)


def checkpoint_of(folder: Path, recipe: Recipe, split: Split) -> Checkpoint:
    """Return the checkpoint of a recipe on a split, in the folder of its run."""
    origin = {"recipe": recipe.to_json(), "split": split.fingerprint}
    return Checkpoint(folder / f"checkpoint{recipe.seed or ''}.safetensors", origin)


def _machine(optimizers: Optimizers) -> dict[str, Any]:
    """Return what the same bits depend on."""
    device = optimizers[0].param_groups[0]["params"][0].device.type
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
        "precision": fast_precision(device),
    }


def _moments(tensors: dict[str, Tensor], learns: list[Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return an optimizer's tensors, named `index.part` in the file, by the index of a parameter."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, part = name.partition(".")
        if tensor.shape not in (learns[int(index)].shape, ()):
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}")
        moments.setdefault(int(index), {})[part] = _laid_out_like(learns[int(index)], tensor)
    if len({frozenset(parts) for parts in moments.values()}) > 1:
        raise ValueError("moments are missing")
    return moments


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return a moment in the memory layout of its parameter: fused optimizers go through both side by side."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
