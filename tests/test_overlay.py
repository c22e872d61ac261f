import numpy as np
import pytest
from PIL import Image

from stockpot.model.overlay import AGAINST, FOR, common_scale, legend, paint


def nearness(picture: Image.Image, color: np.ndarray) -> np.ndarray:
    """How near each pixel is to a color; higher is nearer."""
    return -np.abs(np.asarray(picture).astype(float) - color).sum(axis=2)


@pytest.fixture
def photo() -> Image.Image:
    return Image.new("RGB", (160, 80), (120, 130, 110))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 7), (1, 4)])
def test_the_strongest_evidence_gets_the_strongest_color_at_its_place(photo, row, column):
    """Planted evidence for the class is orange where it was planted, against it purple."""
    for value, color in ((5.0, FOR), (-5.0, AGAINST)):
        cam = np.zeros((4, 8), np.float32)
        cam[row, column] = value
        y, x = np.unravel_index(nearness(paint(photo, cam, 5.0), color).argmax(), (80, 160))
        assert (y // 20, x // 20) == (row, column)


def test_no_evidence_leaves_gray(photo):
    """Where the map is zero there is no color."""
    pixels = np.asarray(paint(photo, np.zeros((4, 8), np.float32), 1.0)).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0


def test_a_constant_map_is_one_even_color(photo):
    """No division by a range that is zero."""
    pixels = np.asarray(paint(photo, np.full((4, 8), 2.0, np.float32), 4.0))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
    assert common_scale([np.zeros((4, 8), np.float32)]) > 0


def test_colors_compare_across_photos(photo):
    """The same value has the same color whatever else is in the map."""
    weak, strong = np.full((4, 8), 1.0, np.float32), np.full((4, 8), 1.0, np.float32)
    strong[0, 0] = 100
    assert paint(photo, weak, 4.0).getpixel((150, 70)) == paint(photo, strong, 4.0).getpixel((150, 70))


def test_a_map_covers_only_its_box(photo):
    """With a box the rest of the photo stays gray."""
    pixels = np.asarray(paint(photo, np.full((4, 4), 3.0, np.float32), 3.0, box=(40, 0, 120, 80))).astype(int)
    color = np.ptp(pixels, axis=2)
    assert color[:, :40].max() == color[:, 120:].max() == 0
    assert color[:, 40:120].min() > 50


def test_the_legend_runs_from_against_to_for():
    """Purple on the left, gray in the middle, orange on the right."""
    bar = legend(3.0)
    left, middle, right = (np.array(bar.getpixel((x, 5))).astype(int) for x in (1, 160, 318))
    assert left[2] > left[1] and right[0] > right[2] and np.ptp(middle) < 12
