import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from stockpot.backbones.backbone import load_backbone, read_model_backbone
from stockpot.backbones.weights import find_weights
from stockpot.errors import RecipeError, WeightsError
from stockpot.learning.models import predict
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
from stockpot.model.model_file import read_model
from stockpot.photos.preprocessing import read_prepared


@pytest.fixture(scope="module")
def lite():
    """EfficientNet-Lite0 with its ImageNet weights at 256 px."""
    return load_backbone("efficientnet_lite0")


def test_lite_maps_equal_those_of_another_implementation(lite):
    """efficientnet-lite-pytorch is the oracle: equal maps at 224 and 256 px, from the published tensors."""
    from efficientnet_lite_pytorch import EfficientNet

    oracle = EfficientNet.from_name("efficientnet-lite0").eval()
    published = find_weights("efficientnet_lite0", "imagenet").tensors
    oracle.load_state_dict({name: torch.from_numpy(value) for name, value in published.items()}, strict=False)
    for size in (224, 256):
        photo = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            assert torch.equal(lite.feature_maps(photo), oracle.extract_features(photo))


@pytest.mark.parametrize(("name", "index"), [("chelsea", 285), ("coffee", 967), ("motorcycle_left", 665)])
def test_lite_knows_photos_of_known_classes(lite, name, index):
    """An Egyptian cat, an espresso and a moped, through our own reading, preprocessing and weights."""
    path = Path(find_spec("skimage").origin).parent / "data" / f"{name}.png"
    published = find_weights("efficientnet_lite0", "imagenet").tensors
    pixels = torch.from_numpy(np.stack([read_prepared(path, lite.preprocessing)]))
    with torch.no_grad():
        features = lite(pixels).mean(dim=(2, 3)).numpy()
    logits = features @ published["_fc.weight"].T + published["_fc.bias"]
    assert logits.argmax() == index


def test_lite_has_its_own_preprocessing(lite):
    """(x - 127) / 128, and 8 x 8 x 1280 maps at 256 px."""
    assert lite.preprocessing.mean == (127.0,) * 3 and lite.preprocessing.std == (128.0,) * 3
    assert lite(torch.zeros(1, 256, 256, 3, dtype=torch.uint8)).shape == (1, 1280, 8, 8)
    assert "EfficientNet-Lite0" in lite.attribution


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_what_does_not_end_with_gap_and_linear_is_refused(name, tmp_path):
    """A convolution after pooling, tokens instead of maps, a norm after pooling: maps would not add up."""
    weights = tmp_path / "w.safetensors"
    save_file(timm.create_model(name).state_dict(), weights)
    with pytest.raises(RecipeError, match=f"{name} does not end with GAP"):
        load_backbone(name, str(weights))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_timm_model_is_filled_from_a_file(tmp_path, suffix):
    """With the layer that is cut off or without it; maps equal timm's own; its own preprocessing."""
    torch.manual_seed(1)
    model = timm.create_model("test_resnet").eval()
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    backbone = load_backbone("test_resnet", str(path))
    photo = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(backbone.feature_maps(photo), model.forward_features(photo))
    assert backbone.preprocessing.image_size == 160
    assert np.allclose(backbone.preprocessing.mean, 255 * np.array(model.pretrained_cfg["mean"]))


def test_a_file_of_another_network_names_the_first_difference(tmp_path):
    """Path, name, expected and found shape."""
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth does not fit resnet10t: .* expected .*, found") as caught:
        load_backbone("resnet10t", str(tmp_path / "w.pth"))
    assert str(tmp_path) in str(caught.value)


def test_a_pth_that_holds_code_is_not_run(tmp_path):
    """Only tensors are unpickled."""

    class Trap:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/sprung",))

    torch.save({"state_dict": Trap()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_backbone("test_resnet", str(tmp_path / "w.pth"))
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_name_suggests_others():
    """Ours, and timm's that begin alike."""
    with pytest.raises(RecipeError, match=r"choose one of xception.*timm has resnet18"):
        load_backbone("resnett18")


def test_a_probe_on_a_timm_model_trains_and_travels(solar, tmp_path):
    """`--backbone NAME` with its own size and preprocessing; the file is built anew without the hub."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "features", "report.html"))
    run = train(copy, Recipe.linear_probe("efficientnet_lite0"))
    assert run.recipe["image_size"] == 256 and run.audit.passed
    assert run.audit.trained_parameters == 1280 * 4 + 4
    assert run.checks.map_identity < 1e-4
    again = read_model_backbone(read_model(run.model_path))
    assert again.num_features == 1280
    photo = next(iter((copy / "photos").rglob("*.png")))
    (answer,) = predict(run, [photo])
    assert sum(answer.probabilities) == pytest.approx(1)


class _Hub(http.server.SimpleHTTPRequestHandler):
    """What the hub answers for one file of one model."""

    def do_GET(self):
        name = self.path.split("/")[-1]
        file = Path(self.directory) / name
        if "/resolve/" not in self.path or not file.exists():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


def test_published_weights_come_from_the_hub(tmp_path, monkeypatch):
    """The real client, a local hub: the very weights; without it, a sentence."""
    torch.manual_seed(2)
    model = timm.create_model("test_resnet").eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Hub, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    code = (
        "from stockpot.backbones.backbone import load_backbone\n"
        "from stockpot.errors import StockpotError\n"
        "try: print(float(load_backbone('test_resnet').weights()['conv1.0.weight'].sum()))\n"
        "except StockpotError as error: print(error)"
    )

    def ask(endpoint: str, home: Path) -> str:
        env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "no_proxy": "127.0.0.1"}
        answer = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        return answer.stdout

    try:
        found = ask(f"http://127.0.0.1:{server.server_port}", tmp_path / "home")
        assert float(found) == float(model.state_dict()["conv1.0.weight"].sum())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused = ask("http://127.0.0.1:9", tmp_path / "empty")
    assert "weights of test_resnet cannot be had" in refused and "--start FILE" in refused
