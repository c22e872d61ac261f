from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stockpot.errors import UnreadablePhoto
from stockpot.photos.photo import Photo, fingerprint
from stockpot.photos.preprocessing import (
    Preprocessing,
    prepare,
    read_prepared,
    stream_photos,
    stream_prepared,
)

GRAY = (127.5, 127.5, 127.5)


def with_spot(width: int, height: int, x: int, y: int) -> Image.Image:
    """A black photo with a white square of 8 pixels around (x, y)."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y - 4 : y + 4, x - 4 : x + 4] = 255
    return Image.fromarray(picture)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize(("width", "height"), [(200, 120), (120, 200), (150, 150)])
def test_the_box_is_where_the_network_looks(resize, width, height):
    """A spot in the photo lies in the square where `box` says."""
    preprocessing = Preprocessing(64, GRAY, GRAY, resize=resize, interpolation="bilinear")
    x, y = 70, 50
    pixels = prepare(with_spot(width, height, x, y), preprocessing)[..., 0].astype(float)
    pixels[pixels < 200] = 0  # pad's gray border
    found_y, found_x = (np.average(np.arange(64) + 0.5, weights=pixels.sum(axis=axis)) for axis in (1, 0))
    left, top, right, bottom = preprocessing.box(width, height)
    assert found_x == pytest.approx((x - left) / (right - left) * 64, abs=1)
    assert found_y == pytest.approx((y - top) / (bottom - top) * 64, abs=1)


def test_squash_keeps_the_whole_photo():
    """The default shows the network everything."""
    assert Preprocessing(64, GRAY, GRAY).box(300, 100) == (0, 0, 300, 100)


def test_fingerprint_follows_every_field():
    """Nothing that changes a pixel leaves the fingerprint as it is."""
    variants = [
        Preprocessing(64, GRAY, GRAY),
        Preprocessing(65, GRAY, GRAY),
        Preprocessing(64, (0, 0, 0), GRAY),
        Preprocessing(64, GRAY, (1, 1, 1)),
        Preprocessing(64, GRAY, GRAY, resize="pad"),
        Preprocessing(64, GRAY, GRAY, interpolation="bilinear"),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)


def test_a_stream_keeps_order_and_names_bad_files(tmp_path, make_photo):
    """One bad file becomes its error, and all others come in order."""
    paths = [make_photo(tmp_path / f"{i}.png", seed=i) for i in range(60)]
    paths.insert(7, tmp_path / "empty.png")
    paths[7].touch()
    paths.append(Path(tmp_path / "gone.png"))
    answers = list(stream_prepared(paths, Preprocessing(16, GRAY, GRAY), ahead=5))
    assert [path for path, _ in answers] == paths
    bad = [path.name for path, answer in answers if isinstance(answer, UnreadablePhoto)]
    assert bad == ["empty.png", "gone.png"]


def test_a_photo_that_has_other_bytes_by_now_is_refused(tmp_path, make_photo):
    """What is computed from it would be remembered under the sha256 of bytes that are gone."""
    paths = [make_photo(tmp_path / "class" / f"{i}.png", seed=i) for i in range(3)]
    photos = [Photo(path, "class", fingerprint(path.read_bytes()), 1, 1) for path in paths]
    preprocessing = Preprocessing(16, GRAY, GRAY)
    for path, pixels in zip(paths, stream_photos(photos, preprocessing), strict=True):
        assert np.array_equal(pixels, read_prepared(path, preprocessing))
    make_photo(paths[1], seed=7)
    with pytest.raises(UnreadablePhoto, match="1.png has other bytes now: .* run the command again"):
        list(stream_photos(photos, preprocessing))
    paths[1].unlink()
    with pytest.raises(UnreadablePhoto, match="1.png cannot be opened"):
        list(stream_photos(photos, preprocessing))
