import io

import numpy as np
import pytest
from PIL import Image

from stockpot.errors import UnreadablePhoto
from stockpot.photos import pixels as pixels_module
from stockpot.photos.pixels import MAX_PIXELS, decode


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


@pytest.fixture
def quadrants() -> Image.Image:
    """Red, green over blue, white: every orientation looks different."""
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, :15], picture[:10, 15:] = (255, 0, 0), (0, 255, 0)
    picture[10:, :15], picture[10:, 15:] = (0, 0, 255), (255, 255, 255)
    return Image.fromarray(picture)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation_is_applied(quadrants, orientation, undo):
    """A photo taken with a turned camera comes out upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(quadrants.transpose(undo), "PNG", exif=exif)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(quadrants))


@pytest.mark.parametrize("orientation", [0, 9, 56624])
def test_nonsense_orientation_is_ignored(quadrants, orientation):
    """An orientation that does not exist changes nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(quadrants, "PNG", exif=exif)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(quadrants))


def test_transparency_becomes_white(quadrants):
    """What can be seen through is white, not black, also in a palette."""
    clear = quadrants.convert("RGBA")
    clear.putalpha(0)
    assert np.asarray(decode(encoded(clear, "PNG"))).min() == 255
    palette = quadrants.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    pixels = np.asarray(decode(encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))))
    assert tuple(pixels[0, 0]) == (255, 255, 255)


def test_sixteen_bits_keep_their_brightness():
    """A 16-bit gray picture is scaled to 8 bits, not cut off."""
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    pixels = np.asarray(decode(encoded(Image.fromarray(ramp), "PNG")))[..., 0]
    assert np.abs(pixels.astype(int) - ramp / 257).max() <= 1


def test_other_color_spaces_become_rgb(quadrants):
    """CMYK and gray photos become RGB of about the same look."""
    cmyk = decode(encoded(quadrants.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(np.asarray(cmyk)[5, 5].astype(int) - (255, 0, 0)).max() < 40
    assert decode(encoded(quadrants.convert("L"), "PNG")).mode == "RGB"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_formats_are_known_by_their_bytes(quadrants, format_):
    """Every format is read whatever the file is called."""
    assert decode(encoded(quadrants, format_)).size == quadrants.size


def test_an_animation_is_its_first_frame(quadrants):
    """Of an animated GIF the first frame counts."""
    other = Image.new("RGB", quadrants.size, "black")
    data = encoded(quadrants, "GIF", save_all=True, append_images=[other])
    assert np.asarray(decode(data)).mean() > 50


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!doctype html><p>Not found", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    ],
)
def test_what_is_no_picture_is_refused(data, reason):
    """The reason is in words."""
    with pytest.raises(UnreadablePhoto, match=reason):
        decode(data)


def test_every_cut_of_a_photo_is_refused(quadrants):
    """A download that broke off is refused wherever it broke off."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    for length in range(1, len(data) - 64, 97):
        with pytest.raises(UnreadablePhoto):
            decode(data[:length])


def test_a_bomb_is_refused_before_it_is_decoded():
    """A small file with too many pixels costs no memory."""
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(UnreadablePhoto, match="pixels"):
        decode(encoded(Image.new("1", (side, side)), "PNG"))


def test_a_large_photo_may_be_decoded_smaller():
    """With `at_least` a JPEG keeps at least that many pixels on each side."""
    data = encoded(Image.new("RGB", (1600, 1200), "red"), "JPEG")
    small = decode(data, at_least=256)
    assert 256 <= min(small.size) < 1200
    assert decode(data).size == (1600, 1200)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_damaged_bytes_are_decoded_or_refused(quadrants, format_):
    """Whatever a decoder raises, it is a reason in words."""
    whole = encoded(quadrants, format_)
    random = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 4):
            data[place] = random.integers(0, 256)
        try:
            assert decode(bytes(data)).mode == "RGB"
        except UnreadablePhoto as error:
            assert str(error)


def test_pixels_of_unknown_range_are_refused():
    """A 32-bit picture would become black or white without a word."""
    with pytest.raises(UnreadablePhoto, match="32 bits"):
        decode(encoded(Image.new("F", (8, 8), 0.5), "TIFF"))


def heic(image: Image.Image) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encoded(image, "HEIF")


def test_heic_is_read_with_the_extra(quadrants):
    """A phone's own format, by its bytes, however the file is called."""
    pixels = np.asarray(decode(heic(quadrants.resize((120, 80), Image.Resampling.NEAREST))))
    assert np.abs(pixels[10, 10].astype(int) - (255, 0, 0)).max() < 40


def test_heic_without_the_extra_names_it(quadrants, monkeypatch):
    """The refusal says what to install; an AVIF, in the same container, needs nothing."""
    monkeypatch.setattr(pixels_module, "can_read_heic", lambda: False)
    with pytest.raises(UnreadablePhoto, match=r"pip install 'stockpot\[heic\]'"):
        decode(heic(quadrants))
    assert decode(encoded(quadrants, "AVIF")).size == quadrants.size


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (24, 500)])
def test_the_smallest_and_the_narrowest_photos_are_read(size):
    """One pixel is a photo; whether it is a good one is for curation to say."""
    assert decode(encoded(Image.new("RGB", size, "red"), "PNG"), at_least=256).size == size


