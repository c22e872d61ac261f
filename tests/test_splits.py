import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stockpot.errors import PhotoError, ProjectError, WrongUse
from stockpot.photos.duplicates import near_duplicates, signature
from stockpot.photos.intake import bring_in
from stockpot.photos.photo import Photo
from stockpot.photos.pixels import read_photo
from stockpot.photos.splits import Split, _between, assign_sides, look_at_split, split

names = st.integers(0, 10_000).map(lambda number: hashlib.sha256(str(number).encode()).hexdigest())


@st.composite
def photo_lists(draw) -> list[Photo]:
    shas = draw(st.lists(names, min_size=10, max_size=80, unique=True))
    photos: list[Photo] = []
    while shas:
        size = draw(st.integers(1, 4))
        group, shas = shas[:size], shas[size:]
        labels = draw(st.sampled_from(["a", "a", "b", "b", "ab"]))  # few groups lie in two classes
        photos += [
            Photo(
                Path(f"{labels[i % len(labels)]}/{sha256}"), labels[i % len(labels)], sha256, 1, 1, min(group)
            )
            for i, sha256 in enumerate(group)
        ]
    return photos


@given(photo_lists(), st.randoms(), st.integers(0, 3))
def test_order_and_names_do_not_matter(photos, random, seed):
    """The same bytes give the same sides, however the files are called and listed."""
    sides = assign_sides(photos, 0.2, seed, {})
    shuffled = [Photo(Path(f"x/{i}"), p.label, p.sha256, 1, 1, p.group) for i, p in enumerate(photos)]
    random.shuffle(shuffled)
    assert assign_sides(shuffled, 0.2, seed, {}) == sides


@given(photo_lists())
def test_groups_never_straddle_and_shares_are_kept(photos):
    """A duplicate group is on one side; a class has its 20 % within one group."""
    sides = assign_sides(photos, 0.2, 0, {})
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        groups.setdefault(photo.group, []).append(photo)
    assert all(len({sides[photo.sha256] for photo in group}) == 1 for group in groups.values())
    for label in {photo.label for photo in photos}:
        members = [photo for photo in photos if photo.label == label]
        held = sum(sides[photo.sha256] == "validation" for photo in members)
        pure = [group for group in groups.values() if {photo.label for photo in group} == {label}]
        largest = max(sum(photo.label == label for photo in group) for group in groups.values())
        assert held < 0.2 * len(members) + largest
        all_held = all(sides[photo.sha256] == "validation" for group in pure for photo in group)
        assert held >= 0.2 * len(members) or all_held


@given(photo_lists(), st.data())
def test_old_photos_keep_their_side(photos, data):
    """Whatever is added and however it is near, nobody who had a side changes it."""
    old = data.draw(st.lists(st.sampled_from(photos), unique=True))
    before = {photo.sha256: data.draw(st.sampled_from(["training", "validation"])) for photo in old}
    after = assign_sides(photos, 0.2, 0, before)
    assert all(after[sha256] == side for sha256, side in before.items())


@given(photo_lists(), st.data())
def test_a_new_photo_goes_where_its_group_is(photos, data):
    """A group with old photos on one side takes the new ones there; on both sides, they are left out."""
    old = data.draw(st.lists(st.sampled_from(photos), unique=True))
    before = {photo.sha256: data.draw(st.sampled_from(["training", "validation"])) for photo in old}
    after = assign_sides(photos, 0.2, 0, before)
    for photo in photos:
        known = {before[other.sha256] for other in old if other.group == photo.group}
        if photo.sha256 not in before and known:
            assert after.get(photo.sha256) == (known.pop() if len(known) == 1 else None)
        else:
            assert photo.sha256 in after


@pytest.fixture
def pets(tmp_path, class_folders):
    bring_in(tmp_path / "pets", class_folders)
    return tmp_path / "pets"


def test_a_split_is_remembered_and_follows_the_photos(pets, make_photo):
    """A moved project gives the same split; a new photo changes the fingerprint and no old side."""
    first = split(pets)
    moved = pets.rename(pets.with_name("moved"))
    assert split(moved).fingerprint == first.fingerprint
    make_photo(moved / "photos" / "cat" / "new.png", seed=77)
    second = split(moved)
    assert second.fingerprint != first.fingerprint
    old = {photo.sha256 for photo in first.validation}
    assert old <= {photo.sha256 for photo in second.validation}


def test_a_photo_that_comes_back_keeps_its_side(pets, tmp_path):
    """Taking a photo out and moving it back is undo."""
    first = split(pets)
    photo = first.validation[0]
    away = shutil.move(photo.path, tmp_path / "away.png")
    assert photo.sha256 not in {p.sha256 for p in split(pets).validation}
    shutil.move(away, photo.path)
    assert split(pets).fingerprint == first.fingerprint


def test_another_seed_splits_anew_and_is_kept(pets):
    """The seed decides which photos, and stays in force until another is given."""
    shas = [{p.sha256 for p in split(pets, seed=seed).validation} for seed in range(6)]
    assert len({frozenset(s) for s in shas}) > 1
    assert split(pets).seed == 5
    assert json.loads((pets / "split.json").read_text())["seed"] == 5


