import numpy as np
import pytest
import torch

from stockpot.backbones.backbone import load_backbone
from stockpot.backbones.graph import ensure_graph
from stockpot.errors import WrongUse
from stockpot.learning.devices import TorchEngine, device_of, find_device, frozen_engine


def test_a_device_that_is_not_there_is_named_with_its_remedy():
    """A GPU that torch does not find, and a name that is none."""
    assert find_device("cpu").type == "cpu"
    with pytest.raises(WrongUse, match="no device 'tpu'; choose auto, cpu, cuda, mps"):
        find_device("tpu")
    for name in ("cuda", "mps"):
        there = {"cuda": torch.cuda, "mps": torch.backends.mps}[name].is_available()
        if not there:
            with pytest.raises(WrongUse, match=f"no {name} here: .*--device cpu"):
                find_device(name)


def test_torch_gives_the_features_that_onnx_runtime_gives(tmp_path):
    """The engine of GPUs, on the processor: pooled features and maps agree to 1e-4, the network stays as it was."""
    backbone = load_backbone("efficientnet_lite0")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    graph = ensure_graph(tmp_path, backbone.key, lambda: backbone)
    for ours, theirs in zip(
        TorchEngine(backbone, torch.device("cpu")).run(pixels),
        frozen_engine(graph, backbone, torch.device("cpu")).run(pixels),
        strict=True,
    ):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_where_a_module_is():
    """Its parameters' device."""
    assert device_of(torch.nn.Linear(2, 2)).type == "cpu"
