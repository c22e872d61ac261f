"""`model.safetensors`: one file with everything that is needed to predict and to explain. No pickle.

Tensors are named `backbone.*`, `head.weight` `(K, C)`, `head.bias` `(K,)` and, where it can say "none of these",
`rejection.directions` `(K, C)`; the metadata holds one JSON text.
A model on a network that stockpot cannot build carries its ONNX graph as the bytes `graph`.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stockpot.errors import FolderError, ModelError
from stockpot.model.rejection import HeldOut, Rejection
from stockpot.photos.preprocessing import Preprocessing, from_json
from stockpot.project import is_folder_name, parse_json, replacing
from stockpot.shapes import checked, made

FORMAT = 1
LARGEST_DISTANCE = 2.0  # one minus a cosine
_KEY = "stockpot"
_REJECTION = ("threshold", "rate", "n", "held_out")

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Calibration:
    """How sure a model may be."""

    temperature: float  # what logits are divided by before softmax
    n: int = 0  # photos that it was chosen on; none: as it was trained
    held_out: HeldOut | Literal[""] = ""  # which photos


UNCALIBRATED = Calibration(1.0)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """What a model file says, without the backbone's weights."""

    path: Path
    class_names: tuple[str, ...]
    backbone: str  # name of the architecture
    fingerprint: str  # of the backbone's weights
    preprocessing: Preprocessing
    recipe: dict[str, Any]
    metrics: dict[str, Any]  # accuracy and loss with n
    attribution: str  # where the backbone's weights came from
    weight: NDArray[np.float32]  # (K, C)
    bias: NDArray[np.float32]  # (K,)
    learned_from: tuple[str, ...] = ()  # 12 hexadecimal digits of the sha256 of every photo
    calibration: Calibration = UNCALIBRATED
    rejection: Rejection | None = None  # None: it cannot say "none of these"
    versions: dict[str, str] = field(default_factory=dict)  # of what it was trained with, by package

    @property
    def key(self) -> str:
        """What feature maps of a photo depend on: the backbone's weights and the preprocessing."""
        return f"{self.fingerprint}-{self.preprocessing.fingerprint}"


def write_model(model: ModelFile, backbone: Tensors, graph: bytes = b"") -> None:
    """Write a model as one file, as one step.

    Args:
        model: everything but the backbone's weights; its `path` says where.
        backbone: the backbone's weights by name.
        graph: the backbone as ONNX, where stockpot cannot build it anew.

    Raises:
        FolderError: the place cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "class_names": model.class_names,
        "backbone": model.backbone,
        "fingerprint": model.fingerprint,
        "preprocessing": asdict(model.preprocessing),
        "recipe": model.recipe,
        "metrics": model.metrics,
        "attribution": model.attribution,
        "learned_from": model.learned_from,
        "calibration": asdict(model.calibration),
        "versions": model.versions,
    }
    tensors = {f"backbone.{name}": np.ascontiguousarray(value) for name, value in backbone.items()}
    tensors |= {"head.weight": model.weight, "head.bias": model.bias}
    if model.rejection:
        tensors["rejection.directions"] = model.rejection.directions
        metadata["rejection"] = {name: getattr(model.rejection, name) for name in _REJECTION}
    if graph:
        tensors["graph"] = np.frombuffer(graph, np.uint8)
    with replacing(model.path) as temporary:
        try:
            save_file(tensors, temporary, {_KEY: json.dumps(metadata)})
        except SafetensorError as error:
            raise FolderError(f"{model.path} cannot be written ({_reason(error)}): free space.") from None


def read_model(path: Path) -> ModelFile:
    """Read a model file without its backbone; nothing in it is run.

    Raises:
        ModelError: the file is no model of ours, damaged, or newer than this program.
    """
    if not path.exists():
        raise ModelError(f"There is no model file {path}: train one, or give another path.")
    with _opened(path, "is not a stockpot model or is damaged") as file:
        metadata = checked(parse_json((file.metadata() or {})[_KEY]), _Metadata)
        if metadata["format"] > FORMAT:
            raise ModelError(
                f"{path} has format {metadata['format']}, this stockpot reads up to {FORMAT}: "
                f"pip install --upgrade stockpot"
            )
        if metadata["format"] < 1:
            raise ValueError(f"format {metadata['format']!r}, expected 1 to {FORMAT}")
        told = checked(metadata, _Told)
        model = ModelFile(
            path=path,
            class_names=_read_class_names(told["class_names"]),
            backbone=told["backbone"],
            fingerprint=_read_fingerprint(told["fingerprint"]),
            preprocessing=from_json(told["preprocessing"]),
            recipe=told["recipe"],
            metrics=told["metrics"],
            attribution=told["attribution"],
            weight=file.get_tensor("head.weight"),
            bias=file.get_tensor("head.bias"),
            learned_from=tuple(told.get("learned_from", ())),
            calibration=_read_calibration(told),
            rejection=_read_rejection(told, file),
            versions=told.get("versions", {}),
        )
    _check_tensors(model)
    return model


def is_model(path: Path) -> bool:
    """Tell whether a file is a model of ours, also if it is newer than this program."""
    try:
        with _opened(path, "is no model") as file:
            return _KEY in (file.metadata() or {})
    except ModelError:
        return False


def read_backbone(path: Path) -> Tensors:
    """Return the backbone's weights in a model file, by name.

    Raises:
        ModelError: the file cannot be read.
    """
    with _opened(path, "is damaged") as file:
        names = [name for name in file.keys() if name.startswith("backbone.")]  # noqa: SIM118
        return {name.removeprefix("backbone."): file.get_tensor(name) for name in names}


def read_graph(path: Path) -> bytes:
    """Return the ONNX graph in a model file; nothing where there is none.

    Raises:
        ModelError: the file cannot be read.
    """
    with _opened(path, "is damaged") as file:
        graph: bytes = file.get_tensor("graph").tobytes() if "graph" in file.keys() else b""  # noqa: SIM118
        return graph


@contextmanager
def _opened(path: Path, problem: str) -> Iterator[Any]:
    """Open a file of tensors; whatever is wrong with it or with what is made of it becomes one line.

    Raises:
        ModelError: it cannot be read, or the block finds something that must not be.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not an ordinary file")  # of a pipe there would be no end
        with safe_open(path, framework="numpy") as file:
            yield file
    except _WRONG as error:
        raise ModelError(f"{path} {problem} ({_reason(error)}): train again or copy it anew.") from None


