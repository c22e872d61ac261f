import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image
from standin.hub import TOKEN, hub

from stockpot.errors import ModelError, UnreadablePhoto, WrongUse
from stockpot.learning.evaluation import ClassFigures, Evaluation
from stockpot.learning.models import load_model, predict
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
from stockpot.model.model_file import ModelFile
from stockpot.photos.preprocessing import Preprocessing
from stockpot.publishing import timm_folder
from stockpot.publishing.card import Example, model_card
from stockpot.publishing.publish import publish


@pytest.fixture(scope="session")
def trained(solar, tmp_path_factory):
    """Two runs on networks that timm has: EfficientNet-Lite0 on padded photos, Xception at 264 pixels."""
    copy = tmp_path_factory.mktemp("for-timm") / "solar cells"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "features", "report.html"))
    lite = train(copy, Recipe.linear_probe("efficientnet_lite0", resize="pad"), name="lite")
    large = train(copy, Recipe.linear_probe("xception", image_size=264), name="large")
    return {"lite": lite, "large": large}


@pytest.fixture(scope="session")
def published(trained, tmp_path_factory):
    """Their folders, and what publishing said."""
    folder, said = tmp_path_factory.mktemp("published"), []
    for name, run in trained.items():
        publish(run, folder / name, progress=lambda stage, done, total: said.append(stage))
    return folder, said


@pytest.fixture(scope="session")
def photos(solar, tmp_path_factory):
    """A real photo as it is, and a part of one that is not square."""
    whole = solar.split.validation[0].path
    part = tmp_path_factory.mktemp("part") / "part.png"
    Image.open(solar.split.validation[1].path).crop((20, 0, 190, 300)).save(part)
    return [whole, part]


FILES_OF_ONNX = ["README.md", "example.png", "model.onnx"]
OTHERS = """
import json, sys
import timm
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

folder, *photos = sys.argv[1:]
one = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(one))
two = AutoModelForImageClassification.from_pretrained(folder)
prepare = AutoImageProcessor.from_pretrained(folder)
told = {"names": [one.pretrained_cfg["label_names"], [*two.config.id2label.values()]], "said": []}
for path in photos:
    photo = Image.open(path).convert("RGB")
    logits = one(transform(photo)[None]), two(**prepare(photo, return_tensors="pt")).logits
    told["said"].append([each.softmax(-1)[0].tolist() for each in logits])
assert "stockpot" not in sys.modules
print(json.dumps(told))
"""


def elsewhere(code: str, *arguments: str, **environment: str) -> str:
    """Run code in a process of its own; return what it printed."""
    env = os.environ | {"no_proxy": "127.0.0.1"} | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["lite", "large"])
def test_timm_and_transformers_say_what_the_model_says(trained, published, photos, name):
    """In a process without stockpot, from the photo on, with their own preprocessing: calibrated probabilities."""
    folder, _ = published
    told = json.loads(elsewhere(OTHERS, str(folder / name), *map(str, photos)))
    assert told["names"] == [list(load_model(trained[name]).model.class_names)] * 2
    for said, prediction in zip(told["said"], predict(trained[name], photos), strict=True):
        assert said[0] == pytest.approx(prediction.probabilities, abs=1e-4)
        assert said[1] == pytest.approx(prediction.probabilities, abs=1e-4)


def test_the_folder_holds_a_card_a_picture_and_an_onnx_file(trained, published):
    """Readable by all, no path of this computer, and the photo on the card is told of."""
    folder, said = published
    files = sorted(file.name for file in (folder / "lite").iterdir())
    assert files == ["README.md", "config.json", "example.png", "model.onnx", "model.safetensors"]
    assert {file.stat().st_mode & 0o777 for file in (folder / "lite").iterdir()} == {0o666 & ~0o022}
    card = (folder / "lite" / "README.md").read_text("utf-8")
    evaluation = trained["lite"].evaluation
    low, high = evaluation.interval
    assert f"**{evaluation.accuracy:.1%}** of {evaluation.n} photos" in card
    assert f"{low:.1%} to {high:.1%}" in card and "CC BY-NC-SA 4.0 (" in card and "Deitsch" in card
    everything = b"".join(file.read_bytes() for file in (folder / "lite").iterdir())
    assert str(Path.home()).encode() not in everything and b"/tmp/" not in everything
    assert any(stage.startswith("the card shows ") and "--no-example" in stage for stage in said)
    assert (
        onnxruntime.InferenceSession(folder / "lite" / "model.onnx").get_outputs()[0].name == "probabilities"
    )
    picture = np.asarray(Image.open(folder / "lite" / "example.png").convert("HSV"))
    assert (picture[..., 1] > 100).mean() > 0.02, "some of it is in color"


