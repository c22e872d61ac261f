"""A model as timm's own folder, which timm, transformers and the Hugging Face hub read.

Only where timm has a network that computes the same. Of Xception that is so at image sizes 32 k + 7 and 32 k + 8
(263 and 264 are next to the usual 256): there all four strided poolings meet an odd number of cells, which timm's
`legacy_xception` pads as Keras does.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.backbones.backbone import read_model_backbone
from stockpot.backbones.timm_models import timm_name
from stockpot.errors import ModelError
from stockpot.model.model_file import ModelFile, read_graph
from stockpot.model.prediction import Predictor
from stockpot.photos.preprocessing import prepare
from stockpot.publishing.agreement import check_same

EPSILON, ITS_EPSILON = 1e-3, 1e-5  # of BatchNorm in our Xception and in timm's
_POOLED_ALIKE = (7, 8)  # image size modulo 32
_CROP_MODES = {
    "squash": "squash",
    "pad": "border",
}  # timm's names of what we do; it crops whole pixels, we do not


def timm_remedy(model: ModelFile) -> str:
    """Return why timm has no network that computes a model, and what would help; nothing where it has one."""
    if model.backbone == "cifar" or read_graph(model.path):
        return f"timm does not have the network {model.backbone!r}"
    if model.preprocessing.resize not in _CROP_MODES:
        return "timm crops photos otherwise: train with --resize squash or pad for a model that timm computes too"
    size = model.preprocessing.image_size
    if model.backbone == "xception" and size % 32 not in _POOLED_ALIKE:
        near = 32 * round((size - 8) / 32) + 8
        return (
            f"timm's Xception pools otherwise at {size} pixels: train with --image-size {near} for a model "
            f"that timm computes too"
        )
    return ""


def write_timm_folder(predictor: Predictor, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, and check that timm computes the same from them.

    Its logits are the model's divided by the temperature, so that their softmax is calibrated.

    Args:
        predictor: of a model without `timm_remedy`.
        folder: an existing one.

    Raises:
        ModelError: timm computes something else.
    """
    from timm.models import save_for_hf

    model = predictor.model
    network = _network(model)
    size = model.preprocessing.image_size
    save_for_hf(
        network,
        str(folder),
        model_config={"label_names": list(model.class_names)},
        safe_serialization=True,
        data_config={
            "input_size": (3, size, size),
            "mean": tuple(value / 255 for value in model.preprocessing.mean),
            "std": tuple(value / 255 for value in model.preprocessing.std),
            "interpolation": model.preprocessing.interpolation,
            "crop_pct": 1.0,
            "crop_mode": _CROP_MODES[model.preprocessing.resize],
        },
    )
    config = disk.read_json(folder / "config.json")
    config["model_args"].pop("num_classes", None)  # transformers would give it twice; timm has it elsewhere
    disk.write_json(folder / "config.json", config)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # it was made private
    _check(predictor, folder)


def _network(model: ModelFile) -> nn.Module:
    """Return timm's network with the model's weights, its head divided by the temperature."""
    import timm

    weights = read_model_backbone(model).weights()
    if model.backbone == "xception":
        weights = _as_legacy_xception(weights)
    network: Any = timm.create_model(timm_name(model.backbone), num_classes=len(model.class_names))
    config = network.pretrained_cfg
    config |= {"tag": None, "license": None}  # of the weights that timm itself would fetch
    cut = config["classifier"]
    temperature = np.float32(model.calibration.temperature)
    weights[f"{cut}.weight"] = torch.from_numpy(model.weight / temperature)
    weights[f"{cut}.bias"] = torch.from_numpy(model.bias / temperature)
    found = network.load_state_dict(weights, strict=False)
    missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        first = (missing + found.unexpected_keys)[0]
        raise ModelError(f"This timm names the weights of {model.backbone} otherwise ({first}): update timm.")
    return network.eval()  # type: ignore[no-any-return]


def _as_legacy_xception(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of our Xception under the names of timm's, its smaller epsilon made up for."""
    renamed = {}
    for name, tensor in weights.items():
        block, layer, *rest = name.split(".")
        if rest[-1] == "running_var":
            tensor = tensor + (EPSILON - ITS_EPSILON)
        renamed[".".join([_legacy_name(block, layer), *rest]).replace("depthwise", "conv1")] = tensor
    return renamed


def _legacy_name(block: str, layer: str) -> str:
    """Return what timm calls a layer of ours: `block2`, `sepconv1_bn` is `block1.rep.1`."""
    number = int(block.removeprefix("block"))
    step, _, norm = layer.partition("_")
    if number in (1, 14):  # conv1, conv2 in the first block; sepconv1, sepconv2 in the last are conv3, conv4
        at = int(step[-1]) + (2 if number > 1 else 0)
        return f"bn{at}" if norm else f"conv{at}"
    if step == "residual":
        return f"block{number - 1}.skip{norm}"
    relu_first = number > 2  # each step is ReLU, convolution, BatchNorm; the first of block2 has no ReLU
    at = 3 * (int(step[-1]) - 1) + relu_first + bool(norm)
    return f"block{number - 1}.rep.{at}"


@torch.no_grad()
def _check(predictor: Predictor, folder: Path) -> None:
    """Show a picture of noise to the model, and to what timm makes of the folder, from its preprocessing on."""
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    model, size = predictor.model, predictor.model.preprocessing.image_size
    noise = np.random.default_rng(0).integers(0, 256, (size, size + size // 2, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    features, _ = predictor.engine.run(prepare(picture, model.preprocessing)[None])
    expected = predictor.logits(features) / np.float32(model.calibration.temperature)
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = create_transform(**resolve_model_data_config(network))  # type: ignore[no-untyped-call]
    check_same("timm's logits", network(transform(picture)[None]).numpy(), expected, "update timm")
