import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from stockpot.errors import ProjectError
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
