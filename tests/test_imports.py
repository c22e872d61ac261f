"""What a fresh process has loaded after an import: the reason why everything starts fast."""

import json
import pkgutil
import subprocess
import sys

import pytest
from conftest import ROOT

import stockpot


def loaded_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(answer.stdout.splitlines()[-1])}


def modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(stockpot.__path__, "stockpot.")]


def test_photos_and_model_never_load_the_heavy_libraries():
    """A finished model runs without torch; photos are read without scikit-learn."""
    rooms = [name for name in modules() if name.startswith(("stockpot.photos", "stockpot.model"))]
    assert len(rooms) > 12
    assert not loaded_after(f"import {', '.join(rooms)}") & {"torch", "timm", "sklearn", "onnxruntime"}


def test_importing_stockpot_loads_nothing():
    """Names are imported when they are used."""
    assert not loaded_after("import stockpot") & {"torch", "numpy", "PIL", "typer"}


def test_help_loads_only_typer_and_rich():
    """`stockpot --help` is there at once."""
    loaded = loaded_after(
        "import sys; sys.argv = ['stockpot', '--help']\nfrom stockpot.cli import app\napp(standalone_mode=False)"
    )
    assert "rich" in loaded
    assert not loaded & {"torch", "numpy", "PIL", "filelock", "jinja2", "scipy", "sklearn", "onnxruntime"}


@pytest.mark.parametrize("name", stockpot.__all__)
def test_every_public_name_is_there(name):
    """Lazy names lead somewhere, and are documented."""
    assert getattr(stockpot, name).__doc__


def test_a_wrong_name_is_refused():
    """With the names there are."""
    with pytest.raises(AttributeError, match="no 'explane'; it has .*explain"):
        stockpot.explane  # noqa: B018


def test_the_maps_of_the_house_name_every_file():
    """README's file map and the package's docstring cannot rot."""
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in (ROOT / "src" / "stockpot").rglob("*.py"):
        if path.name != "__init__.py":
            assert path.stem in (stockpot.__doc__ or ""), path
            assert path.name in readme, path
