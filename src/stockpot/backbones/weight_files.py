"""A file of weights becomes tensors under our network's names. No code in such files is run.

Known are a stockpot model, `.safetensors` and torch's `.pth` with our own or timm's names, and Keras' `.h5` and
`.keras` of Xception.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot.backbones.keras_files import Layers, read_keras
from stockpot.backbones.xception import RESIDUAL_BLOCKS
from stockpot.errors import WeightsError
from stockpot.model.model_file import is_model, read_backbone, read_model

Tensors = dict[str, NDArray[Any]]


def read_weights(path: Path, backbone: str) -> Tensors:
    """Return a backbone's tensors from a file.

    Args:
        path: the file.
        backbone: name of the network they are for.

    Raises:
        WeightsError: it is not there, has no layout that is known, or holds another network.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}: {_WANTED}")
    try:
        if is_model(path):
            return _read_model(path, backbone)
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        if path.suffix in (".pth", ".pt", ".bin"):
            return _read_torch(path)
        return from_keras(read_keras(path, backbone))
    except WeightsError:
        raise
    except Exception as error:  # noqa: BLE001 - h5py, zip, torch and safetensors each raise their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights ({reason}): {_WANTED}") from None


_WANTED = "give a .safetensors, .pth, .h5 or .keras file of this network."


def _read_torch(path: Path) -> Tensors:
    """Return the tensors of a torch file; nothing else than tensors is unpickled."""
    import torch

    found = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        found = found.get(wrapper, found)
    return {
        name: tensor.detach().numpy()
        for name, tensor in found.items()
        if not name.endswith("num_batches_tracked")
    }


def _read_model(path: Path, backbone: str) -> Tensors:
    found = read_model(path).backbone
    if found != backbone:
        raise WeightsError(f"{path} holds the backbone {found!r}, not {backbone!r}: --backbone {found}")
    return read_backbone(path)


def from_keras(layers: Layers) -> Tensors:
    """Return Xception's tensors under our names.

    Args:
        layers: Keras' arrays by layer name. Kernels are `(height, width, in, out)`, depthwise ones
            `(height, width, channels, 1)`, BatchNorm is gamma, beta, mean, variance.
    """
    tensors: Tensors = {}
    residual = iter(RESIDUAL_BLOCKS)
    residual_bn = iter(RESIDUAL_BLOCKS)
    for name, arrays in layers.items():
        if name.startswith("conv2d"):
            ours = f"{next(residual)}.residual"
        elif name.startswith("batch_normalization"):
            ours = f"{next(residual_bn)}.residual_bn"
        elif name.startswith("block"):
            ours = name.replace("_", ".", 1)
        else:
            continue  # the classification layer of a whole model
        if ours.endswith("bn"):
            for part, array in zip(("weight", "bias", "running_mean", "running_var"), arrays, strict=True):
                tensors[f"{ours}.{part}"] = array
        elif len(arrays) == 2:
            tensors[f"{ours}.depthwise.weight"] = _kernel(arrays[0], (2, 3, 0, 1))
            tensors[f"{ours}.pointwise.weight"] = _kernel(arrays[1], (3, 2, 0, 1))
        else:
            tensors[f"{ours}.weight"] = _kernel(arrays[0], (3, 2, 0, 1))
    return tensors


def _kernel(array: NDArray[np.float32], order: tuple[int, ...]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array.transpose(order))
