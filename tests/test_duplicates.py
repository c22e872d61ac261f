import csv
import io
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagehash import ImageHash
from PIL import Image, ImageEnhance, ImageOps
from scipy.sparse.csgraph import connected_components

from stockpot.errors import UnreadablePhoto
from stockpot.photos import duplicates
from stockpot.photos.duplicates import BITS, NEAR, distinct_photos, near_duplicates, signature
from stockpot.photos.photo import Photo
from stockpot.photos.pixels import read_photo

photos = st.lists(
    st.builds(
        lambda label, name, sha256: Photo(Path(label) / name, label, sha256, 1, 1),
        st.sampled_from(["a", "b"]),
        st.text("xyz", min_size=1, max_size=6),
        st.sampled_from("123456"),
    ),
    max_size=20,
    unique_by=lambda photo: photo.path,
)


@given(photos, st.randoms())
def test_every_photo_has_one_fate(taken, random):
    """Each photo counts, or is listed as a repeat or a conflict; the order does not matter."""
    distinct = distinct_photos(taken)
    listed = [*distinct.photos, *(left for left, _ in distinct.repeated), *sum(distinct.conflicts, ())]
    assert sorted(photo.path for photo in listed) == sorted(photo.path for photo in taken)
    random.shuffle(taken)
    assert distinct_photos(taken) == distinct


@given(photos)
def test_the_same_bytes_count_once_or_not_at_all(taken):
    """Once within a class; not at all where two classes claim them."""
    counted = [photo.sha256 for photo in distinct_photos(taken).photos]
    assert len(counted) == len(set(counted))
    for sha256 in {photo.sha256 for photo in taken}:
        classes = {photo.label for photo in taken if photo.sha256 == sha256}
        assert (sha256 in counted) == (len(classes) == 1)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=12), st.randoms()
)
def test_groups_are_what_near_duplicates_lead_to(near, random):
    """Scipy's connected components are the oracle; a group is named by its smallest member."""
    taken = [Photo(Path(f"x/{name}"), "x", name, 1, 1) for name in "abcdefgh"]
    links = np.zeros((8, 8))
    for a, b in near:
        links["abcdefgh".index(a), "abcdefgh".index(b)] = 1
    _, component = connected_components(links, directed=False)
    random.shuffle(near)
    for photo, number in zip(distinct_photos(taken, near).photos, component, strict=True):
        assert photo.group == min(
            name for name, other in zip("abcdefgh", component, strict=True) if other == number
        )


def crop(photo: Image.Image, share: float) -> Image.Image:
    """The lower right part, away from the places of the nine crops."""
    width, height = int(photo.width * share), int(photo.height * share)
    x, y = photo.width - width - 3, photo.height - height - 5
    return photo.crop((x, y, x + width, y + height))


def jpeg(photo: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=quality)
    return Image.open(out)


