"""Plain torch: the same network by an eager loop, as tutorials show it, and pytorch-grad-cam's maps.

`channels_last` is the remedy that PyTorch's own tuning guide names for processors.
"""

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from worker import serve

from stockpot.backbones.backbone import load_backbone

BATCH = 32
state: dict[str, Any] = {}


def load() -> None:
    """Build Xception with GAP and a head of three classes."""
    network = load_backbone("xception").module
    state["network"] = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 3))


def forward(count: int, channels_last: bool = False) -> dict[str, float]:
    """Send noise photos through the network, after one batch that warms up."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = state["network"].eval().to(memory_format=layout)
    photos = torch.randn(BATCH, 3, 256, 256).to(memory_format=layout)
    with torch.no_grad():
        network(photos)
        started = time.perf_counter()
        for _ in range(count // BATCH):
            network(photos)
    return {"rate": count / (time.perf_counter() - started)}


def step(count: int, precision: str) -> dict[str, Any]:
    """Fine-tune all layers with BatchNorm in inference mode, 32 photos a step, 8 at once; one step warms up."""
    network = state["network"].eval().requires_grad_(True).to(memory_format=torch.channels_last)
    photos = torch.randn(8, 3, 256, 256).to(memory_format=torch.channels_last)
    labels = torch.arange(8) % 3
    optimizer = torch.optim.Adam(network.parameters(), 1e-5)
    for repeat in range(1 + count // BATCH):
        if repeat == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        for _ in range(BATCH // 8):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = F.cross_entropy(network(photos).float(), labels) / (BATCH // 8)
            loss.backward()
        optimizer.step()
    return {"rate": count / (time.perf_counter() - started), "precision": precision}


def maps(count: int) -> dict[str, float]:
    """Compute the map of one class by pytorch-grad-cam, photo after photo."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = state["network"].eval().to(memory_format=torch.contiguous_format)
    seconds = []
    with GradCAM(network, [network[0][-1]]) as cam:
        for _ in range(count):
            photo = torch.randn(1, 3, 256, 256)
            started = time.perf_counter()
            cam(photo, [ClassifierOutputTarget(0)])
            seconds.append(time.perf_counter() - started)
    return {"seconds_a_map": float(np.median(seconds))}


if __name__ == "__main__":
    serve({"load": load, "forward": forward, "step": step, "maps": maps})