def test_a_multi_picture_file_is_its_first_picture(quadrants):
    """What some cameras and phones write as .jpg."""
    data = encoded(quadrants, "MPO", save_all=True, append_images=[Image.new("RGB", quadrants.size)])
    assert np.asarray(decode(data)).mean() > 50


@pytest.mark.parametrize("format_", ["TIFF", "WEBP", "AVIF"])
def test_the_first_page_or_frame_counts(quadrants, format_):
    """Of several pages or frames the first."""
    other = Image.new("RGB", quadrants.size, "black")
    data = encoded(quadrants, format_, save_all=True, append_images=[other])
    assert np.asarray(decode(data)).mean() > 50


def test_gray_and_one_bit_and_alpha_become_rgb(quadrants):
    """Every mode that a file can have gives three channels; gray stays gray."""
    for mode, format_ in (
        ("1", "PNG"),
        ("L", "JPEG"),
        ("LA", "PNG"),
        ("P", "GIF"),
        ("RGBA", "WEBP"),
        ("YCbCr", "JPEG"),
    ):
        assert np.asarray(decode(encoded(quadrants.convert(mode), format_))).shape == (20, 30, 3)
    gray = np.asarray(decode(encoded(quadrants.convert("LA"), "PNG")))
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 1] == gray[..., 2]).all()


def test_sixteen_bits_of_colour_keep_their_brightness():
    """A 16-bit TIFF in gray, as microscopes write it, big-endian too."""
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    for order in ("<u2", ">u2"):
        data = encoded(Image.fromarray(ramp.astype("<u2")), "TIFF") if order == "<u2" else big_endian(ramp)
        pixels = np.asarray(decode(data))[..., 0]
        assert np.abs(pixels.astype(int) - ramp / 257).max() <= 1


def big_endian(ramp: np.ndarray) -> bytes:
    """A big-endian TIFF of 16 bits, written by hand: eight tags and the pixels."""
    import struct

    pixels = ramp.astype(">u2").tobytes()
    tags = [(256, 3, ramp.shape[1]), (257, 3, ramp.shape[0]), (258, 3, 16), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, ramp.shape[0]), (279, 4, len(pixels))]
    directory = struct.pack(">H", len(tags))
    for tag, kind, value in tags:
        directory += struct.pack(">HHI", tag, kind, 1) + (
            struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        )
    return b"MM\x00*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory + struct.pack(">I", 0)


def test_nonsense_exif_changes_nothing(quadrants):
    """A block of EXIF that is noise is not the photo's fault."""
    plain = np.asarray(decode(encoded(quadrants, "JPEG")))
    noise = b"Exif\x00\x00" + bytes(np.random.default_rng(1).integers(0, 256, 400, dtype=np.uint8))
    assert np.array_equal(np.asarray(decode(encoded(quadrants, "JPEG", exif=noise))), plain)
