import csv
import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from stockpot import project as disk
from stockpot.errors import ModelError, PhotoError
from stockpot.explanation.explanation import explain
from stockpot.learning.models import evaluate, load_model, predict
from stockpot.model.model_file import read_backbone, read_model, write_model


def test_predictions_keep_order_and_name_bad_files(solar, tmp_path):
    """One row a file in the order given; a bad file has its error and ends nothing."""
    photos = [photo.path for photo in solar.split.validation[:4]]
    bad = tmp_path / "bad.jpg"
    bad.write_text("<html>")
    answers = list(predict(solar.project, [photos[0], bad, *photos[1:]]))
    assert [answer.path for answer in answers] == [photos[0], bad, *photos[1:]]
    assert "not an image" in answers[1].error
    for answer in (answers[0], *answers[2:]):
        assert sum(answer.probabilities) == pytest.approx(1)
        assert answer.probability == max(answer.probabilities)


def test_predictions_are_those_of_the_run(solar):
    """A photo predicted from its file has the probability that the run wrote down."""
    with (solar.run.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    answers = list(predict(solar.run, [solar.project / row["path"] for row in rows]))
    assert [answer.label for answer in answers] == [row["label"] for row in rows]
    written = [float(row["probability"]) for row in rows]
    assert np.abs(np.array([answer.probability for answer in answers]) - written).max() < 1e-4


def test_a_folder_stands_for_its_files(solar):
    """All visible files below it, by name."""
    photos = solar.project / "photos"
    answers = list(predict(solar.run, [photos]))
    assert [a.path for a in answers] == sorted(p for p in photos.rglob("*") if p.is_file())


def test_paths_that_do_not_exist_are_refused_before_anything_is_done(solar, tmp_path):
    """A typing mistake costs no waiting."""
    with pytest.raises(PhotoError, match=r"no file .*typo\.jpg"):
        next(predict(solar.run, [tmp_path / "typo.jpg"]))
    with pytest.raises(PhotoError, match="No files"):
        next(predict(solar.run, [tmp_path]))


def test_evaluating_the_validation_photos_gives_the_runs_figures(solar, tmp_path):
    """The same photos in a folder of their own have the same accuracy and confusion."""
    for photo in solar.split.validation:
        (tmp_path / photo.label).mkdir(exist_ok=True)
        shutil.copy(photo.path, tmp_path / photo.label)
    result, index = evaluate(solar.run, tmp_path)
    assert result.confusion == solar.run.evaluation.confusion
    assert result.loss == pytest.approx(solar.run.evaluation.loss, abs=1e-4)
    assert index.refused == ()


def test_a_class_that_the_model_does_not_know_is_refused(solar, tmp_path, make_photo):
    """The error names it and the classes there are."""
    make_photo(tmp_path / "penguin" / "a.png")
    with pytest.raises(PhotoError, match="'penguin'.*monocrystalline defective"):
        evaluate(solar.run, tmp_path)


def test_a_copied_model_file_needs_neither_its_project_nor_torch(solar, tmp_path):
    """In another folder and process: the same logits and maps; torch is there for exporting the graph, once."""
    shutil.copy(solar.run.model_path, tmp_path / "model.safetensors")
    photo = solar.split.validation[0].path
    code = (
        "import sys, numpy; from stockpot.explanation.explanation import explain\n"
        "why = explain(sys.argv[1], sys.argv[2]); numpy.savez(sys.argv[3], logits=why.logits, cam=why.cam)\n"
        "print('torch' in sys.modules)"
    )
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    here = explain(solar.run, photo)
    for name, with_torch in (("first", "True"), ("second", "False")):
        arguments = [tmp_path / "model.safetensors", photo, tmp_path / f"{name}.npz"]
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == with_torch
        there = np.load(tmp_path / f"{name}.npz")
        assert np.array_equal(there["logits"], here.logits) and np.array_equal(there["cam"], here.cam)


def test_a_project_that_cannot_be_written_predicts_all_the_same(solar, tmp_path, monkeypatch):
    """A colleague's project may only be read: the graph goes to the user's own cache."""
    shutil.copytree(solar.project / "photos", tmp_path / "theirs" / "photos")
    shutil.copytree(solar.run.folder, tmp_path / "theirs" / "runs" / solar.run.name)
    (tmp_path / "theirs" / "cache").touch()  # no folder can be made here, by root neither
    monkeypatch.setattr(disk, "user_cache", lambda: tmp_path / "ours")
    photo = solar.split.validation[0].path
    (there,), (here,) = predict(tmp_path / "theirs", [photo]), predict(solar.run, [photo])
    assert there.probabilities == here.probabilities
    assert [graph.stem for graph in (tmp_path / "ours" / "graphs").iterdir()] == [
        read_model(solar.run.model_path).key
    ]


def test_a_head_that_does_not_fit_its_backbone_is_refused(solar, tmp_path):
    """A file put together from two: its path, what was expected and what was found."""
    model = read_model(solar.run.model_path)
    narrow = dataclasses.replace(
        model, path=tmp_path / "model.safetensors", weight=model.weight[:, :100].copy(), rejection=None
    )
    write_model(narrow, read_backbone(solar.run.model_path))
    with pytest.raises(ModelError, match=r"model\.safetensors has a head for 100 channels.* gives 2048"):
        load_model(tmp_path / "model.safetensors")
