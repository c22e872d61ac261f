"""A pretrained feature extractor, up to but excluding GAP, with all that must travel with its weights."""

import copy
import hashlib
from typing import cast

import torch
from torch import Tensor, nn

from stockpot.backbones import cifar_resnet, xception
from stockpot.backbones.catalog import CATALOG, look_up
from stockpot.backbones.weights import find_weights
from stockpot.errors import ModelError, RecipeError, WeightsError
from stockpot.model.model_file import ModelFile, read_backbone
from stockpot.photos.preprocessing import Preprocessing
from stockpot.progress import Progress, silent


class Backbone(nn.Module):
    """A network that gives feature maps, its preprocessing, and where its weights came from."""

    def __init__(
        self, module: nn.Module, *, preprocessing: Preprocessing, name: str, attribution: str = ""
    ) -> None:
        super().__init__()
        self.module = module
        self.preprocessing = preprocessing
        self.name = name
        self.attribution = attribution
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)
        self.num_features: int = self._probe()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return feature maps `(N, C, h, w)` of pixels `(N, S, S, 3)` in 0..255."""
        return self.feature_maps(self.normalize(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return what the network computes on, `(N, 3, S, S)`, of pixels `(N, S, S, 3)` in 0..255."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return (x - cast(Tensor, self.mean)) / cast(Tensor, self.std)

    def feature_maps(self, x: Tensor) -> Tensor:
        """Return feature maps `(N, C, h, w)` of normalized photos `(N, 3, S, S)`."""
        return self.module(x)  # type: ignore[no-any-return]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The network's named blocks, in the order of computation."""
        return tuple(name for name, _ in self.module.named_children())

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of the weights: names and every bit of every value."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.weights().items()):
            digest.update(name.encode() + str(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:12]

    @property
    def key(self) -> str:
        """What feature maps of a photo depend on: the weights and the preprocessing."""
        return f"{self.fingerprint}-{self.preprocessing.fingerprint}"

    def weights(self) -> dict[str, Tensor]:
        """Return every parameter and BatchNorm statistic by name, on the CPU."""
        state = self.module.state_dict()
        return {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }

    def load_weights(self, tensors: dict[str, Tensor], origin: str) -> None:
        """Take over weights by name.

        Args:
            tensors: one for each of `weights()`, of the same shape.
            origin: where they came from, for the error.

        Raises:
            WeightsError: a name or a shape differs; says which, expected and found.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in self.weights().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        if wrong:
            first = wrong[0]
            raise WeightsError(
                f"{origin} does not fit {self.name}: {len(wrong)} tensors differ, first {first}: expected "
                f"{expected.get(first, 'none')}, found {found.get(first, 'none')}. Give a file of this network."
            )
        self.module.load_state_dict(tensors, strict=False)

    def _probe(self) -> int:
        """Run one gray photo through the network and return its number of channels.

        Raises:
            WeightsError: the network does not give feature maps.
        """
        size = self.preprocessing.image_size
        training = self.training
        with torch.no_grad():
            maps = self.eval().feature_maps(torch.zeros(1, 3, size, size))
        self.train(training)
        if maps.ndim != 4:
            raise WeightsError(
                f"{self.name} gives {tuple(maps.shape)}, not feature maps (N, C, h, w): cut it before GAP."
            )
        return maps.shape[1]


def load_backbone(
    name: str = "xception",
    start: str | None = None,
    image_size: int | None = None,
    resize: str = "squash",
    progress: Progress = silent,
) -> Backbone:
    """Return a backbone with pretrained weights.

    Args:
        name: `"xception"`, or `"cifar"`, the project's own small network.
        start: `"imagenet"` for Xception and `"cifar10"` for cifar, their defaults, or a file of weights: a
            stockpot model, `.safetensors` with our own names, Keras' `.h5` or `.keras` of Xception.
        image_size: S, pixels; 256 and 32 by default, at least 71 and 8.
        resize: what is done to photos that are not square: `"squash"`, `"crop"` or `"pad"`.
        progress: told how far a download is.

    Raises:
        RecipeError: there is no such backbone, or the size is too small for it.
        WeightsError: the weights cannot be had or do not fit.
    """
    entry = look_up(name)
    size = image_size or entry.image_size
    if size < entry.smallest:
        raise RecipeError(
            f"image_size is {size}; {name} needs at least {entry.smallest} pixels, {entry.image_size} is usual."
        )
    source = find_weights(name, start or entry.start, progress)
    tensors = {key: torch.from_numpy(value) for key, value in source.tensors.items()}
    mean, std = (xception.MEAN, xception.STD) if name == "xception" else (cifar_resnet.MEAN, cifar_resnet.STD)
    preprocessing = Preprocessing(size, mean, std, resize)  # type: ignore[arg-type]
    return _filled(name, preprocessing, tensors, source.description, source.description)


def read_model_backbone(model: ModelFile, own: Backbone | None = None) -> Backbone:
    """Return the backbone in a model file, with its weights.

    Args:
        model: the file.
        own: where the model was trained on a network of one's own, a backbone of that network; it is copied.

    Raises:
        ModelError: the file is damaged, or its network is not known.
        WeightsError: the file's weights are not those it names.
    """
    tensors = {name: torch.from_numpy(value) for name, value in read_backbone(model.path).items()}
    if own is not None:
        backbone = copy.deepcopy(own)
        backbone.load_weights(tensors, str(model.path))
    elif model.backbone in CATALOG:
        backbone = _filled(model.backbone, model.preprocessing, tensors, str(model.path), model.attribution)
    else:
        raise ModelError(
            f"{model.path} was trained on {model.backbone!r}, a network of your own, which stockpot cannot "
            f"build: give its Backbone."
        )
    if backbone.fingerprint != model.fingerprint:
        raise WeightsError(
            f"{model.path} says its backbone's weights are {model.fingerprint}, but they are "
            f"{backbone.fingerprint}: the file was changed; copy it anew."
        )
    return backbone.eval()


def _filled(
    name: str, preprocessing: Preprocessing, tensors: dict[str, Tensor], origin: str, attribution: str
) -> Backbone:
    """Build the network that the tensors are for, and fill it."""
    network = xception.xception() if name == "xception" else cifar_resnet.like(tensors)
    backbone = Backbone(network, preprocessing=preprocessing, name=name, attribution=attribution)
    backbone.load_weights(tensors, origin)
    return backbone.eval()


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
