"""A class activation map painted on its photo: one diverging scale, zero in the middle, a legend.

Orange speaks for the class, purple against it (the two ends that people with any color vision tell apart), and
where there is no evidence the gray photo stays as it is.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stockpot.photos.preprocessing import Box

FOR = np.array((230, 97, 1))  # RGB
AGAINST = np.array((94, 60, 153))
_STRONGEST = 0.85  # opacity where the evidence reaches the end of the scale
_RISE = 0.7  # exponent of the opacity: below 1, so that weak evidence can be seen

Cam = NDArray[np.float32]


def common_scale(cams: Sequence[Cam]) -> float:
    """Return one end of the scale for several maps: what 98 % of their cells stay within."""
    values = np.concatenate([np.abs(cam).ravel() for cam in cams])
    return float(np.quantile(values, 0.98)) or 1.0


def paint(photo: Image.Image, cam: Cam, scale: float, box: Box | None = None) -> Image.Image:
    """Return the photo in gray with the map in color on it.

    Args:
        photo: RGB, any size.
        cam: `(h, w)`, signed, in logit units.
        scale: the value where the color is strongest, in the same units; positive.
        box: the part of the photo that the map covers, in pixels of this photo (all of it by default).

    Returns:
        An RGB image of the photo's size.
    """
    value = np.clip(_on_photo(cam, photo.size, box) / scale, -1, 1)[..., None]  # (H, W, 1)
    gray = 40 + 0.8 * np.asarray(photo.convert("L"), dtype=np.float32)[..., None]  # neither black nor white
    color = np.where(value > 0, FOR, AGAINST).astype(np.float32)  # (H, W, 3)
    opacity = np.abs(value) ** _RISE * _STRONGEST
    return Image.fromarray((gray * (1 - opacity) + color * opacity).round().astype(np.uint8))


def _on_photo(cam: Cam, size: tuple[int, int], box: Box | None) -> Cam:
    """Return the map enlarged over `box` of a photo of `size`: `(H, W)`; 0 where it does not reach."""
    left, top, right, bottom = (round(edge) for edge in box or (0, 0, *size))
    enlarged = Image.fromarray(cam.astype(np.float32)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR
    )
    canvas = Image.new("F", size, 0.0)
    canvas.paste(enlarged, (left, top))
    return np.asarray(canvas)


def color_bar(scale: float, width: int = 320, height: int = 16) -> Image.Image:
    """Return the colors from `-scale` to `scale`, over gray."""
    ramp = np.tile(np.linspace(-scale, scale, width, dtype=np.float32), (height, 1))
    return paint(Image.new("RGB", (width, height), (128, 128, 128)), ramp, scale)


def legend(scale: float, width: int = 320) -> Image.Image:
    """Return the scale as a picture: purple to orange over gray, with its ends and zero in logit units."""
    bar, text = color_bar(scale, width), 18
    picture = Image.new("RGB", (width, bar.height + text), "white")
    picture.paste(bar)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=13)
    for x, value, anchor in ((2, -scale, "lt"), (width / 2, 0.0, "mt"), (width - 2, scale, "rt")):
        label = "0" if value == 0 else f"{value:+.1f} and {'above' if value > 0 else 'below'}"
        draw.text((x, bar.height + 3), label, fill="black", font=font, anchor=anchor)
    return picture
