"""Several processes that train one module: which of them this is, and sums over all of them.

Each has its share of every batch, and gradients are added up before each step. BatchNorm in inference mode does not
look at its neighbours, so that this is the step of one process with the whole batch, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """The processes that train a module; more than one are those of torch.distributed, which is initialized."""

    index: int = 0  # of this process; the first leads: it keeps checkpoints and says how far all are
    count: int = 1  # of processes

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, each of which calls this."""
        if self.count == 1:
            return
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(whole)
        sums = torch.split(whole, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))


ALONE = Group()


def distributed() -> Group:
    """Return the group that torch.distributed was initialized with."""
    return Group(dist.get_rank(), dist.get_world_size())


def share(group: Group, whole: Tensor) -> Tensor:
    """Return what of a batch `(n, ...)` this process has: `n / count` of it, rounded."""
    return torch.tensor_split(whole, group.count)[group.index]


def total(group: Group, numbers: Sequence[float], device: torch.device) -> list[float]:
    """Return the sums of some numbers over all processes.

    Args:
        group: all of them.
        numbers: of this one.
        device: of the module that learns: the processes exchange tensors of that kind.
    """
    sums = torch.tensor(numbers, dtype=torch.float64, device=device if group.count > 1 else "cpu")
    group.add_up([sums])
    return list(map(float, sums))


def add_up_gradients(group: Group, module: nn.Module) -> None:
    """Replace the gradients of a module by their sums over all processes."""
    group.add_up([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
