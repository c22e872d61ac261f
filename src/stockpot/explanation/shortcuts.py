"""Whether a model goes by a mark at the border of photos, or by their frame, rather than by what they show.

Models that go by a photographer's name below the photos of one class are as good on validation photos, which have
it too: Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really learn", Nature
Communications 10, 2019. Maps show where the evidence lies: sides and corners of photos of a class, and its border
and flat cells, are compared with what area, mirrored places and other classes make expect; and the cells of the
place must tell the class by themselves. Beside that, the model is shown parts of photos.

What was planted to choose the limits, and what is found and missed, is in docs/experiments.md: a mark that a model
hardly uses, or one amid the subject, is not found, and photos without any mark may raise a question too.

`N` photos, `n` of them of a class, `K` classes, `P` places, `h`, `w` cells of a feature map, `S` input size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from stockpot import project as disk
from stockpot.errors import ProjectError
from stockpot.learning.features import cached_features
from stockpot.learning.models import model_engine
from stockpot.learning.runs import Run, short_hash
from stockpot.model.activation_maps import activation_maps
from stockpot.model.model_file import ModelFile, read_model
from stockpot.model.prediction import Predictor
from stockpot.photos.photo import Photo
from stockpot.photos.preprocessing import Pixels, stream_photos
from stockpot.photos.splits import Split
from stockpot.progress import Progress, silent

MAPPED = 600  # photos whose maps are looked at
TAKEN_APART = 60  # photos of which parts are shown to the model, four of each
FEWEST = 5  # photos of a class below which nothing is conspicuous
TIMES = 2.0  # the expected odds, at least, that the odds of evidence to lie in a place are, surely
TELLS = 0.5  # by which a place alone gives the class more often to its own photos than to others, at least
LEVEL = 0.01  # of the test of that
MARGIN = 0.1  # of accuracy above chance
FLAT = 6.0  # standard deviation of luminance within a cell, of 255, below which it has hardly any detail
_RING, _CORNER = 1 / 8, 1 / 4  # of the side of a map
_RESAMPLED = 1_000
_VERSION = 1

_Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """How much of the evidence for a class lies in one place, and what the cells there say by themselves."""

    label: str
    place: str  # border, flat, a side (top, bottom, left or right) or a corner (top left, ...)
    evidence: float  # share of the positive part of the class's map over its photos, 0 to 1
    interval: tuple[float, float]  # 95 %, bootstrap over photos
    area: float  # share of the area that the place has
    expected: (
        float  # share that would be no surprise: of border and flat cells their area, else see `_expected`
    )
    n: int  # photos of the class
    alone: int  # of them, that are given the class by the cells of the place alone
    right: int  # of them, that are given it by all cells
    right_without: int  # by all cells but those of the place
    others: int  # photos of other classes
    others_alone: int  # of them, that are given the class by the cells of the place alone

    @property
    def times(self) -> float:
        """How many times the odds of evidence to lie there are those of the expected share."""
        if self.evidence == self.expected:
            return 1.0
        return odds(self.evidence) / odds(self.expected) if self.expected else float("inf")

    @property
    def tells(self) -> bool:
        """Tell whether the place alone tells photos of the class from others, beyond doubt and to some extent."""
        from scipy.stats import fisher_exact

        table = [[self.alone, self.n - self.alone], [self.others_alone, self.others - self.others_alone]]
        ahead = self.alone / self.n - self.others_alone / self.others
        return ahead > TELLS and bool(fisher_exact(table, alternative="greater").pvalue < LEVEL)

    @property
    def conspicuous(self) -> bool:
        """Tell whether far more evidence lies there than expected, and the place tells the class."""
        much = odds(self.interval[0]) > TIMES * odds(self.expected)
        return much and self.n >= FEWEST and self.tells


def odds(share: float) -> float:
    """Return how many times as much lies inside as outside."""
    return share / (1 - share) if share < 1 else float("inf")


@dataclass(frozen=True)
class Kept:
    """How many photos are classified rightly where only a part of each is left; the rest has its mean color."""

    part: str  # all; evidence: the fourth that speaks most for the predicted class; rest; border; interior
    area: float  # share of the photo that is left
    right: int
    n: int  # photos, evenly of all classes

    @property
    def accuracy(self) -> float:
        """Share that is classified rightly."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Wilson."""
        from scipy.stats import binomtest

        low, high = binomtest(self.right, self.n).proportion_ci(method="wilson")
        return float(low), float(high)


