"""What the bits of a training depend on besides its recipe and photos: where it was done."""

import platform
from importlib.metadata import version

import torch


def surroundings() -> dict[str, object]:
    """Return what this process runs on, and by how many threads and which packages it computes."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "torch_threads": torch.get_num_threads(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    packages = ("stockpot", "torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow")
    return {name: version(name) for name in packages}
