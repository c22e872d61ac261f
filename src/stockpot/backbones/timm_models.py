"""Any model of timm that ends with GAP and one linear layer, cut before GAP.

Wightman, "PyTorch Image Models", doi:10.5281/zenodo.4414861. Our `efficientnet_lite0` is timm's
`tf_efficientnet_lite0`: the one with TensorFlow's padding, which the published weights were trained with.
"""

import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

from stockpot.backbones.catalog import CATALOG, Entry
from stockpot.errors import RecipeError, WeightsError
from stockpot.photos.preprocessing import Preprocessing

_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0", "xception": "legacy_xception"}
_LITE_MEAN, _LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)  # as Google trained it, not timm's 127.5


def timm_name(name: str) -> str:
    """Return what timm calls a backbone."""
    return _NAMES.get(name, name)


def describe(name: str) -> Entry:
    """Return what is known of a timm model before it is built.

    Raises:
        RecipeError: timm has no such model.
    """
    if not timm.is_model(name.split(".")[0]):
        alike = difflib.get_close_matches(name, timm.list_models(), 3)
        known = f"; timm has {', '.join(alike)}" if alike else ""
        raise RecipeError(
            f"There is no backbone {name!r}: choose one of {', '.join(CATALOG)}, or a model of timm{known}."
        )
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise RecipeError(
            f"timm has no weights {name!r} ({error}): leave out what follows the dot."
        ) from None
    size = config.input_size[1] if config is not None else 224
    return Entry("pretrained", size, 32)


def build(name: str, tensors: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a timm model with random weights, cut before GAP, and the tensors that it takes.

    Args:
        name: of the model.
        tensors: under timm's names, also with the layer that is cut off; of efficientnet_lite0 also under the
            names of its publisher, which come in the same order.

    Raises:
        RecipeError: something else than GAP and one linear layer follows its maps.
    """
    whole = timm.create_model(timm_name(name)).eval()
    _check_ending(name, whole)
    if "_conv_stem.weight" in tensors:
        names = (key for key in whole.state_dict() if not key.endswith("num_batches_tracked"))
        tensors = dict(zip(names, tensors.values(), strict=False))
    cut = f"{whole.pretrained_cfg['classifier']}."  # type: ignore[index]
    kept = {
        key: tensor
        for key, tensor in tensors.items()
        if not key.startswith(cut) and not key.endswith("num_batches_tracked")
    }
    return timm.create_model(timm_name(name), num_classes=0, global_pool="").eval(), kept


def preprocessing(name: str, module: nn.Module, image_size: int, resize: str) -> Preprocessing:
    """Return how photos are prepared for a timm model."""
    config: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
    if name == "efficientnet_lite0":
        mean, std = _LITE_MEAN, _LITE_STD
    kind = config["interpolation"] if config["interpolation"] in ("bilinear", "bicubic") else "bicubic"
    return Preprocessing(image_size, mean, std, resize, kind)  # type: ignore[arg-type]


def download(name: str) -> dict[str, Tensor]:
    """Return a model's published weights, from the Hugging Face hub or its cache.

    Raises:
        WeightsError: there are none, or the hub is not reachable.
    """
    try:
        model = timm.create_model(timm_name(name), pretrained=True)
    except Exception as error:  # noqa: BLE001 - timm passes on whatever the hub's client raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"not reachable, or without weights of {name} ({reason})") from None
    return dict(model.state_dict())


@torch.no_grad()
def _check_ending(name: str, model: nn.Module) -> None:
    """Refuse a model whose logits are not a linear layer of the means of its maps."""
    size: int = model.pretrained_cfg["input_size"][1]  # type: ignore[index,assignment]
    photo = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps, layer = model.forward_features(photo), model.get_classifier()  # type: ignore[operator]
    fits = isinstance(layer, nn.Linear) and maps.ndim == 4 and maps.shape[1] == layer.in_features
    if not fits or not torch.allclose(layer(maps.mean(dim=(2, 3))), model(photo), atol=1e-5):
        raise RecipeError(
            f"{name} does not end with GAP and one linear layer, so its maps would not add up to the logit: "
            f"choose another backbone, for instance resnet18."
        )
