"""A pretrained feature extractor, up to but excluding GAP, with all that must travel with its weights."""

import copy
import hashlib
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stockpot.backbones import cifar_resnet, xception
from stockpot.backbones.catalog import look_up
from stockpot.backbones.weights import find_weights
from stockpot.errors import ModelError, RecipeError, WeightsError
from stockpot.model.model_file import ModelFile, read_backbone, read_graph
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
        self.buildable = False  # by stockpot, from its name alone
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)
        self.num_features: int = self._probe()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return feature maps `(N, C, h, w)` of pixels `(N, S, S, 3)` in 0..255."""
        return self.feature_maps(self.normalize(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return what the network computes on, `(N, 3, S, S)`, of pixels `(N, S, S, 3)` in 0..255."""
        return normalize(pixels, cast(Tensor, self.mean), cast(Tensor, self.std))

    def feature_maps(self, x: Tensor) -> Tensor:
        """Return feature maps `(N, C, h, w)` of normalized photos `(N, 3, S, S)`."""
        return self.module(x)  # type: ignore[no-any-return]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The network's named blocks, in the order of computation; a row inside a row is taken apart."""
        return tuple(name for name, _ in self._steps())

    def parts(self, block: str) -> tuple[nn.Module, nn.Module]:
        """Return what comes before a block, from pixels `(N, S, S, 3)`, and the rest, up to the feature maps.

        Both share their weights with the backbone, which is in inference mode afterwards.

        Raises:
            RecipeError: there is no such block, or the network is not a row of blocks.
        """
        steps = self._steps()
        first = next((i for i, (name, _) in enumerate(steps) if f"{name}.".startswith(f"{block}.")), 0)
        if not first:
            raise RecipeError(
                f"{self.name} cannot be cut before {block!r}; choose all, head, or one of: "
                f"{', '.join(self.blocks[1:])}."
            )
        before = nn.Sequential(_Normalize(self), *(module for _, module in steps[:first]))
        after = nn.Sequential(*(module for _, module in steps[first:]))
        size = self.preprocessing.image_size
        pixels = torch.linspace(0, 255, 3 * size * size).reshape(1, size, size, 3).round()
        try:
            with torch.no_grad():
                whole = self.eval()(pixels)
                same = torch.equal(after(before(pixels)), whole)
        except Exception:  # noqa: BLE001 - a network raises whatever it likes
            same = False
        if not same:
            raise RecipeError(
                f"{self.name} is not a row of blocks, so it cannot be cut before {block!r}: choose all or head."
            )
        return before, after

    def _steps(self) -> list[tuple[str, nn.Module]]:
        steps: list[tuple[str, nn.Module]] = []
        for name, child in self.module.named_children():
            inner = child.named_children() if isinstance(child, nn.Sequential) else ()
            steps += [(f"{name}.{part}", module) for part, module in inner] or [(name, child)]
        return steps

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of the weights, names and every bit, and of the layers of one's own network."""
        digest = hashlib.sha256(b"" if self.buildable else repr(self.module).encode())
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
        """Run one gray photo through the network and return its number of channels; it stays in inference mode.

        Raises:
            WeightsError: the network does not give feature maps.
        """
        size = self.preprocessing.image_size
        try:
            with torch.no_grad():
                maps = self.eval().feature_maps(torch.zeros(1, 3, size, size))
        except Exception as error:  # noqa: BLE001 - a network raises whatever it likes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(
                f"{self.name} cannot compute a photo of {size} x {size} pixels on the processor ({reason}): "
                f"give another image_size, or cut the network before GAP."
            ) from None
        if not isinstance(maps, Tensor) or maps.ndim != 4:
            found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise WeightsError(
                f"{self.name} gives {found}, not feature maps (N, C, h, w): cut it before GAP."
            )
        return maps.shape[1]


