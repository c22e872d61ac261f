"""The channels behind a map: what each adds to a logit, and how their sum becomes the map.

    logit_k = b_k + sum_c W_kc * mean_ij F_cij

so channel c adds `W_kc * mean(F_c)` to the logit of class k. How many it takes is seen from the sum after 1, 10,
100 and all channels, the largest contributions first.

`C` channels, `h`, `w` cells of a feature map.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stockpot.errors import WrongUse
from stockpot.model.overlay import Cam, common_scale, paint
from stockpot.photos.pixels import thumbnail
from stockpot.photos.preprocessing import Preprocessing

STEPS = (1, 10, 100)  # channels after which the running sum is looked at, before all of them
_TILE, _GAP, _TEXT = 112, 8, 34  # pixels
_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Channels:
    """The feature maps of one photo, and the weights with which one class sums them up."""

    label: str  # the class
    maps: NDArray[np.floating]  # (C, h, w), before GAP
    weight: NDArray[np.float32]  # (C,), the head's row of the class
    bias: float
    photo: Path
    preprocessing: Preprocessing

    @cached_property
    def contributions(self) -> NDArray[np.float32]:
        """What each channel adds to the logit: `(C,)`; with the bias they sum to it."""
        means = self.maps.mean(axis=(1, 2), dtype=np.float32)
        return np.asarray(self.weight * means)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """All channels, those that contribute most, for the class or against it, first: `(C,)`."""
        return np.argsort(-np.abs(self.contributions), kind="stable")

    @property
    def logit(self) -> float:
        """What the class gets."""
        return self.bias + float(self.contributions.sum(dtype=np.float64))

    @property
    def counts(self) -> tuple[int, ...]:
        """After how many channels the running sum is looked at; the last is all of them."""
        return *(count for count in STEPS if count < len(self.weight)), len(self.weight)

    def strongest(self, count: int) -> list[int]:
        """Return the numbers of the `count` channels that contribute most, in either direction; C at most.

        Raises:
            WrongUse: `count` is below 1.
        """
        if count < 1:
            raise WrongUse(f"channels is {count}; expected 1 or more.")
        return [int(c) for c in self.order[:count]]

    def arbitrary(self, count: int, but: int = 0, seed: int = 0) -> list[int]:
        """Return the numbers of channels drawn by chance, for comparison: the strongest are no fair sample.

        Args:
            count: how many; fewer where there are no more.
            but: so many of the strongest are not among them.
            seed: of the draw.
        """
        return sorted(int(c) for c in np.random.default_rng(seed).permutation(self.order[but:])[:count])

    def running_map(self, count: int) -> Cam:
        """Return what the first `count` channels of `order` add up to: `(h, w)`, 0 for none, the map for all C."""
        first = self.order[:count]
        return np.asarray(np.tensordot(self.weight[first], self.maps[first].astype(np.float32), axes=1))

    def running_logit(self, count: int) -> float:
        """Return the bias and what the first `count` channels of `order` add to it."""
        return self.bias + float(self.contributions[self.order[:count]].sum(dtype=np.float64))

    def to_json(self, count: int) -> list[dict[str, Any]]:
        """Return the `count` strongest channels as JSON holds them."""
        return [
            {
                "channel": c,
                "weight": float(self.weight[c]),
                "mean": float(self.maps[c].mean(dtype=np.float32)),
                "contribution": float(self.contributions[c]),
            }
            for c in self.strongest(count)
        ]

    def tiles(self, channels: list[int], pixels: int = _TILE) -> list[Image.Image]:
        """Return the activations of channels as gray squares, cell by cell.

        One scale: white is the highest activation of all that are shown, black is zero or below.

        Args:
            channels: their numbers, one at least.
            pixels: on each side.
        """
        shown = np.maximum(self.maps[channels].astype(np.float32), 0)
        gray = (255 * shown / (float(shown.max()) or 1.0)).round().astype(np.uint8)
        return [Image.fromarray(one).resize((pixels, pixels), Image.Resampling.NEAREST) for one in gray]

    def running_overlays(self, scale: float | None = None, longest: int = 2 * _TILE) -> list[Image.Image]:
        """Return the running sum painted on the photo after each of `counts` channels, on one scale.

        Args:
            scale: value where the color is strongest, in logit units; by default what almost all cells of the
                whole sum stay within.
            longest: pixels that the long side of a picture has at most.

        Raises:
            UnreadablePhoto: the photo is gone.
        """
        photo = thumbnail(self.photo, longest)
        box = self.preprocessing.box(photo.width, photo.height)
        end = scale or common_scale([self.running_map(len(self.weight))])
        return [paint(photo, self.running_map(count), end, box) for count in self.counts]

    def picture(self, count: int = 16) -> Image.Image:
        """Return the strongest channels, arbitrary ones, and the running sum on the photo, all with captions.

        Args:
            count: how many of the strongest.

        Raises:
            WrongUse: `count` is below 1.
            UnreadablePhoto: the photo is gone.
        """
        strongest, arbitrary = self.strongest(count), self.arbitrary(_COLUMNS, but=count)
        squares = list(zip(self.tiles(strongest + arbitrary), strongest + arbitrary, strict=True))
        captioned = [(square, self._caption(c)) for square, c in squares]
        steps = [
            (overlay, f"{done:,} of {len(self.weight):,}\nlogit {self.running_logit(done):+.2f}")
            for overlay, done in zip(self.running_overlays(), self.counts, strict=True)
        ]
        parts = [
            (f"{self.label}: the channels that contribute most", captioned[: len(strongest)]),
            ("arbitrary others", captioned[len(strongest) :]),
            (f"their sum, the largest contributions first; the logit is {self.logit:+.2f}", steps),
        ]
        return _stacked([part for part in parts if part[1]])

    def _caption(self, channel: int) -> str:
        return f"channel {channel}\nadds {self.contributions[channel]:+.3f}"


def _stacked(parts: list[tuple[str, list[tuple[Image.Image, str]]]]) -> Image.Image:
    """Return titled rows of captioned pictures below each other."""
    rows = [_rows(title, pictures) for title, pictures in parts]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _rows(title: str, pictures: list[tuple[Image.Image, str]]) -> Image.Image:
    font = ImageFont.load_default(size=13)
    width, height = (max(picture.size[side] for picture, _ in pictures) for side in (0, 1))
    columns = max(1, _COLUMNS * (_TILE + _GAP) // (width + _GAP))
    lines = -(-len(pictures) // columns)
    sheet = Image.new(
        "RGB", (_COLUMNS * (_TILE + _GAP) + _GAP, _TEXT + lines * (height + _TEXT + _GAP)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, fill="black", font=ImageFont.load_default(size=15))
    for number, (picture, caption) in enumerate(pictures):
        line, column = divmod(number, columns)
        x, y = _GAP + column * (width + _GAP), _TEXT + line * (height + _TEXT + _GAP)
        sheet.paste(picture.convert("RGB"), (x, y))
        draw.text((x, y + picture.height + 2), caption, fill="black", font=font, spacing=2)
    return sheet
