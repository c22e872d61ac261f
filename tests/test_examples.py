"""The examples run as they stand, on a few photos."""

import ast
import base64
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = ROOT / "examples" / "lab.ipynb"
PHOTOS = 12  # of each class


@pytest.fixture(scope="module")
def few(cells_by_class, tmp_path_factory) -> Path:
    """A folder with a few solar cells of two classes."""
    folder = tmp_path_factory.mktemp("few")
    for label in ("polycrystalline defective", "polycrystalline functional"):
        (folder / label).mkdir()
        for file in cells_by_class[label][:: len(cells_by_class[label]) // PHOTOS][:PHOTOS]:
            shutil.copy(file, folder / label)
    return folder


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_without_outputs():
    """What it shows depends on photos and machine, and is large."""
    cells = read().cells
    assert all(
        cell.outputs == [] and cell.execution_count is None for cell in cells if cell.cell_type == "code"
    )


@pytest.fixture(scope="module")
def ran(few, tmp_path_factory) -> dict[str, list[nbformat.NotebookNode]]:
    """What each cell of the notebook shows when all are run with a small network, by the cell's name."""
    folder = tmp_path_factory.mktemp("notebook")
    settings = {"PROJECT": "lab", "PHOTOS": str(few), "EPOCHS": "2", "LAYERS": "conv_head"}
    environment = {f"LAB_{name}": value for name, value in settings.items()}
    environment |= {"LAB_BACKBONE": "efficientnet_lite0", "IPYTHONDIR": str(folder / "ipython")}
    notebook = read()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute(
        env=os.environ | environment
    )
    assert (folder / "lab" / "report.html").exists()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def shown(outputs: list[nbformat.NotebookNode], kind: str) -> list[str]:
    """What a cell's outputs hold of a kind."""
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_the_notebook_runs_and_shows_its_pictures(ran):
    """Photos as networks get them, curves of four trainings, channels, maps; all are real pictures."""
    for name in ("c2-4", "c3", "c4", "c5", "c5-4", "c6", "c7-1", "c7-3", "c8"):
        pictures = shown(ran[name], "image/png")
        assert pictures, name
        for picture in pictures:
            with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
                assert len(np.unique(np.asarray(image.convert("L")))) > 20, name


def test_the_notebook_shows_its_tables(ran):
    """Split, runs and comparison as HTML; the map by hand is the map."""
    for name, words in (("c2", "polycrystalline defective"), ("c3", "from-scratch"), ("c5-4", "fine-tune")):
        (table,) = shown(ran[name], "text/html")
        assert table.startswith("<table>") and words in table
    (table,) = shown(ran["c5-compare"], "text/html")
    assert all(name in table for name in ("scratch", "cifar", "probe", "tail", "majority"))
    (text,) = shown(ran["c7-2"], "text/plain")
    assert all(abs(value) < 1e-3 for value in ast.literal_eval(text).values())


def test_the_notebook_complains_of_nothing(ran):
    """It says how far it is, and warns of nothing."""
    said = "".join(output.get("text", "") for outputs in ran.values() for output in outputs)
    assert "computing features" in said and "Warning" not in said


@pytest.mark.slow
def test_the_lab_runs_in_commands(few, tmp_path):
    """Every point of the lab, with Xception, from photos to a report in two languages."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "examples" / "lab.sh"), str(few), "cells", "block12"]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": programs}, check=True)
    runs = {path.name for path in (tmp_path / "cells" / "runs").iterdir()}
    assert runs == {"scratch", "cifar", "probe", "tuned"}
    why = tmp_path / "cells-why"
    assert len(list((why / "first").glob("*-channels.png"))) == 1
    assert len(list((why / "right").glob("*-why.png"))) >= 2
    for report in (tmp_path / "cells" / "report.html", why / "report.pl.html"):
        assert report.stat().st_size > 100_000
