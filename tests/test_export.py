import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from conftest import ROOT

from stockpot.errors import ModelError, WrongUse
from stockpot.explanation.explanation import explain
from stockpot.learning.models import load_model, predict
from stockpot.photos.preprocessing import read_prepared
from stockpot.publishing import export as module
from stockpot.publishing.export import export


@pytest.fixture(scope="session")
def exported(lab, tmp_path_factory):
    """Every run of the lab as an ONNX file."""
    folder = tmp_path_factory.mktemp("exported")
    return {run.name: (run, export(run, folder / f"{run.name}.onnx")) for run in lab.study.runs}


@pytest.mark.parametrize("name", ["cifar", "probe", "scratch", "tail"])
def test_the_file_says_what_the_model_says(lab, exported, name):
    """Real photos, one by one and together: probabilities, maps, logits, and what is none of the classes."""
    run, file = exported[name]
    model = load_model(run).model
    photos = [photo.path for photo in lab.study.split.validation[:5]]
    pixels = np.stack([read_prepared(photo, model.preprocessing) for photo in photos])
    session = onnxruntime.InferenceSession(file)
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == ["probabilities", "maps", "logits", "distances"]
    together = session.run(None, {"pixels": pixels})
    about = session.get_modelmeta().custom_metadata_map
    for i, (photo, said) in enumerate(zip(photos, predict(run, photos), strict=True)):
        alone = session.run(None, {"pixels": pixels[i : i + 1]})
        assert all(np.abs(one[0] - all_[i]).max() < 1e-5 for one, all_ in zip(alone, together, strict=True))
        probabilities, maps, logits, distances = (output[i] for output in together)
        why = explain(run, photo)
        assert probabilities == pytest.approx(said.probabilities, abs=1e-4)
        assert maps == pytest.approx(why.cam, abs=1e-4)
        assert logits == pytest.approx(why.logits, abs=1e-4)
        assert maps.mean(axis=(1, 2)) + model.bias == pytest.approx(logits, abs=1e-4)
        assert (distances > float(about["threshold"])) == said.none_of_these
    assert tuple(json.loads(about["class_names"])) == model.class_names
    assert json.loads(about["preprocessing"])["image_size"] == model.preprocessing.image_size
    assert (
        json.loads(about["validation"])["n"] == run.evaluation.n and about["attribution"] == model.attribution
    )


def test_a_model_of_before_is_exported_as_it_is(lab, tmp_path):
    """It has no distances, and the file does not make any up."""
    predictor = load_model(lab.study.runs[0])
    before = replace(predictor, model=replace(predictor.model, rejection=None))
    session = onnxruntime.InferenceSession(export(before, tmp_path / "before.onnx"))
    assert [output.name for output in session.get_outputs()] == ["probabilities", "maps", "logits"]
    assert "threshold" not in session.get_modelmeta().custom_metadata_map


def test_a_file_that_computes_something_else_is_not_kept(lab, tmp_path, monkeypatch):
    """The check before it takes its place sees a hundredth; another ending is refused at once."""
    said = module.calibrated
    monkeypatch.setattr(module, "calibrated", lambda logits, model: 0.99 * said(logits, model))
    with pytest.raises(ModelError, match="The exported probabilities differ"):
        export(lab.study.runs[0], tmp_path / "wrong.onnx")
    with pytest.raises(WrongUse, match=r"must end in \.onnx"):
        export(lab.study.runs[0], tmp_path / "wrong.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_lines_in_the_docs_need_no_stockpot(lab, exported, tmp_path):
    """As they stand, on a photo: the same label and probability as `predict`."""
    run, file = exported["probe"]
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "shipping.md").read_text("utf-8"), re.S)
    photo = lab.study.split.validation[0].path
    (tmp_path / "model.onnx").symlink_to(file)
    (tmp_path / "dinner.jpg").symlink_to(photo)
    (tmp_path / "run.py").write_text(f"{code}\nimport sys\nassert 'stockpot' not in sys.modules\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (said,) = predict(run, [photo])
    label, probability = done.stdout.rsplit(maxsplit=1)
    assert label == ("none of these" if said.none_of_these else said.label)
    assert float(probability) == pytest.approx(said.probability, abs=1e-4)
