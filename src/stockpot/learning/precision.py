"""In which precision the layers that learn multiply."""

from typing import Any, Literal

import torch
from torch import nn

from stockpot.learning.recipes import Recipe

Precision = Literal["bfloat16", "float32"]


def fast_precision(device: str = "cpu") -> Precision:
    """Return the precision that convolutions compute fastest in on a kind of device."""
    if device != "cpu":
        real = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if real else "float32"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if known.get("avx512_bf16") or known.get("amx_bf16") else "float32"


def precision_of(recipe: Recipe, module: nn.Module) -> Precision:
    """Return the precision that a module learns in here by a recipe.

    A head alone would gain nothing by a lower one. Depthwise convolutions of more than 3 x 3 cells, or with
    strides, are two to twelve times slower in bfloat16 (torch 2.14 on an AMD EPYC), which costs more than the
    others gain.
    """
    if recipe.precision != "fastest":
        return recipe.precision
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    depthwise = [layer for layer in layers if layer.groups > 1]
    device = next(module.parameters()).device.type
    slow = device == "cpu" and any(max(layer.kernel_size) > 3 or max(layer.stride) > 1 for layer in depthwise)
    return fast_precision(device) if layers and not slow else "float32"


def multiplying_in(precision: Precision, device: str = "cpu") -> torch.autocast:
    """Return a context in which products are computed in a precision; weights and their sums stay float32."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
