"""Why a model decides as it does: the class activation maps behind one prediction.

`C` channels, `K` classes, `h`, `w` cells of a feature map.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stockpot.errors import PhotoError, UnreadablePhoto, WrongUse
from stockpot.explanation.channels import Channels
from stockpot.learning.models import Place, list_files, load_model
from stockpot.model.activation_maps import activation_maps, residual
from stockpot.model.model_file import ModelFile
from stockpot.model.overlay import common_scale, legend, paint
from stockpot.model.prediction import calibrated
from stockpot.photos.pixels import thumbnail
from stockpot.photos.preprocessing import read_prepared
from stockpot.progress import Progress, silent
from stockpot.project import replacing

SHOWN_PIXELS = 640  # long side of an overlay unless asked otherwise


@dataclass(frozen=True, eq=False)
class Explanation:
    """A prediction and the maps it was computed from."""

    photo: Path
    logits: NDArray[np.float32]  # (K,)
    cam: NDArray[np.float32]  # (K, h, w), raw and signed, in logit units
    residual: float  # largest |mean(cam) + bias - logit| over the classes
    feature_maps: NDArray[np.floating]  # (C, h, w), which the maps are sums of
    model: ModelFile
    truth: str = ""  # the photo's label, where it is known

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, in the order of logits and maps."""
        return self.model.class_names

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """How sure the model is of each class, calibrated: `(K,)`."""
        return calibrated(self.logits, self.model)

    @property
    def none_of_these(self) -> bool | None:
        """Tell whether it resembles no class; None where the model cannot say."""
        if self.model.rejection is None:
            return None
        features = self.feature_maps.mean(axis=(1, 2), dtype=np.float32)
        return bool(self.model.rejection.rejects(features[None])[0])

    @property
    def predicted(self) -> str:
        """The class with the highest logit."""
        return self.class_names[int(self.logits.argmax())]

    @property
    def probability(self) -> float:
        """The predicted class's."""
        return float(self.probabilities.max())

    def map_of(self, label: str) -> NDArray[np.float32]:
        """Return the map of a class: `(h, w)`.

        Raises:
            PhotoError: the model does not know that class.
        """
        return np.asarray(self.cam[self._number(label)])

    def channels(self, label: str | None = None) -> Channels:
        """Return the channels that the map of a class, the predicted one by default, is summed up from.

        Raises:
            PhotoError: the model does not know that class.
        """
        label = label or self.predicted
        k, model = self._number(label), self.model
        return Channels(
            label, self.feature_maps, model.weight[k], float(model.bias[k]), self.photo, model.preprocessing
        )

    def _number(self, label: str) -> int:
        if label not in self.class_names:
            raise PhotoError(f"The model has no class {label!r}; it has {', '.join(self.class_names)}.")
        return self.class_names.index(label)

    def to_json(self, label: str | None = None, channels: int = 0) -> dict[str, Any]:
        """Return the prediction behind the maps as JSON holds it.

        Args:
            label: the class whose channels are told of; the predicted one by default.
            channels: how many of the strongest; 0 for none.

        Raises:
            PhotoError: the model does not know that class.
        """
        told = {"channels": self.channels(label).to_json(channels)} if channels else {}
        return {
            "path": str(self.photo),
            "label": self.predicted,
            "none_of_these": self.none_of_these,
            "probabilities": dict(zip(self.class_names, map(float, self.probabilities), strict=True)),
            "logits": dict(zip(self.class_names, map(float, self.logits), strict=True)),
            "residual": self.residual,
        } | told

    def overlay(
        self,
        label: str | None = None,
        scale: float | None = None,
        longest: int = SHOWN_PIXELS,
        rather_than: str | None = None,
    ) -> Image.Image:
        """Return the map of a class painted on the photo.

        Args:
            label: the class; the predicted one by default.
            scale: value where the color is strongest, in logit units; by default what almost all cells of
                this photo's maps stay within.
            longest: pixels that the picture's long side has at most.
            rather_than: another class, whose map is subtracted: what speaks for the one and against the other.

        Raises:
            PhotoError: the model does not know that class.
            UnreadablePhoto: the photo is gone.
        """
        photo = thumbnail(self.photo, longest)
        cam = self.map_of(label or self.predicted)
        if rather_than is not None:
            cam = cam - self.map_of(rather_than)
        box = self.model.preprocessing.box(photo.width, photo.height)
        return paint(photo, cam, scale or common_scale(list(self.cam)), box)

    def picture(self, label: str | None = None, scale: float | None = None) -> Image.Image:
        """Return photo and overlay side by side with the legend below; arguments as `overlay`."""
        scale = scale or common_scale(list(self.cam))
        photo, overlay = thumbnail(self.photo, SHOWN_PIXELS), self.overlay(label, scale)
        bar = legend(scale, overlay.width)
        picture = Image.new("RGB", (2 * photo.width + 8, photo.height + bar.height + 8), "white")
        picture.paste(photo, (0, 0))
        picture.paste(overlay, (photo.width + 8, 0))
        picture.paste(bar, (photo.width + 8, photo.height + 8))
        return picture

    def _repr_png_(self) -> bytes:
        """Return `picture()` as a notebook shows it."""
        stream = io.BytesIO()
        self.picture().save(stream, "PNG")
        return stream.getvalue()


