"""A pretrained feature extractor, up to but excluding GAP, with all that must travel with its weights."""

import hashlib
from typing import cast

import torch
from torch import Tensor, nn

from stockpot.backbones import xception
from stockpot.backbones.weights import Source, find_xception_weights
from stockpot.errors import RecipeError, WeightsError
from stockpot.model.model_file import ModelFile, read_backbone
from stockpot.photos.preprocessing import Preprocessing
from stockpot.progress import Progress, silent

NAMES = ("xception",)


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
    start: str = "imagenet",
    image_size: int = 256,
    resize: str = "squash",
    progress: Progress = silent,
) -> Backbone:
    """Return a backbone with pretrained weights.

    Args:
        name: `"xception"`.
        start: `"imagenet"`, or a file of weights: Keras' `.h5` or `.keras`, or `.safetensors`.
        image_size: S, pixels; at least 71.
        resize: what is done to photos that are not square: `"squash"`, `"crop"` or `"pad"`.
        progress: told how far a download is.

    Raises:
        RecipeError: there is no such backbone, or the size is too small for it.
        WeightsError: the weights cannot be had or do not fit.
    """
    if image_size < 71:
        raise RecipeError(f"image_size is {image_size}; Xception needs at least 71 pixels, 256 is usual.")
    backbone = _build(name, Preprocessing(image_size, xception.MEAN, xception.STD, resize))  # type: ignore[arg-type]
    source: Source = find_xception_weights(start, progress)
    backbone.load_weights(
        {key: torch.from_numpy(value) for key, value in source.tensors.items()}, source.description
    )
    backbone.attribution = source.description
    return backbone.eval()


def read_model_backbone(model: ModelFile) -> Backbone:
    """Return the backbone in a model file, with its weights.

    Raises:
        ModelError: the file is damaged.
        WeightsError: the file's weights are not those it names.
    """
    backbone = _build(model.backbone, model.preprocessing)
    tensors = {name: torch.from_numpy(value) for name, value in read_backbone(model.path).items()}
    backbone.load_weights(tensors, str(model.path))
    backbone.attribution = model.attribution
    if backbone.fingerprint != model.fingerprint:
        raise WeightsError(
            f"{model.path} says its backbone's weights are {model.fingerprint}, but they are "
            f"{backbone.fingerprint}: the file was changed; copy it anew."
        )
    return backbone.eval()


def _build(name: str, preprocessing: Preprocessing) -> Backbone:
    if name not in NAMES:
        raise RecipeError(f"There is no backbone {name!r}; choose one of: {', '.join(NAMES)}.")
    return Backbone(xception.xception(), preprocessing=preprocessing, name=name)


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
