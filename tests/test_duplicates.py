from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stockpot.photos.duplicates import distinct_photos
from stockpot.photos.photo import Photo

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
