"""A torch backbone as an ONNX graph: exported once, checked against torch, and kept.

The graph takes pixels `(N, S, S, 3)` as uint8 and gives pooled features `(N, C)` and feature maps
`(N, C, h, w)`; normalization and GAP are part of it, so that training and prediction cannot differ.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stockpot.backbones.backbone import Backbone
from stockpot.errors import ModelError
from stockpot.model.engine import load_engine
from stockpot.progress import Progress, silent
from stockpot.project import replacing

# largest difference of a feature between torch and the graph, where features reach 1; 1e-5 is usual
TOLERANCE = 1e-3


def ensure_graph(
    folder: Path,
    key: str,
    backbone: Callable[[], Backbone],
    progress: Progress = silent,
    part: nn.Module | None = None,
) -> Path:
    """Return the graph of a backbone, exported now if it is not in `folder`.

    Args:
        folder: where graphs are kept.
        key: of the backbone's weights and preprocessing, and of the part.
        backbone: called only if the graph has to be exported.
        progress: told before and after.
        part: of the backbone, from pixels to maps `(N, C, h, w)`; all of it by default.

    Raises:
        ModelError: the graph does not compute what torch computes.
        FolderError: `folder` cannot be written.
    """
    path = folder / f"{key}.onnx"
    if not path.exists():
        progress("exporting the backbone to ONNX (once)", 0, 1)
        whole = backbone()
        _export(part or whole, whole.preprocessing.image_size, path)
        progress("exporting the backbone to ONNX (once)", 1, 1)
    return path


class _Pooled(nn.Module):
    """What gives maps, with GAP beside them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network(pixels)
        return maps.mean(dim=(2, 3)), maps


def _export(network: nn.Module, size: int, path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=generator)
    pooled = _Pooled(network).eval()
    with replacing(path) as temporary:
        with _quiet():
            torch.onnx.export(
                pooled,
                (pixels,),
                temporary,
                input_names=["pixels"],
                output_names=["features", "maps"],
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        with torch.no_grad():
            expected = pooled(pixels)[0].numpy()
        features, _ = load_engine(temporary).run(pixels.numpy())
        difference = float(np.abs(features - expected).max())
        largest = max(1.0, float(np.abs(expected).max()))  # of a network that has hardly learned: thousands
        if not difference < TOLERANCE * largest:
            raise ModelError(
                f"The exported graph differs from torch by {difference:.1e} where features reach {largest:.0f}: "
                f"update onnxruntime and onnxscript, and report this."
            )


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """Silence what the exporter prints and warns about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