class _Normalize(nn.Module):
    """The first step of a backbone by itself."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.register_buffer("mean", cast(Tensor, backbone.mean), persistent=False)
        self.register_buffer("std", cast(Tensor, backbone.std), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return normalize(pixels, cast(Tensor, self.mean), cast(Tensor, self.std))


def normalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `(N, 3, S, S)`, minus mean and divided by std, of pixels `(N, S, S, 3)` in 0..255."""
    return (pixels.permute(0, 3, 1, 2).to(torch.float32) - mean) / std


def load_backbone(
    name: str = "xception",
    start: str | None = None,
    image_size: int | None = None,
    resize: str = "squash",
    progress: Progress = silent,
) -> Backbone:
    """Return a backbone with pretrained weights.

    Args:
        name: `"xception"`; `"efficientnet_lite0"`, small and fast; `"cifar"`, our own small network for 32 x 32
            pixels; or a model of timm that ends with GAP and one linear layer.
        start: where the weights come from: the network's own by default (`"imagenet"`, `"cifar10"`, or
            `"pretrained"` for timm's), `"random"`, or a file: a stockpot model, `.safetensors` or `.pth`
            with our own or timm's names, Keras' `.h5` or `.keras` of Xception.
        image_size: S, pixels; by default what the weights were trained with or is usual.
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
    if start == "random":
        network, _ = _build(name, {})
        preprocessing = _preprocessing(name, network, size, resize)
        backbone = Backbone(network, preprocessing=preprocessing, name=name, attribution="random weights")
        backbone.buildable = True
        return backbone
    source = find_weights(name, start or entry.start, progress)
    network, tensors = _build(name, _tensors(source.tensors))
    backbone = Backbone(
        network,
        preprocessing=_preprocessing(name, network, size, resize),
        name=name,
        attribution=source.description,
    )
    return _filled(backbone, tensors, source.origin)


def read_model_backbone(model: ModelFile, own: Backbone | None = None) -> Backbone:
    """Return the backbone in a model file, with its weights.

    Args:
        model: the file.
        own: where the model was trained on a network of one's own, a backbone of that network; it is copied.

    Raises:
        ModelError: the file is damaged, or its network is not known.
        WeightsError: the file's weights are not those it names.
    """
    tensors = _tensors(read_backbone(model.path))
    if own is not None:
        backbone = _filled(copy.deepcopy(own), tensors, str(model.path), own.buildable)
    elif read_graph(model.path):
        raise ModelError(
            f"{model.path} was trained on {model.backbone!r}, a network of your own, which stockpot cannot "
            f"build: give its Backbone."
        )
    else:
        network, tensors = _build(model.backbone, tensors)
        backbone = Backbone(
            network,
            preprocessing=model.preprocessing,
            name=model.backbone,
            attribution=model.attribution,
        )
        backbone = _filled(backbone, tensors, str(model.path))
    if backbone.fingerprint != model.fingerprint:
        raise WeightsError(
            f"{model.path} says its backbone's weights are {model.fingerprint}, but they are "
            f"{backbone.fingerprint}: the file was changed; copy it anew."
        )
    return backbone


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _build(name: str, tensors: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the network that tensors are for, with random weights, and the tensors under its names."""
    if name == "xception":
        return xception.xception(), tensors
    if name == "cifar":
        return cifar_resnet.like(tensors), tensors
    look_up(name)
    from stockpot.backbones import timm_models

    return timm_models.build(name, tensors)


def _preprocessing(name: str, network: nn.Module, size: int, resize: str) -> Preprocessing:
    if name in ("xception", "cifar"):
        room = xception if name == "xception" else cifar_resnet
        return Preprocessing(size, room.MEAN, room.STD, resize)  # type: ignore[arg-type]
    from stockpot.backbones import timm_models

    return timm_models.preprocessing(name, network, size, resize)


def _filled(backbone: Backbone, tensors: dict[str, Tensor], origin: str, buildable: bool = True) -> Backbone:
    """Fill a backbone, and say so if stockpot can build it anew."""
    backbone.load_weights(tensors, origin)
    backbone.buildable = buildable
    return backbone.eval()


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
