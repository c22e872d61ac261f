"""Several processes that torchrun starts, as its user starts them."""

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

import psutil
import pytest
import torch
from conftest import losses
from torch import nn

from stockpot.errors import WrongUse
from stockpot.learning.classifier import new_head
from stockpot.learning.fitting import _Learning, fit
from stockpot.learning.group import Group, share
from stockpot.learning.inputs import fixed
from stockpot.learning.recipes import Recipe


@dataclass(frozen=True)
class Lonely(Group):
    """One of several processes, whose others are not there."""

    sums: list[torch.Tensor] = field(default_factory=list)

    def add_up(self, tensors):
        """Keep what would be added up."""
        self.sums.extend(tensor.clone() for tensor in tensors)


def test_the_gradients_of_shares_add_up_to_that_of_the_batch():
    """Of uneven shares too, with photos that weigh differently."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), new_head(8, 3, seed=0))
    y = torch.arange(16) % 3
    data = fixed(torch.randn(16, 5) + y[:, None], y)
    rows, worth = torch.randperm(16)[:13], torch.rand(13)
    recipe = Recipe.linear_probe(label_smoothing=0.1)
    whole: list[torch.Tensor] = []
    for count in (1, 3):
        groups = [Lonely(index, count) for index in range(count)]
        for group in groups:
            learning = _Learning(copy.deepcopy(module), data, recipe, "float32", group)
            learning.batch(share(group, rows), share(group, worth), 1)
        sums = [sum(parts) for parts in zip(*(group.sums for group in groups), strict=True)]
        whole = whole or sums
        assert len(sums) == 4 and all(map(torch.Tensor.any, sums))
        for ours, expected in zip(sums, whole, strict=True):
            assert torch.allclose(ours, expected, atol=1e-6)


def test_what_several_processes_cannot_do_as_one_is_refused():
    """Less than a photo each; statistics of whole batches."""
    data = fixed(torch.randn(12, 5), torch.arange(12) % 3)
    for changes, words in (
        ({"batch_size": 2}, "3 processes cannot share batches of 2 photos"),
        ({"batch_norm": "training"}, "BatchNorm that learns from whole batches cannot be shared out"),
    ):
        recipe = Recipe.from_scratch(**{"batch_norm": "inference", **changes})
        with pytest.raises(WrongUse, match=words):
            fit(new_head(5, 3, seed=0), data, data, recipe, group=Group(0, 3))


def test_a_killed_process_goes_on_and_ends_with_what_one_process_learns(lab, tmp_path):
    """Torchrun starts all of them again; the first one prints, the others do not."""
    project = tmp_path / "solar"
    ignored = shutil.ignore_patterns("cache", "probe", "scratch", "tail")
    shutil.copytree(lab.study.project, project, ignore=ignored)
    train = [
        "train",
        project,
        "--recipe",
        "fine-tune",
        "--start",
        project / "runs" / "cifar",
        "--epochs",
        "40",
    ]
    train += ["--learning-rate", "3e-5", "--precision", "float32", "--json", "--quiet"]
    words = [*map(str, train)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    torchrun += ["--no-python", "--", sys.executable, "-m", "stockpot", *words, "--name", "two"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(torchrun, **pipes) as process:
        while not (project / "runs" / "two" / "checkpoint.safetensors").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        ours = psutil.Process(process.pid).children(recursive=True)
        next(one for one in ours if one.environ().get("RANK") == "1").kill()
        printed, said = process.communicate()
    assert process.returncode == 0, said
    alone = [sys.executable, "-m", "stockpot", *words, "--name", "one"]
    one = subprocess.run(alone, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    assert json.loads(printed)["n"] == json.loads(one.stdout)["n"]
    assert losses(project, "two") == pytest.approx(losses(project, "one"), rel=1e-3)
    made = json.loads((project / "runs" / "two" / "environment.json").read_text())
    assert made["processes"] == 2


SCRIPT = """
import sys
import stockpot as sp

project, start = sys.argv[1:]

def train(name, seed=0, **how):
    recipe = sp.Recipe.fine_tune(start=start, epochs=2, seed=seed)
    try:
        print(name, len(sp.train(project, recipe, name=name, **how).history))
    except (Exception, KeyboardInterrupt) as error:
        print(name, type(error).__name__, error)

def odd(epoch):
    raise ValueError("odd")

train("stopped", stop=lambda: True)
train("next")
train("odd", seed=1, watch=odd)
train("late", seed=2)
"""


def test_several_trainings_of_one_script(lab, tmp_path):
    """After one that was stopped before its first epoch comes the next; after one that was given up none does."""
    project, script = tmp_path / "solar", tmp_path / "script.py"
    ignored = shutil.ignore_patterns("cache", "probe", "scratch", "tail")
    shutil.copytree(lab.study.project, project, ignore=ignored)
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*torchrun, str(project), str(project / "runs" / "cifar")], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "stopped KeyboardInterrupt ",
        "next 2",
        "odd ValueError odd",
        "late WorkersLost The other processes wait for a training that was given up: run torchrun again.",
    ], done.stderr
