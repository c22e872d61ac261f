import shutil
from dataclasses import replace

import pytest

from stockpot.errors import ModelError
from stockpot.learning.runs import best_run, find_model, read_run, read_runs
from stockpot.project import open_project
from stockpot.studies import study


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


def test_a_run_whose_model_broke_is_trained_again(solar, tmp_path):
    """Neither a damaged model nor damaged figures block a project for ever."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    whole = solar.run.model_path.read_bytes()
    broken = copy / "runs" / "probe" / "model.safetensors"
    broken.write_bytes(whole[:5000])
    assert study(copy, recipes=["probe"]).trained
    assert broken.read_bytes() == whole
    (copy / "runs" / "probe" / "evaluation.json").write_text("{}")
    assert study(copy, recipes=["probe"]).trained


def test_the_best_run_is_one_of_the_present_photos(solar, tmp_path, caplog):
    """A stale run is taken only where there is no other, and that is said."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    assert find_model(copy).parent.name == "probe"
    assert caplog.text == ""
    next((copy / "photos" / "monocrystalline defective").iterdir()).unlink()
    assert find_model(copy).parent.name == "probe"
    assert "probe is stale" in caplog.text


def test_the_best_run_has_the_highest_accuracy(solar):
    """Whatever its loss; of equals the lower loss decides."""
    evaluation = solar.run.evaluation
    runs = [
        replace(solar.run, name=name, evaluation=replace(evaluation, accuracy=accuracy, loss=loss))
        for name, accuracy, loss in (("a", 0.7, 0.3), ("b", 0.8, 0.9), ("c", 0.8, 0.6))
    ]
    assert best_run(runs).name == "c"
