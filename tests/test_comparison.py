import shutil
from dataclasses import replace

import numpy as np
import pytest

from stockpot.errors import ProjectError
from stockpot.learning.comparison import Comparison, McNemar, Row, compare, describe, exact_mcnemar
from stockpot.learning.recipes import Recipe
from stockpot.learning.resampling import LearningCurve, Resampled, cross_validate, paired_interval
from stockpot.learning.runs import read_runs
from stockpot.learning.training import train
from stockpot.photos.splits import split
from stockpot.project import open_project


def right(text: str) -> dict[str, bool]:
    return {str(place): letter == "+" for place, letter in enumerate(text)}


def test_the_exact_test_is_the_table_of_a_textbook():
    """Nine gained and one lost: p = 2 (1 + 10) / 1024, by hand."""
    test = exact_mcnemar("a", right("-" * 9 + "+" + "+" * 30), right("+" * 9 + "-" + "+" * 30))
    assert (test.gained, test.lost) == (9, 1)
    assert test.p == pytest.approx(22 / 1024)
    assert test.significant


def test_the_smallest_difference_is_the_first_that_shows():
    """Of ten discordant photos eight more gained than lost are needed (p = .021; six: .109)."""
    test = exact_mcnemar("a", right("-" * 6 + "+" * 4 + "+" * 30), right("+" * 6 + "-" * 4 + "+" * 30))
    assert test.p == pytest.approx(0.754, abs=1e-3)
    assert test.smallest == 8 / 40
    assert "not significant, 20.0 points would be" in describe(test)


def test_equal_runs_differ_by_nothing():
    """No discordant photo: p is 1, and six photos all one way would be the least."""
    test = exact_mcnemar("a", right("++++----"), right("++++----"))
    assert (test.gained, test.lost, test.p, test.smallest) == (0, 0, 1.0, 6 / 8)
    few = exact_mcnemar("a", right("++--"), right("++-+"))
    assert few.smallest is None and "too few photos for any difference" in describe(few)


@pytest.fixture(scope="module")
def compared(solar, tmp_path_factory):
    """The solar cells with a network from scratch beside their probe."""
    copy = tmp_path_factory.mktemp("compared") / "solar"
    shutil.copytree(solar.project, copy)
    train(copy, Recipe.from_scratch(epochs=2))
    return copy, compare(copy)


def test_runs_are_compared_on_the_same_photos(solar, compared):
    """In the order of the lab, each against the one before; figures are those of the runs."""
    _, comparison = compared
    scratch, probe = comparison.rows
    assert (scratch.name, scratch.recipe) == ("scratch", "from-scratch")
    assert (probe.name, probe.recipe) == ("probe", "linear-probe")
    assert scratch.mcnemar is None and probe.mcnemar.against == "scratch"
    gain = probe.mcnemar.gained - probe.mcnemar.lost
    assert gain / probe.n == pytest.approx(probe.accuracy - scratch.accuracy)
    assert probe.accuracy == solar.run.evaluation.accuracy
    assert probe.trained_parameters == 2048 * 4 + 4
    name, accuracy = comparison.majority
    assert name in solar.split.class_names and accuracy == pytest.approx(1 / 4, abs=0.1)


def test_one_split_is_not_all_that_is_said(solar, compared):
    """Five folds and a curve that ends with all training photos, computed once."""
    project, comparison = compared
    assert comparison.probe == "probe"
    assert comparison.folds.count == 5
    assert comparison.curve.photos[-1] == len(solar.split.training)
    assert list(comparison.curve.photos) == sorted(comparison.curve.photos)
    assert comparison.curve.accuracies[-1] == pytest.approx((comparison.rows[1].accuracy,))
    calls = []
    assert compare(project, progress=lambda *state: calls.append(state)) == comparison
    assert calls == []
    text = str(comparison)
    for words in ("5-fold cross-validation", "would more photos help?", "always says", "scratch: +"):
        assert words in text


