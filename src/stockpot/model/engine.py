"""ONNX Runtime as the engine of every forward pass that needs no gradient; torch is not imported.

A backbone's graph takes photos as they are after resizing and does the normalization itself. `N` photos, `S`
input size, `C` channels, `h`, `w` cells of a feature map.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stockpot.errors import ModelError, WrongUse, is_out_of_memory

BATCH_SIZE = 4  # results do not depend on it, nor does the speed; 8 needs 200 MB more


def available_threads() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine(Protocol):
    """A backbone, ready to run."""

    @property
    def at_once(self) -> int:
        """Return how many photos it is best given in one call."""

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return pooled features `(N, C)` and feature maps `(N, C, h, w)` of `(N, S, S, 3)` pixels."""


@dataclass(frozen=True)
class OnnxEngine:
    """An engine of ONNX Runtime."""

    session: Any  # onnxruntime.InferenceSession
    at_once: int = BATCH_SIZE

    @property
    def channels(self) -> int:
        """C."""
        return int(self.session.get_outputs()[0].shape[1])

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return pooled features `(N, C)` and feature maps `(N, C, h, w)` of `(N, S, S, 3)` pixels."""
        features, maps = self.session.run(["features", "maps"], {"pixels": pixels})
        return features, maps


def load_engine(graph: Path | bytes, threads: int | None = None, device: str = "auto") -> OnnxEngine:
    """Load a graph that `backbones.graph` wrote.

    Args:
        graph: an ONNX file, or its bytes.
        threads: processors to use; all that this process may use by default.
        device: `"cpu"`, `"cuda"`, `"mps"`, or `"auto"`: CUDA where ONNX Runtime has it, else the processor.

    Raises:
        ModelError: the file is damaged.
        WrongUse: there is no such device here, or less than one thread.
    """
    import onnxruntime

    if threads is not None and threads < 1:
        raise WrongUse(f"threads is {threads}; expected 1 or more.")
    providers = _providers(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.enable_mem_pattern = False  # as fast without, and 90 of 360 MB less
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own classes, all of them here
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from None
        name = graph if isinstance(graph, Path) else "The graph"
        raise ModelError(f"{name} cannot be loaded ({str(error).splitlines()[0]}): delete it.") from None
    if session.get_providers()[0] != providers[0]:
        raise WrongUse(f"ONNX Runtime found no working {device} here: choose --device cpu.")
    _check_ends(session, graph)
    return OnnxEngine(session)


def _check_ends(session: Any, graph: Path | bytes) -> None:
    """Refuse a graph of something else than a backbone."""
    into = [(one.name, one.type, len(one.shape)) for one in session.get_inputs()]
    out = {one.name: (one.type, one.shape) for one in session.get_outputs()}
    features, maps = (out.get(name, ("", []))[1] for name in ("features", "maps"))
    kinds = {kind for kind, _ in out.values()}
    fits = (
        len(features) == 2 and len(maps) == 4 and isinstance(features[1], int) and kinds == {"tensor(float)"}
    )
    if into != [("pixels", "tensor(uint8)", 4)] or not fits:
        name = graph if isinstance(graph, Path) else "The graph"
        raise ModelError(f"{name} is no graph of a backbone (it takes {into} and gives {out}): delete it.")


_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "mps": "CoreMLExecutionProvider",
}
_REMEDIES = {
    "cuda": "pip install onnxruntime-gpu in place of onnxruntime",
    "mps": "it is part of onnxruntime on macOS only",
}


def _providers(device: str, available: list[str]) -> list[str]:
    """Return ONNX Runtime's names of a device and of the processor behind it."""
    if device not in ("auto", *_PROVIDERS):
        raise WrongUse(f"There is no device {device!r}; choose auto, {', '.join(_PROVIDERS)}.")
    if device == "auto":
        device = "cuda" if _PROVIDERS["cuda"] in available else "cpu"
    if _PROVIDERS[device] not in available:
        raise WrongUse(f"ONNX Runtime has no {device} here: {_REMEDIES[device]}, or choose --device cpu.")
    return list(dict.fromkeys([_PROVIDERS[device], _PROVIDERS["cpu"]]))
