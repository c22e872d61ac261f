import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from stockpot.errors import WrongUse
from stockpot.learning.live_head import LiveHead

CLASSES = ("ham", "jam", "spam")


def photos(n: int = 30, channels: int = 50, seed: int = 0):
    """Names, features, labels and groups: every fifth photo is a near duplicate of the one before."""
    chance = np.random.default_rng(seed)
    labels = [CLASSES[k] for k in chance.integers(0, 3, n)]
    means = chance.standard_normal((3, channels))
    features = (
        3
        + np.stack([means[CLASSES.index(label)] for label in labels])
        + chance.standard_normal((n, channels))
    )
    groups = [str(i - (i % 5 == 1)) for i in range(n)]
    return [f"photo {i}" for i in range(n)], features.astype(np.float32), labels, groups


def truth(labels) -> np.ndarray:
    return np.where(np.array(labels)[:, None] == np.array(CLASSES), 1.0, -1.0)


def oracle(head: LiveHead, features, labels, seen) -> np.ndarray:
    """Scores of all photos by scikit-learn's ridge regression on some, the bias being one more, long feature."""
    x = np.column_stack([features - head.center, np.full(len(features), np.sqrt(head.constant))])
    model = Ridge(alpha=head.penalty * head.constant, fit_intercept=False, solver="svd")
    return model.fit(x[seen], truth(labels)[seen]).predict(x)


def test_scores_are_those_of_ridge_regression():
    """Against scikit-learn, on photos that it has seen and on others."""
    names, features, labels, groups = photos(40)
    head = LiveHead(names[:30], features[:30], labels[:30], groups[:30], CLASSES, penalty=0.1)
    np.testing.assert_allclose(head.scores(features), oracle(head, features, labels, range(30)), atol=1e-8)


def test_left_out_scores_are_those_of_heads_that_have_not_seen_the_group():
    """Every group is left out and a new head fitted without it, by scikit-learn."""
    names, features, labels, groups = photos()
    head = LiveHead(names, features, labels, groups, CLASSES, penalty=0.3)
    left_out = head.left_out()
    for group in set(groups):
        held = [i for i, other in enumerate(groups) if other == group]
        seen = [i for i, other in enumerate(groups) if other != group]
        np.testing.assert_allclose(left_out[held], oracle(head, features, labels, seen)[held], atol=1e-8)


CHANGES = st.lists(st.tuples(st.sampled_from(["add", "remove", "move"]), st.integers(0, 59)), max_size=25)


@settings(max_examples=30, deadline=None)
@given(CHANGES)
def test_changed_is_as_good_as_new(changes):
    """After any changes the head is the one that scikit-learn fits to what is there now."""
    names, features, labels, groups = photos(60)
    head = LiveHead(names[:30], features[:30], labels[:30], groups[:30], CLASSES)
    for what, i in changes:
        there = names[i] in head.names
        if what == "add" and not there:
            head.add([names[i]], features[i : i + 1], [labels[i]], [groups[i]])
        elif what == "remove" and there:
            head.remove([names[i]])
        elif what == "move" and there:
            labels[i] = CLASSES[i % 3]
            head.move(names[i], labels[i])
    seen = [names.index(name) for name in head.names]
    np.testing.assert_allclose(head.scores(features), oracle(head, features, labels, seen), atol=1e-7)
    assert list(head.right()) == head.names


def test_the_penalty_fits_the_photos():
    """What is chosen predicts left-out photos better than a tenth of it or ten times it."""
    names, features, labels, groups = photos(60, channels=200)
    chosen = LiveHead(names, features, labels, groups, CLASSES).penalty
    errors = {}
    for penalty in (chosen / 10, chosen, chosen * 10):
        head = LiveHead(names, features, labels, groups, CLASSES, penalty)
        errors[penalty] = float(((head.left_out() - truth(labels)) ** 2).mean())
    assert min(errors, key=errors.get) == chosen


def test_a_near_duplicate_does_not_vouch_for_its_copy():
    """A wrongly labelled photo whose copy has the same label is still found out."""
    names, features, labels, groups = photos(60, channels=20)
    wrong = CLASSES[(CLASSES.index(labels[0]) + 1) % 3]
    labels[0] = labels[1] = wrong
    features[1] = features[0]
    groups[0] = groups[1] = "one"
    assert not LiveHead(names, features, labels, groups, CLASSES).right()["photo 0"]


def test_wrong_use_is_named():
    """A photo twice, one that is not there, a class that is none; nothing is changed by it."""
    names, features, labels, groups = photos()
    head = LiveHead(names, features, labels, groups, CLASSES)
    before = head.left_out()
    with pytest.raises(WrongUse, match="twice"):
        head.add(["photo 3"], features[:1], ["ham"], ["x"])
    with pytest.raises(WrongUse, match="no photo 'photo 99'"):
        head.remove(["photo 3", "photo 99"])
    with pytest.raises(WrongUse, match="no class; choose one of ham, jam, spam"):
        head.move("photo 3", "eggs")
    np.testing.assert_array_equal(head.left_out(), before)
