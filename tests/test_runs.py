import pytest

from stockpot.errors import ModelError
from stockpot.learning.runs import find_model, read_run, read_runs
from stockpot.project import open_project


def test_a_project_a_run_and_a_file_mean_the_same_model(solar):
    """MODEL is a run folder, a model file, or a project."""
    expected = solar.run.model_path
    assert find_model(solar.project) == find_model(solar.run.folder) == find_model(expected) == expected


def test_a_run_is_what_its_folder_says(solar):
    """Reading gives back what training returned."""
    assert read_runs(open_project(solar.project)) == [solar.run]


def test_an_unfinished_run_does_not_count(tmp_path):
    """`evaluation.json` is written last."""
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "recipe.json").write_text("{}")
    assert read_run(tmp_path / "probe") is None


def test_no_model_is_a_sentence(tmp_path):
    """With what to do."""
    with pytest.raises(ModelError, match="is no model"):
        find_model(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(ModelError, match="no completed run: stockpot study"):
        find_model(tmp_path)