@dataclass(frozen=True)
class Shortcuts:
    """Where the evidence of a run lies, and what its model does with parts of photos."""

    shares: tuple[Share, ...]  # class by class, within a class place by place
    kept: tuple[Kept, ...]  # all, evidence, rest, and where a map is more than its border: border, interior
    chance: float  # accuracy of naming the most frequent class among those photos

    @property
    def suspects(self) -> tuple[Share, ...]:
        """The most conspicuous place of every class that has one, the most conspicuous first: places overlap."""
        conspicuous = sorted((one for one in self.shares if one.conspicuous), key=lambda one: one.times)
        most = {one.label: one for one in conspicuous}
        return tuple(sorted(most.values(), key=lambda one: -one.times))

    @property
    def border_suffices(self) -> bool:
        """Tell whether the border alone is classified far above chance, and better than all that it frames."""
        by_part = {one.part: one for one in self.kept}
        if "border" not in by_part:
            return False
        low = by_part["border"].interval[0]
        return low > self.chance + MARGIN and low > by_part["interior"].accuracy

    @property
    def found(self) -> bool:
        """Tell whether there is a reason for a warning: a suspect, or a border that suffices."""
        return bool(self.suspects) or self.border_suffices

    def __str__(self) -> str:
        """Return it in words."""
        parts = ", ".join(f"{one.part} {one.accuracy:.0%}" for one in self.kept)
        reasons = [
            f"{one.evidence:.0%} of what speaks for {one.label!r} lies at {one.place}, {one.area:.0%} of the area; "
            f"by itself it gives the class to {one.alone} of {one.n} photos of it and {one.others_alone} of "
            f"{one.others} others; all other cells give it to {one.right_without}, all cells to {one.right}"
            for one in self.suspects
        ]
        reasons += ["the border alone is classified better than what it frames"] * self.border_suffices
        verdict = f"a shortcut? {'; '.join(reasons)}" if reasons else "no shortcut seen in the maps"
        return f"{verdict} (accuracy by what is left of {self.kept[0].n} photos: {parts})"


def look_for_shortcuts(
    project: disk.Project, run: Run, split: Split, progress: Progress = silent
) -> Shortcuts | None:
    """Return where the evidence of a run lies; None where a map is a single cell, which tells nothing.

    Args:
        project: whose cache keeps the answer.
        run: of this very split.
        split: of the photos as they are now.
        progress: told after every photo.

    Raises:
        ProjectError: the run was made on another split than `split`.
        ModelError: the model is damaged.
        UnreadablePhoto: a photo that could be read before cannot be read now.
        Busy, FolderError: the cache cannot be written.
    """
    if run.split_fingerprint != split.fingerprint:
        raise ProjectError(
            f"The photos have changed since run {run.name!r} was made: stockpot study {project.folder}"
        )
    if run.maps[1:] == (1, 1):
        return None
    file = project.shortcuts / f"{split.fingerprint}-{short_hash(run.model_path)}.json"
    known = _read(file)
    if known is None:
        known = _look(project, read_model(run.model_path), split, progress)
        with project.writing():
            disk.write_json(file, {"version": _VERSION} | asdict(known))
    return known


class _KeptAnswer(TypedDict):
    """What the cache holds of a run."""

    version: int
    shares: list[Share]
    kept: list[Kept]
    chance: float


def _read(file: Path) -> Shortcuts | None:
    """Return what was found before; None where that is not known."""
    try:
        row = disk.read_shaped(file, _KeptAnswer)
        return _from_json(row) if row and row["version"] == _VERSION else None
    except (ProjectError, TypeError):  # damaged: looking again is cheap
        return None


