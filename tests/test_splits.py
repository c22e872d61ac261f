import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.errors import PhotoError, ProjectError, WrongUse
from stockpot.photos.intake import bring_in
from stockpot.photos.photo import Photo
from stockpot.photos.splits import assign_sides, look_at_split, split

names = st.integers(0, 10_000).map(lambda number: hashlib.sha256(str(number).encode()).hexdigest())


def as_photos(groups: dict[str, list[list[str]]]) -> list[Photo]:
    return [
        Photo(Path(f"{label}/{sha256}"), label, sha256, 1, 1, group=min(group))
        for label, together in groups.items()
        for group in together
        for sha256 in group
    ]


@st.composite
def photo_lists(draw) -> list[Photo]:
    shas = draw(st.lists(names, min_size=10, max_size=80, unique=True))
    groups: dict[str, list[list[str]]] = {"a": [], "b": []}
    while shas:
        size = draw(st.integers(1, 4))
        group, shas = shas[:size], shas[size:]
        groups[draw(st.sampled_from("ab"))].append(group)
    return as_photos(groups)


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
    for label in "ab":
        members = [photo for photo in photos if photo.label == label]
        groups: dict[str, list[Photo]] = {}
        for photo in members:
            groups.setdefault(photo.group, []).append(photo)
        assert all(len({sides[photo.sha256] for photo in group}) == 1 for group in groups.values())
        held = sum(sides[photo.sha256] == "validation" for photo in members)
        largest = max(map(len, groups.values()), default=0)
        assert 0.2 * len(members) <= held < 0.2 * len(members) + largest or not members


@given(photo_lists(), st.data())
def test_old_photos_keep_their_side(photos, data):
    """Whatever is added, nobody who had a side changes it."""
    old = data.draw(st.lists(st.sampled_from(photos), unique=True))
    before = assign_sides(old, 0.2, 0, {})
    clashes = {p.group for p in old if len({before[q.sha256] for q in old if q.group == p.group}) > 1}
    after = assign_sides(photos, 0.2, 0, before)
    assert all(after[photo.sha256] == before[photo.sha256] for photo in old if photo.group not in clashes)


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