# of safetensors where numpy lacks a type: TypeError, AttributeError
_WRONG = (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError)


def _read_calibration(told: "_Told") -> Calibration:
    found = made(Calibration, told["calibration"]) if "calibration" in told else UNCALIBRATED
    if not 0 < found.temperature < math.inf:
        raise ValueError(f"temperature {found.temperature}, expected more than 0")
    return found


def _read_rejection(told: "_Told", file: Any) -> Rejection | None:
    if "rejection" not in told:
        return None
    found = Rejection(file.get_tensor("rejection.directions"), **told["rejection"])
    if not 0 <= found.threshold <= LARGEST_DISTANCE:
        raise ValueError(f"threshold {found.threshold}, expected 0 to {LARGEST_DISTANCE}")
    return found


def _read_class_names(names: list[str]) -> tuple[str, ...]:
    if not names or not all(map(is_folder_name, names)):
        raise ValueError(f"class_names {names}, expected names that folders can have")
    if len(set(names)) < len(names):
        raise ValueError(f"class_names {names}, expected each once")
    return tuple(names)


def _read_fingerprint(text: str) -> str:
    """Return what names files of a cache: nothing that could lead elsewhere."""
    if not re.fullmatch("[0-9a-f]{8,64}", text):
        raise ValueError(f"fingerprint {text[:60]!r}, expected hexadecimal digits")
    return text


class _Metadata(TypedDict):
    """What the metadata of every format say."""

    format: int


class _RejectionTold(TypedDict):
    threshold: float
    rate: float
    n: int
    held_out: HeldOut


class _Told(TypedDict):
    """What the metadata say of this format."""

    class_names: list[str]
    backbone: str
    fingerprint: str
    preprocessing: dict[str, Any]  # looked at by `from_json`
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    attribution: str
    learned_from: NotRequired[list[str]]
    calibration: NotRequired[dict[str, Any]]
    rejection: NotRequired[_RejectionTold]
    versions: NotRequired[dict[str, str]]


def _check_tensors(model: ModelFile) -> None:
    """Refuse a head that does not fit the classes, or is not of finite float32."""
    classes, remedy = len(model.class_names), "train again or copy it anew."
    if model.weight.ndim != 2 or len(model.weight) != classes or model.bias.shape != (classes,):
        raise ModelError(
            f"{model.path} names {classes} classes, but its head has weights {model.weight.shape} and "
            f"bias {model.bias.shape}: {remedy}"
        )
    tensors = {"head.weight": model.weight, "head.bias": model.bias}
    if model.rejection:
        tensors["rejection.directions"] = model.rejection.directions
        if model.rejection.directions.shape != model.weight.shape:
            raise ModelError(
                f"{model.path} has directions {model.rejection.directions.shape} beside weights "
                f"{model.weight.shape}: {remedy}"
            )
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise ModelError(f"{model.path} has {name} of {tensor.dtype}, expected float32: {remedy}")
        if not np.isfinite(tensor).all():
            raise ModelError(f"{model.path} has {name} with values that are no numbers: {remedy}")


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