def explain(place: Place, photo: Path | str, progress: Progress = silent) -> Explanation:
    """Return the maps behind the prediction for one photo.

    Args:
        place: a run, its folder, a model file, a project, or what `load_model` returned.
        photo: an image file.
        progress: told if the backbone has to be exported first.

    Raises:
        ModelError: there is no model, or it is damaged.
        UnreadablePhoto: the file is not a picture that can be decoded.
    """
    predictor = load_model(place, progress)
    path = Path(photo)
    try:
        pixels = read_prepared(path, predictor.model.preprocessing)
    except UnreadablePhoto as error:
        raise UnreadablePhoto(f"{path} {error}: give another file.") from None
    features, maps = predictor.engine.run(pixels[None])
    return explain_maps(predictor.model, path, maps[0], predictor.logits(features)[0])


def explain_files(
    place: Place,
    photos: Iterable[Path | str],
    output: Path,
    label: str | None = None,
    channels: int = 0,
    progress: Progress = silent,
) -> Iterator[tuple[Path, Path, Explanation | UnreadablePhoto]]:
    """Explain files and write a picture of each into a folder.

    Args:
        place: what `explain` takes.
        photos: image files; a folder stands for all visible files below it.
        output: the folder, made if it is not there.
        label: the class whose map is painted; the predicted one by default.
        channels: how many of the strongest channels a second picture shows; 0 for no such picture.
        progress: told after every photo.

    Yields:
        The file, its picture, and the explanation or why there is none.

    Raises:
        ModelError: there is no model, or it is damaged.
        PhotoError: a path does not exist, or the model does not know the class.
        FolderError: `output` cannot be written.
        WrongUse: `channels` is below 0.
    """
    if channels < 0:
        raise WrongUse(f"channels is {channels}; expected 1 or more, or 0 for no picture of them.")
    predictor = load_model(place, progress)
    files = list_files(photos)
    taken: set[str] = set()
    for done, file in enumerate(files, 1):
        name = next(name for name in _numbered(file.stem) if name.casefold() not in taken)
        taken.add(name.casefold())
        picture = output / f"{name}-why.png"  # never the name of a photo
        try:
            answer = explain(predictor, file)
            _save(answer.picture(label), picture)
            if channels:
                _save(answer.channels(label).picture(channels), output / f"{name}-channels.png")
        except UnreadablePhoto as error:
            yield file, picture, error
        else:
            yield file, picture, answer
        progress("explaining", done, len(files))


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, "PNG")


def _numbered(stem: str) -> Iterator[str]:
    """Yield names for a picture: photos of the same name in two folders must not overwrite each other."""
    yield stem
    for number in itertools.count(2):
        yield f"{stem}-{number}"


def explain_maps(
    model: ModelFile, photo: Path, maps: NDArray[np.floating], logits: NDArray[np.float32], truth: str = ""
) -> Explanation:
    """Return the explanation of a photo whose feature maps `(C, h, w)` and logits `(K,)` are known."""
    cam = activation_maps(maps, model.weight)
    return Explanation(photo, logits, cam, residual(cam, model.bias, logits), maps, model, truth)


def shared_scale(explanations: Sequence[Explanation]) -> float:
    """Return one scale for what is shown of several photos, in logit units.

    That is the map of the class each was given, and of a mistake that of its true class and their difference too.
    """
    shown: list[NDArray[np.float32]] = []
    for each in explanations:
        predicted, truth = each.map_of(each.predicted), each.map_of(each.truth or each.predicted)
        shown += [predicted, truth, predicted - truth] if each.truth != each.predicted else [predicted]
    return common_scale(shown)
