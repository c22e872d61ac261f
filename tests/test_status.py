import shutil

from stockpot.learning.status import look_at_status


def test_status_says_what_is_new_stale_and_next(solar, tmp_path, make_photo):
    """A change by hand is seen: new photos, refused files, runs that are stale because of it."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    before = look_at_status(copy)
    assert (before.new, before.refused, before.problem) == (0, (), "")
    assert not before.runs[0].stale
    assert before.next.startswith("stockpot predict")
    make_photo(copy / "photos" / "monocrystalline defective" / "new.png")
    (copy / "photos" / "monocrystalline defective" / "bad.png").write_text("x")
    after = look_at_status(copy)
    assert after.new == 1
    assert after.runs[0].stale
    assert after.next == f"stockpot study {copy}"
    assert after.to_json()["refused"][0]["file"] == "monocrystalline defective/bad.png"


def test_status_names_a_problem_instead_of_failing(solar, tmp_path):
    """Photos that no classifier can be made of are a line of the status."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    for file in list((copy / "photos" / "monocrystalline defective").iterdir())[4:]:
        file.unlink()
    assert "at least 5 usable photos" in look_at_status(copy).problem