COPIES = {
    "crop 93 %": lambda photo: crop(photo, 0.93),
    "crop 88 %": lambda photo: crop(photo, 0.88),
    "mirror image of a crop": lambda photo: ImageOps.mirror(crop(photo, 0.91)),
    "border": lambda photo: ImageOps.expand(photo, photo.width // 9, "white"),
    "mirror": ImageOps.mirror,
    "recompressed": lambda photo: jpeg(photo, 15),
    "smaller": lambda photo: photo.resize((photo.width // 3, photo.height // 3)),
    "squashed": lambda photo: photo.resize((photo.width, int(0.8 * photo.height))),
    "darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.7),
}


@pytest.fixture(scope="module")
def dishes(shared):
    """Signatures of 100 real photos, and the photos."""
    photos = [read_photo(path) for path in sorted((shared / "food3").rglob("*.jpg"))[::8]]
    return photos, [signature(photo) for photo in photos]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_other_strengths_are_found(dishes, kind):
    """At least 90 % of a kind, none of them with another photo; the originals are near to none."""
    photos, signatures = dishes
    assert len(near_duplicates(signatures)) == 0
    copies = [signature(COPIES[kind](photo)) for photo in photos[:40]]
    pairs = near_duplicates([*signatures, *copies]).tolist()
    assert all(j == i + len(photos) for i, j in pairs)
    assert len(pairs) >= 0.9 * len(copies)


def test_documented_copies_are_found(shared):
    """`dirty_food3`: 95 % of the pairs made of one photo; at most 1 % of clean photos in a false group."""
    with (shared / "dirty_food3.truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept, signatures = [], []
    for row in rows:
        try:
            signed = signature(read_photo(shared / "dirty_food3" / row["file"]))
        except UnreadablePhoto:
            continue
        if signed:
            kept.append(row)
            signatures.append(signed)
    pairs = set(map(tuple, near_duplicates(signatures).tolist()))
    sources = [row["source"] for row in kept]
    true = {
        (i, j)
        for i, j in itertools.combinations(range(len(kept)), 2)
        if sources[i] and sources[i] == sources[j]
    }
    assert len(true) > 60
    assert len(true & pairs) >= 0.95 * len(true)
    clean = {row for row, values in enumerate(kept) if values["issue"] == "clean"}
    assert len(clean & {row for pair in pairs - true for row in pair}) <= 0.01 * len(clean)


def test_photos_that_all_look_alike_are_not_one_group(cells_by_class):
    """Solar cells share their bus bars; only neighbours from one block of silicon are grouped."""
    cells = [file for files in cells_by_class.values() for file in files[:75]]
    taken = [Photo(file, "cell", f"{i:03}", 300, 300) for i, file in enumerate(cells)]
    signatures = {photo.sha256: signature(read_photo(photo.path)) for photo in taken}
    pairs = near_duplicates([signatures[photo.sha256] for photo in taken])
    near = [(taken[i].sha256, taken[j].sha256) for i, j in pairs]
    groups = Counter(photo.group for photo in distinct_photos(taken, near).photos)
    assert max(groups.values()) <= 10
    assert sum(count for count in groups.values() if count > 1) < 0.35 * len(taken)


def test_flat_photos_are_near_to_none():
    """All black, all white, a faint ramp: they would be near to every other flat photo."""
    ramp = Image.fromarray(np.tile(np.linspace(100, 110, 64, dtype=np.uint8), (64, 1)))
    for flat in (Image.new("RGB", (90, 60)), Image.new("RGB", (1, 1), "white"), ramp):
        assert signature(flat) == b""


def test_distances_are_those_of_the_hashes(dishes):
    """The difference of imagehash itself is the oracle, over all views that are compared."""
    _, signatures = dishes
    a, b = (
        [
            ImageHash(np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(16, 16).astype(bool))
            for bits in views
        ]
        for views in (
            [signed[k : k + 32] for k in range(0, len(signed), 32)]
            for signed in (signatures[3], signatures[7])
        )
    )
    expected = min(
        *(x - y for x in a[:2] for y in b[1:]),
        *(x - y for x in a[1:] for y in b[:2]),
    )
    packed = np.frombuffer(signatures[3] + signatures[7], np.uint8).reshape(2, -1, BITS // 8)
    signs = np.unpackbits(packed, axis=-1).astype(np.float32) * 2 - 1
    assert duplicates._distances(signs, 0)[0, 1] == expected > NEAR


def test_neither_order_nor_blocks_matter(dishes, monkeypatch):
    """The same pairs in any order, and however many photos are compared at a time."""
    photos, signatures = dishes
    mixed = [*signatures[:30], *(signature(crop(photo, 0.9)) for photo in photos[:30])]
    pairs = set(map(tuple, near_duplicates(mixed).tolist()))
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    assert set(map(tuple, near_duplicates(mixed).tolist())) == pairs
    turned = near_duplicates(mixed[::-1]).tolist()
    assert {(59 - j, 59 - i) for i, j in turned} == pairs
    assert near_duplicates([]).shape == near_duplicates(mixed[:1]).shape == (0, 2)
