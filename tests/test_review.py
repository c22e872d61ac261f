import shutil

import numpy as np
import pytest

from stockpot.curation.curation import undo
from stockpot.curation.review import Review
from stockpot.errors import PhotoError, WrongUse


@pytest.fixture
def review(curated, tmp_path) -> Review:
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy, ignore=shutil.ignore_patterns("runs", "report.html"))
    return Review(copy)


def names(review: Review) -> set[str]:
    return {path.name for path in review.project.photos.glob("*/*")}


def test_a_decision_moves_the_file_and_the_head(review):
    """The file lies aside at once, the head does without it, and accuracies are of the photos in both."""
    worst = max(review.suspicion().items(), key=lambda one: one[1])[0]
    name, n = review.photos[worst].photo.path.name, len(review.head.names)
    effect = review.decide(worst)
    assert name not in names(review) and review.photos[worst].aside
    assert (effect.last.n, effect.last.n_before, effect.last.n_now) == (n - 1, n, n - 1)
    assert worst not in review.head.names
    assert effect.last.now - effect.last.before == pytest.approx(
        (effect.last.test.gained - effect.last.test.lost) / effect.last.n
    )
    assert np.mean(list(review.head.right().values())) == effect.last.all_now


def test_hard_photos_set_aside_are_no_gain(review):
    """Without its mistakes plain accuracy must rise; that of the photos in both moments is what is compared."""
    wrong = [key for key, right in review.opened.items() if not right]
    assert len(wrong) > 2
    for key in wrong[:3]:
        effect = review.decide(key)
    assert effect.all.all_now > effect.all.all_before
    assert effect.all.n == effect.all.n_before - 3
    assert effect.all.before > effect.all.all_before, "the same photos, counted alike"


def test_a_photo_moves_to_another_class_and_back(review):
    """Then nothing is as if nothing had been: file, label and every answer."""
    key = next(iter(review.head.names))
    before, label = review.opened, review.photos[key].photo.label
    other = next(name for name in review.class_names if name != label)
    review.decide(key, other)
    assert review.photos[key].photo.path.parent.name == other
    assert review.head.labels[review.head.names.index(key)] == other
    review.undo()
    assert review.photos[key].photo.path.parent.name == label and review.photos[key].photo.path.exists()
    assert review.head.right() == before


def test_a_new_class_gets_its_column(review):
    """A name that no class has yet makes one; undone, it is gone."""
    key, classes = next(iter(review.head.names)), review.class_names
    review.decide(key, "scratched")
    assert "scratched" in review.class_names and review.confusion().shape == (5, 5)
    review.undo()
    assert review.class_names == classes and review.confusion().sum() == len(review.head.names)


def test_decisions_outlive_the_review(review):
    """Opened again, photos set aside are aside; undo takes them back one by one, and then says there is none."""
    first, second = list(review.head.names)[:2]
    path = review.photos[second].photo.path
    review.decide(first)
    review.decide(second)
    again = Review(review.project.folder)
    assert len(again.photos) == len(review.photos) - 2
    again.undo()
    assert path.exists() and len(again.photos) == len(review.photos) - 1
    again.undo()
    with pytest.raises(WrongUse, match="no step to undo"):
        again.undo()
    with pytest.raises(WrongUse, match="no step to undo"):
        undo(review.project.folder)


def test_new_photos_are_compared_with_what_was_before(review, make_photo):
    """Opened anew with one photo more: accuracies are of the photos that were there before, too."""
    review.decide(max(review.suspicion().items(), key=lambda one: one[1])[0])
    n = len(review.head.names)
    make_photo(review.project.photos / review.class_names[0] / "new.png", seed=5, size=(300, 300))
    assert review.changed
    again = Review(review.project.folder, before=review)
    assert len(again.head.names) == n + 1
    assert again.effect.last is None, "no decision was made in this one"
    change = again.effect.all
    assert (change.n, change.n_before, change.n_now) == (n, n + 1, n + 1)
    assert Review(review.project.folder).effect is None


def test_wrong_decisions_are_refused(review, tmp_path, make_photo):
    """An unknown photo, one that lies aside, its own class, and a folder of one class."""
    key = next(iter(review.head.names))
    with pytest.raises(WrongUse, match="'nothing' is not there"):
        review.decide("nothing")
    with pytest.raises(WrongUse, match="already"):
        review.decide(key, review.photos[key].photo.label)
    review.decide(key)
    with pytest.raises(WrongUse, match="lies aside already"):
        review.decide(key)
    for i in range(6):
        make_photo(tmp_path / "one" / "photos" / "cat" / f"{i}.png", seed=i, size=(64, 64))
    with pytest.raises(PhotoError, match="fewer than two classes"):
        Review(tmp_path / "one")


def test_changes_from_elsewhere_are_noticed(review):
    """A photo that was taken away by hand: no decision is made on old sights."""
    first, second = list(review.head.names)[:2]
    review.photos[second].photo.path.unlink()
    assert review.changed
    with pytest.raises(WrongUse, match="come or gone since"):
        review.decide(first)
    assert review.photos[first].photo.path.exists()


def test_the_last_photo_of_the_last_but_one_class_stays(curated, tmp_path):
    """Two classes are needed to tell anything apart; a decision that leaves one is refused and moves nothing."""
    copy = tmp_path / "solar"
    shutil.copytree(curated, copy)
    folders = sorted((copy / "photos").iterdir())
    for folder in folders[2:]:
        shutil.rmtree(folder)
    for photo in sorted(folders[0].iterdir())[2:]:
        photo.unlink()
    review = Review(copy)
    first, last = (key for key in review.head.names if review.photos[key].photo.label == folders[0].name)
    review.decide(first)
    with pytest.raises(WrongUse, match="would have no photo left"):
        review.decide(last)
    assert review.photos[last].photo.path.exists()
