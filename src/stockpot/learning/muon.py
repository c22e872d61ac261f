"""Muon: the momentum of a convolution's filters, with all its singular values made equal, is the step.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; for convolutions, with filters of
constant norm, as in his "94% on CIFAR-10" (arXiv:2404.00498, later versions). torch's own takes matrices only and
computes in bfloat16, which processors without it do a hundred times slower.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """For filters `(O, I, H, W)`; a layer's norm is kept at the square root of O."""

    def __init__(self, filters: Iterable[Any], lr: float = 0.24, momentum: float = 0.6) -> None:
        super().__init__(filters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every filter bank by `lr` times an orthogonal matrix."""
        for group in self.param_groups:
            for filters in group["params"]:
                if filters not in self.state:
                    self.state[filters]["momentum"] = torch.zeros_like(filters)
                momentum = self.state[filters]["momentum"]
                momentum.mul_(group["momentum"]).add_(filters.grad)
                ahead = filters.grad.add(momentum, alpha=group["momentum"])  # Nesterov
                filters.mul_(len(filters) ** 0.5 / filters.norm())
                filters.sub_(orthogonal(ahead.flatten(1)).view_as(filters), alpha=group["lr"])


def orthogonal(matrix: Tensor, iterations: int = 3) -> Tensor:
    """Return a matrix `(O, I)` with the same singular vectors and nearly equal singular values.

    An odd polynomial of the fifth degree (Jordan et al., 2024) drives those above about 0.02 of the norm into
    about 0.7 to 1.2; smaller ones grow about forty-fold.
    """
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.T if len(matrix) > matrix.shape[1] else x  # type: ignore[no-any-return]