def test_what_flatters_is_marked():
    """A chosen epoch has a star and a sentence; so has a run that was stopped."""
    figures = (100, 0.9, (0.8, 0.95), 0.3, 9.0, 5)
    row = Row("tail", "fine-tune", "xception", "block12", *figures, True, True, ("few", 0.5), None, None)
    text = str(Comparison((row,), ("a", 0.3), (("few", 3), ("many", 30)), ("old",), "", None, None))
    assert "90.0%*" in text and "chosen on these very photos" in text
    assert "the same training with --resume" in text and "old is stale" in text
    assert describe(McNemar("probe", 6, 0, 0.031, 0.06, chosen=True)) == "probe: +6 -0, p 0.031*"
    assert "unequal (30 training photos of many, 3 of few); lowest recall: tail 50% of few" in text
    plain = str(
        Comparison((replace(row, chosen=False, interrupted=False),), ("a", 0.3), (), (), "", None, None)
    )
    assert not any(words in plain for words in ("*", "--resume", "unequal"))


@pytest.mark.parametrize(
    ("interval", "answer"),
    [
        ((0.01, 0.2), "likely"),
        ((-0.02, 0.08), "unclear"),
        ((-0.05, 0.03), "unclear"),
        ((-0.01, 0.01), "little"),
    ],
)
def test_more_photos_help_only_as_far_as_can_be_told(interval, answer):
    """An interval that holds both no gain and a large one answers nothing, whatever the figure in its middle."""
    curve = LearningCurve((10, 40, 100), ((0.8,), (0.81,), (0.83,)), 50, interval)
    assert curve.answer == answer
    assert f"({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}) from 10 to 100 photos" in str(curve)


def test_the_gain_of_more_photos_is_paired_by_photo(compared):
    """Its interval holds the gain, and where nothing changes it has no width."""
    curve = compared[1].curve
    low, high = curve.gain_interval
    assert low <= curve.gain <= high
    low, high = paired_interval(np.zeros((1, 2)))  # two photos tell nothing
    assert low < -0.5 and high > 0.5
    # 30 of 100 photos gained, by hand: 102 with a mean of .294 and a variance of (32 - 102 x .294^2) / 101
    low, high = paired_interval(np.array([[1.0] * 30 + [0.0] * 70]))
    assert (low, high) == pytest.approx((0.2012, 0.3871), abs=1e-4)
    draws = paired_interval(np.array([[1.0] * 30 + [0.0] * 70, [0.0] * 100]))
    assert draws[1] - draws[0] > 0.3  # two draws that differ so much say little


def test_near_duplicates_stay_in_one_fold(solar, tmp_path):
    """Cross-validation never learns from a near duplicate of what it holds out."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    seen = []

    def right(run, x, y, learned, held):
        seen.append((set(learned), set(held)))
        return np.ones(len(held), bool)

    project, run = open_project(copy), read_runs(open_project(copy))[0]
    (run.folder / "cross_validation.json").unlink(missing_ok=True)
    sides = split(copy)
    photos = sides.training + sides.validation
    twins = [i for i, photo in enumerate(photos) if photo.label == photos[0].label][:3]
    grouped = [replace(photo, group="one") if i in twins else photo for i, photo in enumerate(photos)]
    n = len(sides.training)
    together = replace(sides, training=tuple(grouped[:n]), validation=tuple(grouped[n:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stockpot.learning.resampling._right", right)
        folds = cross_validate(project, run, together)
    assert folds.interval[1] == pytest.approx(1.0) and folds.count == len(seen) == 5
    assert set().union(*(held for _, held in seen)) == set(range(len(photos)))
    for learned, held in seen:
        assert not learned & held
        assert set(twins) <= held or not set(twins) & held


def test_seeds_are_summed_up():
    """Mean and standard deviation with n - 1, by hand."""
    assert str(Resampled((0.8, 0.9))) == "85.0% (standard deviation 7.1%)"


def test_nothing_to_compare_is_a_sentence(class_folders, tmp_path):
    """With what to do."""
    from stockpot.photos.intake import bring_in

    bring_in(tmp_path / "p", class_folders)
    with pytest.raises(ProjectError, match="no run on its present photos: stockpot study"):
        compare(tmp_path / "p")
