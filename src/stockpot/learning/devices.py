"""What torch computes on: the processor, or a GPU where there is one.

`N` photos, `S` input size, `C` channels, `h`, `w` cells of a feature map.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stockpot.errors import WrongUse
from stockpot.model.engine import Engine, load_engine

REMEDIES = {
    "cuda": "install torch for your GPU (pytorch.org says how)",
    "mps": "it is there on Macs with Apple silicon only",
}


def find_device(name: str = "auto") -> torch.device:
    """Return a device by its name.

    Args:
        name: `"auto"` (CUDA where torch finds it, else the processor), `"cpu"`, `"cuda"` or `"mps"`.

    Raises:
        WrongUse: there is no such device here.
    """
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if found["cuda"] else "cpu"
    if name not in found:
        raise WrongUse(f"There is no device {name!r}; choose auto, {', '.join(found)}.")
    if not found[name]:
        raise WrongUse(f"torch has no {name} here: {REMEDIES[name]}, or choose --device cpu.")
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters are."""
    return next(module.parameters()).device


@contextmanager
def exactly() -> Iterator[None]:
    """Have a GPU multiply float32 as float32, which it would round to 10 bits, and always in the same order."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        yield


@dataclass(frozen=True)
class TorchEngine:
    """A frozen network on a GPU, for what ONNX Runtime does on the processor; float32, so that figures agree."""

    network: nn.Module  # from pixels to maps, in inference mode
    device: torch.device
    at_once: int = 32

    @torch.no_grad()
    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return pooled features `(N, C)` and feature maps `(N, C, h, w)` of `(N, S, S, 3)` pixels."""
        with exactly():
            maps = self.network(torch.from_numpy(pixels).to(self.device))
        return maps.mean(dim=(2, 3)).cpu().numpy(), maps.cpu().numpy()


def frozen_engine(graph: Path, network: nn.Module, device: torch.device) -> Engine:
    """Return what computes a frozen network: its graph on the processor, a copy of it on a GPU.

    Args:
        graph: an ONNX file of the network.
        network: from pixels to maps; it stays where it is.
        device: what computes.
    """
    if device.type == "cpu":
        return load_engine(graph, device="cpu")
    return TorchEngine(copy.deepcopy(network).eval().to(device).to(memory_format=torch.channels_last), device)