def test_what_timm_does_not_have_is_published_as_onnx_alone(lab, tmp_path):
    """Xception at 256 pixels pools otherwise there; the small network is ours. Both are said."""
    for name, reason in (("probe", "train with --image-size 264"), ("scratch", "does not have the network")):
        said: list[str] = []
        run = next(run for run in lab.study.runs if run.name == name)
        publish(run, tmp_path / name, "", progress=lambda stage, done, total, said=said: said.append(stage))
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == ["README.md", "model.onnx"]
        card = (tmp_path / name / "README.md").read_text("utf-8")
        assert any(reason in stage for stage in said) and reason in card and "library_name: onnx" in card


def test_what_a_killed_publish_left_in_an_empty_folder_is_nothing(lab, tmp_path):
    """The folder is given again, and a day later it is gone."""
    rest = tmp_path / "out" / ".0123456789abcdef.stockpot-tmp"
    rest.mkdir(parents=True)
    os.utime(rest, (0, 0))
    publish(next(run for run in lab.study.runs if run.name == "scratch"), tmp_path / "out", "")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", "model.onnx"]


def test_nothing_is_overwritten_and_nothing_half_done_stays(trained, tmp_path, monkeypatch):
    """A folder that holds something, a photo that is none, a network of timm that computes something else."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("precious")
    with pytest.raises(WrongUse, match="holds something already"):
        publish(trained["lite"], tmp_path / "mine")
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(UnreadablePhoto, match="is not an image"):
        publish(trained["lite"], tmp_path / "new", tmp_path / "no.png")
    with pytest.raises(WrongUse, match="leave --public out"):
        publish(trained["lite"], tmp_path / "new", public=True)
    with pytest.raises(WrongUse, match="--to FOLDER"):
        publish(trained["lite"], "")
    monkeypatch.setattr(timm_folder, "ITS_EPSILON", 2e-3)
    with pytest.raises(ModelError, match="timm's logits differ"):
        publish(trained["large"], tmp_path / "new", "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "no.png"]
    assert (tmp_path / "mine" / "README.md").read_text() == "precious"


def test_the_folder_may_be_this_one_or_behind_a_link(lab, tmp_path, monkeypatch):
    """An empty one is filled where it is."""
    run = next(run for run in lab.study.runs if run.name == "cifar")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    publish(run, ".")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    publish(run, tmp_path / "link")
    for folder in ("here", "there"):
        assert sorted(file.name for file in (tmp_path / folder).iterdir()) == FILES_OF_ONNX


def test_a_model_on_cropped_photos_is_published_as_onnx_alone(lab):
    """There timm cuts whole pixels out, we do not: what it said of a photo would differ."""
    model = load_model(next(run for run in lab.study.runs if run.name == "probe")).model
    assert "timm crops" in timm_folder.timm_remedy(
        replace(model, preprocessing=replace(model.preprocessing, resize="crop"))
    )


PUBLISH = """
import sys
from stockpot.errors import StockpotError
from stockpot.publishing.publish import publish
try: print(publish(sys.argv[1], sys.argv[2], public=sys.argv[3] == "public"))
except StockpotError as error: print(type(error).__name__, error)
"""


def test_the_hub_takes_it_and_gives_it_back(trained, lab, tmp_path):
    """The real client and a local hub: private unless asked otherwise; timm reads it from there."""
    run = str(trained["lite"].folder)
    with hub() as server:
        at = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        as_ada = {**at, "HF_TOKEN": TOKEN}
        assert elsewhere(PUBLISH, run, "hub", "", **as_ada) == f"{server.address}/ada/solar-cells-lite\n"
        assert elsewhere(PUBLISH, run, "hub:ada/cells", "public", **as_ada).endswith("/ada/cells\n")
        assert server.private == {"ada/solar-cells-lite": True, "ada/cells": False}
        files = server.models["ada/cells"]
        assert sorted(files) == ["README.md", "config.json", "model.onnx", "model.safetensors"]
        code = (
            "import timm; model = timm.create_model('hf-hub:ada/cells', pretrained=True); "
            "print(float(model.classifier.bias.detach().sum()))"
        )
        found = float(elsewhere(code, **{**at, "HF_HOME": str(tmp_path / "another home")}))
        model = load_model(run).model
        assert found == pytest.approx(float(model.bias.sum() / model.calibration.temperature), abs=1e-5)
        public = elsewhere(PUBLISH, run, "hub:ada/cells", "", **as_ada)
        assert public.startswith("WrongUse ada/cells is there already, and public")
        files["mine.txt"] = b"precious"
        other = str(next(one for one in lab.study.runs if one.name == "cifar").folder)
        assert elsewhere(PUBLISH, other, "hub:ada/cells", "public", **as_ada).endswith("/ada/cells\n")
        assert sorted(files) == ["README.md", "mine.txt", "model.onnx"], "no weights of the model before"
        refused = elsewhere(PUBLISH, run, "hub", "", **at, HF_TOKEN="somebody else's")
        assert refused.startswith("HubRefused The hub says no (HTTP 401)")
    assert elsewhere(PUBLISH, run, "hub", "", **at, HF_TOKEN="") == (
        "HubRefused The hub wants to know who you are: hf auth login, or set HF_TOKEN.\n"
    )
    gone = elsewhere(PUBLISH, run, "hub", "", **as_ada)
    assert gone.startswith("HubRefused The hub is not reached (") and "publish to a folder" in gone


def test_a_name_that_the_hub_cannot_have_is_refused(trained):
    """Before anything is computed or asked."""
    names = ("", "ada", "ada/b c", "a/b/c", "ada/über", "ada/a--b", "ada/x.git", "-a/x", f"ada/{'x' * 120}")
    for name in names:
        with pytest.raises(WrongUse, match="--to hub:NAME/MODEL"):
            publish(trained["lite"], f"hub:{name}")


def test_no_name_can_break_the_card(lab, tmp_path):
    """Markup in names and credits stays text, in tables too; many classes and none known figures are no trouble."""
    names = [
        "a|b",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:1)",
        "two\nlines",
        "`code`",
        "*bold*",
        "_it_",
    ]
    names += [f"class {k}" for k in range(200)]
    figures = [ClassFigures(name, 5, 0.5, 0.5) for name in names]
    evaluation = Evaluation(1000, 0.5, (0.4, 0.6), 1.0, ((),), tuple(figures))
    model = ModelFile(
        path=tmp_path / "m.safetensors",
        class_names=tuple(names),
        backbone="<b>xception</b>",
        fingerprint="0" * 12,
        preprocessing=Preprocessing(256, (0, 0, 0), (1, 1, 1), resize="crop"),
        recipe={"keep": "best"},
        metrics={"validation": evaluation.to_json()},
        attribution="<script>alert(1)</script>",
        weight=np.zeros((len(names), 2), np.float32),
        bias=np.zeros(len(names), np.float32),
        learned_from=("0" * 12, "1" * 12),
    )
    rows = [{"licence": "CC | BY", "attribution": "<i>Ada</i>"}]
    for one in (model, replace(model, metrics={}, learned_from=())):
        card = model_card("a *bold* <b>name</b>: x", one, rows, Example(names[1], 0.5, "[credit](x)"))
        front, text = card.removeprefix("---\n").split("\n---\n", 1)
        assert yaml.safe_load(front)["pipeline_tag"] == "image-classification"
        page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
        assert not re.search(
            r"<(b|i|script|em)\b|href|onerror=[^&]*>", page.replace("<em>Predicted", "Predicted")
        )
        assert page.count("<img") == 1, "that of the example"
        if one is model:
            cells = [row.split("|") for row in text.replace("\\|", "/").splitlines() if row.startswith("| ")]
            assert {len(row) for row in cells} == {6} and len(cells) == 1 + len(names)
            assert (
                "flatters" in card and "CC" in card and "not recorded (1)" in card and "middle square" in card
            )
        else:
            assert "has no figures" in card