def test_looking_writes_no_split(pets):
    """`status` does not decide anything."""
    look_at_split(pets)
    assert not (pets / "split.json").exists()


def test_the_same_bytes_never_count_twice(pets):
    """A copy is listed; a copy in another class takes both out."""
    cats, dogs = pets / "photos" / "cat", pets / "photos" / "dog"
    shutil.copy(cats / "0.png", cats / "copy.png")
    shutil.copy(cats / "1.png", dogs / "cat.png")
    result = split(pets)
    assert [(a.path.name, b.path.name) for a, b in result.repeated] == [("copy.png", "0.png")]
    assert [{p.path.name for p in same} for same in result.conflicts] == [{"1.png", "cat.png"}]
    assert len(result.training + result.validation) == 11


def test_photos_that_cannot_be_split_are_explained(pets, tmp_path):
    """Each error says what to do."""
    with pytest.raises(WrongUse, match="between 0 and 1"):
        split(pets, validation=1.5)
    with pytest.raises(ProjectError, match="study"):
        split(tmp_path / "nothing")
    for file in (pets / "photos" / "dog").iterdir():
        if file.name in {"0.png", "1.png"}:
            file.write_text("broken")
    with pytest.raises(PhotoError, match="'dog' has 4"):
        split(pets)
    shutil.rmtree(pets / "photos" / "dog")
    with pytest.raises(PhotoError, match="one class"):
        split(pets)
    shutil.rmtree(pets / "photos" / "cat")
    with pytest.raises(PhotoError, match="no readable photo"):
        split(pets)


def test_a_class_without_validation_photos_is_refused(pets, make_photo):
    """Whoever deletes them by hand is told how to split anew."""
    for i in range(4):
        make_photo(pets / "photos" / "cat" / f"more{i}.png", seed=80 + i)
    for photo in split(pets).validation:
        if photo.label == "cat":
            photo.path.unlink()
    with pytest.raises(PhotoError, match="'cat' is left to validate on.*--seed 1"):
        split(pets)
    assert split(pets, seed=1).validation


@pytest.fixture
def dishes(tmp_path, shared):
    """A project of eight real photos in each of two classes, split, and where to put more."""
    for label in ("baklava", "apple_pie"):
        (tmp_path / "dishes" / "photos" / label).mkdir(parents=True)
        for file in sorted((shared / "food3" / label).iterdir())[:8]:
            shutil.copy(file, tmp_path / "dishes" / "photos" / label)
    split(tmp_path / "dishes")
    return tmp_path / "dishes"


def test_a_near_duplicate_goes_to_the_side_of_its_original(dishes):
    """A smaller, mirrored copy of a validation photo is not learned from."""
    held = look_at_split(dishes).validation[0]
    copy = held.path.with_name("copy.png")
    with Image.open(held.path) as photo:
        ImageOps.mirror(photo.resize((200, 200))).save(copy)
    result = split(dishes)
    assert copy in {photo.path for photo in result.validation}
    assert [{photo.path for photo in near} for near in result.near_duplicates] == [{held.path, copy}]


def test_a_photo_between_the_sides_is_left_out_and_listed(dishes):
    """Two old photos on two sides, and a new one that is near to both: a blend of them."""
    result = look_at_split(dishes)
    old = [*result.validation, *result.training]
    images = [read_photo(photo.path) for photo in old]
    signatures = [signature(image) for image in images]
    small = [image.resize((256, 256)) for image in images]
    first = len(result.validation)
    for a, b in itertools.product(range(first), range(first, len(old))):
        blends = (Image.blend(small[a], small[b], weight) for weight in np.linspace(0.4, 0.6, 11))
        for mixed in blends:
            if near_duplicates([*signatures, signature(mixed)]).tolist() == [[a, len(old)], [b, len(old)]]:
                break
        else:
            continue
        break
    else:
        pytest.fail("no blend is near to both")
    held, learned = old[a], old[b]
    bridge = held.path.with_name("bridge.png")
    mixed.save(bridge)
    result = split(dishes)
    assert [photo.path for photo in result.between] == [bridge]
    assert held.sha256 in {photo.sha256 for photo in result.validation}
    assert learned.sha256 in {photo.sha256 for photo in result.training}
    assert "bridge" not in (dishes / "split.json").read_text()


def test_only_what_is_near_both_sides_itself_is_left_out():
    """With a and b on two sides, c near to both is left out; d, near to a alone, goes where a is."""
    near = [("a", "c"), ("b", "c"), ("a", "d")]
    assert _between(near, {"a": "training", "b": "validation"}) == {"c"}
    assert _between(near, {"a": "training", "b": "training"}) == set()


def test_old_near_duplicates_on_both_sides_are_named():
    """They keep their sides, so that nobody takes them for safe."""
    a, b, c, d = (Photo(Path(f"x/{k}"), "x", k, 1, 1, group) for k, group in zip("abcd", "aacc", strict=True))
    sides = Split(("x",), training=(a, c, d), validation=(b,), seed=0, share=0.2)
    assert sides.straddling == ((a, b),)
    assert sides.near_duplicates == ((c, d),)
