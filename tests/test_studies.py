import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from stockpot.errors import ProjectError, RecipeError, WrongUse
from stockpot.studies import study


def test_a_second_study_trains_nothing_and_needs_no_torch(solar, tmp_path):
    """In a fresh process, on an unchanged project, only the report is written anew."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    code = (
        "import sys, json; from stockpot.studies import study\n"
        "result = study(sys.argv[1], recipes=['probe'])\n"
        "heavy = {'torch', 'timm', 'sklearn', 'onnxruntime'} & set(sys.modules)\n"
        "print(json.dumps([result.trained, sorted(heavy)]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == [[], []]
    assert (copy / "runs" / "probe" / "model.safetensors").exists()


def test_a_changed_project_is_made_true_again(solar, tmp_path):
    """After a photo was taken out, the run is of the photos that are there."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    (copy / solar.split.training[0].path.relative_to(solar.project)).unlink()
    result = study(copy, recipes=["probe"])
    assert result.trained
    assert result.run.name == "probe"
    assert result.run.split_fingerprint == result.split.fingerprint != solar.split.fingerprint


def test_the_least_is_done_again(solar, tmp_path):
    """A photo taken out and a class renamed: nothing is computed; a new photo: one forward pass."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    computed = []

    def count(stage, done, total):
        if stage == "computing features" and done == total:
            computed.append(total)

    gone = copy / solar.split.validation[0].path.relative_to(solar.project)
    away = shutil.move(gone, tmp_path / "away.png")
    (copy / "photos" / "polycrystalline defective").rename(copy / "photos" / "broken")
    result = study(copy, recipes=["probe"], progress=count)
    assert result.trained and computed == []
    assert "broken" in result.split.class_names
    predictions = (result.run.folder / "predictions.csv").read_text()
    assert gone.name not in predictions and "polycrystalline defective" not in predictions
    assert gone.name not in result.report.read_text()
    fresh = Image.open(away).convert("RGB").rotate(90)
    fresh.save(copy / "photos" / "broken" / "new.png")
    again = study(copy, recipes=["probe"], progress=count)
    assert again.trained and computed == [1]


def test_the_whole_lab_in_one_call(lab, tmp_path):
    """From scratch, both probes and the last blocks: a forecast before each, a row for each, then idle."""
    result = lab.study
    assert [run.name for run in result.runs] == ["scratch", "cifar", "probe", "tail"]
    assert result.trained == ("cifar", "tail", "scratch") and result.left_out == ()
    assert [text.split(":")[0] for text in lab.remarks] == ["cifar", "tail", "scratch"]
    assert [name for name, *_ in result.forecasts] == ["cifar", "tail", "scratch"]
    assert all(took > 0 and expected > 0 for _, expected, took in result.forecasts)
    assert all(run.audit.passed for run in result.runs)
    tail = result.runs[-1]
    assert tail.audit.frozen_parameters > 10_000_000 and tail.chosen
    assert [row.name for row in result.comparison.rows] == ["scratch", "cifar", "probe", "tail"]
    copy, remarks = tmp_path / "solar", []
    shutil.copytree(result.project, copy)
    again = study(
        copy, recipes=["scratch", "tail"], progress=lambda *told: told[2] or remarks.append(told[0])
    )
    assert again.trained == () and remarks == [] and again.forecasts == ()


def test_what_does_not_fit_into_the_budget_is_left_out(solar, tmp_path):
    """With its forecast and a command that would do it; alone it is an error that says so."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy)
    result = study(copy, recipes=["probe", "scratch"], time_budget=0.01)
    assert [run.name for run in result.runs] == ["probe"]
    ((name, why),) = result.left_out
    assert name == "scratch" and re.search(r"--recipes scratch --time-budget \dm$", why)
    with pytest.raises(RecipeError, match="No recipe was carried out: about .* s here"):
        study(copy, recipes=["scratch"], time_budget=0.01)
    with pytest.raises(WrongUse, match="choose some of: scratch, cifar"):
        study(copy, recipes=["magic"])


def test_the_photos_own_folder_is_no_project(class_folders):
    """The source is never written to."""
    with pytest.raises(ProjectError, match="keep them apart"):
        study(class_folders, photos=class_folders)
    assert {entry.name for entry in class_folders.iterdir()} == {"cat", "dog"}


def test_dirty_photos_go_through(shared, tmp_path):
    """196 documented problems: nothing crashes, the 18 undecodable files are named, the rest is used."""
    from stockpot.photos.intake import bring_in
    from stockpot.photos.splits import split

    bring_in(tmp_path / "dirty", shared / "dirty_food3")
    result = split(tmp_path / "dirty")
    assert len(result.refused) == 18
    used = len(result.training) + len(result.validation)
    files = sum(1 for file in (shared / "dirty_food3").glob("*/*") if not file.name.startswith("."))
    assert used + 18 + result.skipped == files
    assert len(result.conflicts) > 0 and len(result.repeated) > 0
