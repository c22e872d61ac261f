"""Reading Keras' weight files without Keras: both layouts, as arrays by layer name. No code in them is run.

* `.keras` (Keras 3): a zip of `config.json` and `model.weights.h5`, where a layer is found by its class and its
  place in the config's list.
* `.h5` (Keras 1, 2 and 3's legacy format, and keras.applications' downloads): a group a layer name.
"""

import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_TEXT, MOST_WEIGHTS = 2**24, 2**31  # bytes in an archive
Layers = dict[str, list[NDArray[np.float32]]]  # by layer name, in the order of the layer's weights


def read_keras(path: Path, network: str) -> Layers:
    """Return the weights of the layers of `network` in a `.keras` or `.h5` file, in the network's order.

    Args:
        path: the file.
        network: name of the inner network, where the file holds a model around it.

    Raises:
        OSError, KeyError, ValueError: the file has neither layout.
    """
    import h5py

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_unpacked(archive, "config.json", MOST_TEXT))
            weights = io.BytesIO(_unpacked(archive, "model.weights.h5", MOST_WEIGHTS))
        with h5py.File(weights, "r") as file:
            return _read_new(file, config, network)
    with h5py.File(path, "r") as file:
        return _read_old(file.get("model_weights", file), network)


def _unpacked(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a file in an archive, unless it would fill the memory."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise ValueError(f"{name} has {size:,} bytes, expected at most {most:,}")
    return archive.read(name)  # zipfile stops at that size


def _read_new(file: Any, config: dict[str, Any], network: str) -> Layers:
    layers, group = config["config"]["layers"], file["layers"]
    for layer, stored in zip(layers, _stored_names(layers), strict=True):
        if layer["config"]["name"] == network:
            layers, group = layer["config"]["layers"], group[stored]["layers"]
            break
    found = {}
    for layer, stored in zip(layers, _stored_names(layers), strict=True):
        variables = group[stored]["vars"] if stored in group and "vars" in group[stored] else {}
        if len(variables):
            name = layer["config"]["name"]
            found[name] = [np.asarray(variables[str(index)]) for index in range(len(variables))]
    return found


def _stored_names(layers: list[dict[str, Any]]) -> list[str]:
    """Return the group of each layer: its class in snake case, numbered from the second on."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", layer["class_name"]).lower()
        names.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _read_old(group: Any, network: str) -> Layers:
    group = group.get(network, group)
    names = [_text(name) for name in group.attrs.get("layer_names", [])] or list(group)
    found = {}
    for name in names:
        weights = [_text(weight) for weight in group[name].attrs.get("weight_names", [])]
        if weights:
            found[name] = [np.asarray(group[name][weight]) for weight in weights]
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
