"""A model as one HTML page that classifies photos in a browser: no server, no network, no installation.

In it are the model as ONNX, ONNX Runtime Web (`vendor/`) and the scripts in `page/`, which do to a photo what
`photos/preprocessing.py` and `model/overlay.py` do.
"""

import base64
import hashlib
import html
import json
from dataclasses import asdict
from importlib.resources import files
from string import Template

from stockpot import __version__
from stockpot.model.model_file import ModelFile

_SCRIPTS = ("resize.js", "overlay.js", "page.js")


def page_of(model: ModelFile, onnx: bytes) -> bytes:
    """Return the page of a model.

    Args:
        model: what is written about it.
        onnx: the model as `export` makes it.
    """
    room, vendor = files("stockpot.publishing") / "page", files("stockpot.publishing") / "vendor"
    script = "".join((room / name).read_text("utf-8") for name in _SCRIPTS)
    style = (room / "page.css").read_text("utf-8")
    text = Template((room / "page.html").read_text("utf-8")).substitute(
        script=script,
        script_hash=_base64(hashlib.sha256(script.encode()).digest()),
        style=style,
        style_hash=_base64(hashlib.sha256(style.encode()).digest()),
        about=json.dumps(_about(model)).replace("<", "\\u003c"),  # no name ends the script
        licence=html.escape((vendor / "LICENSE.onnxruntime-web").read_text("utf-8")),
        runtime=_base64((vendor / "ort.wasm.bundle.min.mjs").read_bytes()),
        runtime_wasm=_base64((vendor / "ort-wasm-simd-threaded.wasm.gz").read_bytes()),
        model=_base64(onnx),
    )
    return text.encode()


def _about(model: ModelFile) -> dict[str, object]:
    """Return what the page says of the model and needs to know."""
    validation = model.metrics.get("validation", {})
    return {
        "classes": model.class_names,
        "preprocessing": asdict(model.preprocessing),
        "threshold": model.rejection.threshold if model.rejection else None,
        "validation": {name: validation.get(name) for name in ("n", "accuracy", "interval")},
        "chosen": model.recipe.get("keep") == "best",
        "attribution": model.attribution,
        "version": __version__,
    }


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