def _from_json(row: dict[str, Any]) -> Shortcuts:
    def share(fields: dict[str, Any]) -> Share:
        return Share(**fields | {"interval": tuple(fields["interval"])})

    return Shortcuts(
        shares=tuple(map(share, row["shares"])),
        kept=tuple(Kept(**fields) for fields in row["kept"]),
        chance=row["chance"],
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """Photos of all classes, as a model sees them."""

    photos: Sequence[Photo]  # N
    truth: NDArray[np.int64]  # (N,)
    cams: NDArray[np.float32]  # (N, K, h, w)
    bias: NDArray[np.float32]  # (K,)
    flat: _Masks  # (N, h, w)

    @property
    def given(self) -> NDArray[np.int64]:
        """The classes that photos are given: `(N,)`."""
        return self.given_by(np.ones_like(self.flat))

    def given_by(self, cells: _Masks) -> NDArray[np.int64]:
        """Return the classes that cells `(N, h, w)` alone give: `(N,)`, -1 where there is none."""
        count = cells.sum(axis=(1, 2))
        sums = np.einsum("nkhw,nhw->nk", self.cams, cells)
        logits = sums / np.maximum(count, 1)[:, None] + self.bias
        return np.where(count > 0, logits.argmax(axis=1), -1)


@dataclass(frozen=True, eq=False)
class _Part:
    """One place in all photos, and the classes that the cells inside give, and those outside."""

    place: str
    cells: _Masks  # (N, h, w)
    inside: NDArray[np.int64]  # (N,)
    outside: NDArray[np.int64]  # (N,)


def _look(project: disk.Project, model: ModelFile, split: Split, progress: Progress) -> Shortcuts:
    predictor = Predictor(model, model_engine(model, progress))
    seen = _see(project, predictor, evenly(split.validation, MAPPED), progress)
    first = np.bincount(seen.truth[:TAKEN_APART])
    return Shortcuts(
        shares=_share_out(seen, model.class_names),
        kept=_take_apart(predictor, seen, progress),
        chance=float(first.max() / first.sum()),
    )


def evenly(photos: Iterable[Photo], count: int) -> tuple[Photo, ...]:
    """Return up to `count` photos, of all classes in turn, those of a class by sha256: as good as chance."""
    by_class: dict[str, list[Photo]] = {}
    for photo in sorted(photos, key=lambda photo: (photo.label, photo.sha256)):
        by_class.setdefault(photo.label, []).append(photo)
    turns = zip_longest(*by_class.values())
    return tuple(photo for turn in turns for photo in turn if photo is not None)[:count]


def _see(project: disk.Project, predictor: Predictor, photos: Sequence[Photo], progress: Progress) -> _Seen:
    model = predictor.model
    features = cached_features(
        project, photos, model.key, model.preprocessing, lambda: predictor.engine, progress
    )
    cams = np.stack([activation_maps(features.maps(i), model.weight) for i in range(len(photos))])
    prepared = stream_photos(photos, model.preprocessing)
    return _Seen(
        photos=photos,
        truth=np.array([model.class_names.index(photo.label) for photo in photos]),
        cams=cams,
        bias=model.bias,
        flat=np.stack([measure_detail(pixels, *cams.shape[2:]) < FLAT for pixels in prepared]),
    )


def measure_detail(pixels: Pixels, height: int, width: int) -> NDArray[np.float64]:
    """Return the standard deviation of luminance within every cell, of 255: `(h, w)`.

    Args:
        pixels: `(S, S, 3)`.
        height: h cells.
        width: w cells.
    """
    luminance = pixels @ np.array([0.299, 0.587, 0.114])
    rows = np.array_split(luminance, height)
    return np.array([[cell.std() for cell in np.array_split(row, width, axis=1)] for row in rows])


def _places(height: int, width: int) -> dict[str, _Masks]:
    """Return the places that are the same in every photo, each `(h, w)`; none that is all of the map."""
    corner = max(1, round(min(height, width) * _CORNER))
    ring = max(1, round(min(height, width) * _RING))
    y, x = np.arange(height)[:, None], np.arange(width)

    def sides(depth: int) -> dict[str, _Masks]:
        vertical = {"top": y < depth, "bottom": y >= height - depth}
        return vertical | {"left": x < depth, "right": x >= width - depth}

    everything = np.ones((height, width), bool)
    places = {name: everything & side for name, side in sides(ring).items()}
    places |= {"border": np.logical_or.reduce(list(places.values()))}
    wide = sides(corner)
    places |= {f"{v} {h}": wide[v] & wide[h] for v in ("top", "bottom") for h in ("left", "right")}
    return {name: mask for name, mask in places.items() if not mask.all()}


def _share_out(seen: _Seen, class_names: Sequence[str]) -> tuple[Share, ...]:
    """Return the shares of every class in every place."""
    places = _places(*seen.flat.shape[1:])
    cells = {place: np.broadcast_to(mask, seen.flat.shape) for place, mask in places.items()}
    cells["flat"] = seen.flat
    parts = [_Part(place, mask, seen.given_by(mask), seen.given_by(~mask)) for place, mask in cells.items()]
    shares = [one for k, label in enumerate(class_names) for one in _shares(seen, k, label, parts)]
    evidence: dict[str, dict[str, float]] = {part.place: {} for part in parts}
    for one in shares:
        evidence[one.place][one.label] = one.evidence
    return tuple(replace(one, expected=_expected(one, evidence)) for one in shares)


def _shares(seen: _Seen, k: int, label: str, parts: Sequence[_Part]) -> list[Share]:
    """Return the shares of a class, by area expected; none where nothing speaks for it."""
    own = seen.truth == k
    evidence = np.maximum(seen.cams[own, k], 0).astype(np.float64)  # (n, h, w)
    if not evidence.any():
        return []
    amounts = np.stack([(evidence * part.cells[own]).sum(axis=(1, 2)) for part in parts], axis=1)
    portions = _portions(amounts, evidence.sum(axis=(1, 2))).T.tolist()
    right = int((seen.given == k)[own].sum())
    found = []
    for part, (low, share, high) in zip(parts, portions, strict=True):
        area = float(part.cells[own].mean())
        found.append(
            Share(
                label=label,
                place=part.place,
                evidence=share,
                interval=(low, high),
                area=area,
                expected=area,
                n=int(own.sum()),
                alone=int((part.inside == k)[own].sum()),
                right=right,
                right_without=int((part.outside == k)[own].sum()),
                others=int((~own).sum()),
                others_alone=int((part.inside == k)[~own].sum()),
            )
        )
    return found


_CORNERS = frozenset({"top left", "top right", "bottom left", "bottom right"})
_MIRRORED = (frozenset({"top", "bottom"}), frozenset({"left", "right"}), _CORNERS)


def _expected(one: Share, evidence: Mapping[str, Mapping[str, float]]) -> float:
    """Return the share of evidence that would be no surprise.

    That is the area's; but of a side or corner it is what the class has in a mirrored one where that is more, for
    most photos could as well be mirrored; and of a corner not more than another class has there, or a fourth of
    the area, for some networks see little in corners.

    Args:
        one: the share.
        evidence: shares by place and class.
    """
    mirrored = next((group - {one.place} for group in _MIRRORED if one.place in group), frozenset())
    usual = one.area
    if one.place in _CORNERS:
        others = [share for label, share in evidence[one.place].items() if label != one.label]
        usual = min(one.area, max([one.area / 4, *others]))
    return max([usual, *(evidence[place][one.label] for place in mirrored if place in evidence)])


def _portions(amounts: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lower limit, value and upper limit of sums of `(n, P)` by the sum of `(n,)`: `(3, P)`, bootstrap."""
    n = len(totals)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLED)  # times a photo is drawn
    sums = draws @ totals
    portions = (draws @ amounts)[sums > 0] / sums[sums > 0, None]
    low, high = np.quantile(portions, [0.025, 0.975], axis=0)
    return np.stack([low, amounts.sum(axis=0) / totals.sum(), high])


def _take_apart(predictor: Predictor, seen: _Seen, progress: Progress) -> tuple[Kept, ...]:
    """Return how photos are classified of which parts are left."""
    photos = seen.photos[:TAKEN_APART]
    border, given, right = _places(*seen.flat.shape[1:]).get("border"), seen.given, []
    for i, pixels in enumerate(stream_photos(photos, predictor.model.preprocessing)):
        most = _most(seen.cams[i, given[i]])
        parts = {"evidence": most, "rest": ~most}
        if border is not None:
            parts |= {"border": border, "interior": ~border}
        right.append(_classify(predictor, pixels, np.stack(list(parts.values()))) == seen.truth[i])
        progress("taking photos apart", i + 1, len(photos))
    whole = int((given == seen.truth)[: len(photos)].sum())
    counts = np.sum(right, axis=0).tolist()
    return (
        Kept("all", 1.0, whole, len(photos)),
        *(
            Kept(part, float(parts[part].mean()), count, len(photos))
            for part, count in zip(parts, counts, strict=True)
        ),
    )


def _most(cam: NDArray[np.float32]) -> _Masks:
    """Return the fourth of the cells that speaks most for a class: `(h, w)`, one cell at least."""
    ranks = np.argsort(np.argsort(-cam.ravel(), kind="stable"), kind="stable").reshape(cam.shape)
    return np.asarray(ranks < max(1, round(cam.size / 4)))


def _classify(predictor: Predictor, pixels: Pixels, masks: _Masks) -> NDArray[np.int64]:
    """Return the class of a photo `(S, S, 3)` for every mask `(M, h, w)` of what is left of it: `(M,)`."""
    size = len(pixels)
    row, column = (np.arange(size) * count // size for count in masks.shape[1:])
    left = masks[:, row][:, :, column][..., None]
    shown = np.where(left, pixels, pixels.mean(axis=(0, 1)).round().astype(np.uint8))
    return np.asarray(predictor.logits(predictor.engine.run(shown)[0]).argmax(axis=1))
