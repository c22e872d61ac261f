"""A model as one ONNX file that anything with ONNX Runtime can use, or as one page for a browser.

Neither needs stockpot or torch. The ONNX file's input `pixels` is photos as they are after resizing,
`(N, S, S, 3)`, uint8; it normalizes them itself. Its outputs are `probabilities` `(N, K)`, calibrated; `maps`
`(N, K, h, w)`, the class activation maps, whose mean plus the bias is the logit; `logits` `(N, K)`; and, where the
model can say "none of these", `distances` `(N,)`. What else one needs to know stands in its metadata: class names,
preprocessing, temperature, threshold.

`N` photos, `S` input size, `K` classes, `C` channels, `h`, `w` cells of a map.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockpot import __version__
from stockpot.errors import ModelError, WrongUse
from stockpot.learning.models import Place, graph_of, load_model
from stockpot.model.activation_maps import activation_maps
from stockpot.model.model_file import ModelFile
from stockpot.model.prediction import Predictor, calibrated
from stockpot.progress import Progress, silent
from stockpot.project import replacing
from stockpot.publishing.agreement import check_same
from stockpot.publishing.page import page_of

OPSET = 20  # that the nodes are written in, and the backbone's graph is exported with


def export(place: Place, output: Path | str, progress: Progress = silent) -> Path:
    """Write a model as one file, and check that it computes what the model computes.

    Args:
        place: a run, its folder, a model file, a project, or what `load_model` returned.
        output: the file; `.onnx` for ONNX Runtime, `.html` for a page that classifies photos in a browser.
        progress: told if the backbone has to be exported first.

    Raises:
        ModelError: there is no model, it is damaged, or the file computes something else.
        WrongUse: another ending.
        FolderError: the place cannot be written.
    """
    import onnx

    path = Path(output)
    if path.suffix not in (".onnx", ".html"):
        raise WrongUse(f"{path} must end in .onnx or .html: stockpot export MODEL model.onnx")
    predictor = load_model(place, progress)
    graph = onnx.load(graph_of(predictor.model, progress))
    _add_head(graph, predictor.model)
    _describe(graph, predictor.model)
    onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    _check(content, predictor)
    with replacing(path) as temporary:
        temporary.write_bytes(content if path.suffix == ".onnx" else page_of(predictor.model, content))
    return path


def _add_head(graph: Any, model: ModelFile) -> None:
    """Put head, softmax, maps and distance behind the backbone's features and maps."""
    from onnx import TensorProto, helper, numpy_helper

    if graph.opset_import[0].version != OPSET:
        found = graph.opset_import[0].version
        raise ModelError(f"The backbone's graph has opset {found}, expected {OPSET}: stockpot clean PROJECT")
    backbone_maps = "maps of the backbone"
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == "maps":
                    names[i] = backbone_maps
    constants: dict[str, NDArray[Any]] = {
        "head.weight": model.weight,
        "head.bias": model.bias,
        "head.filters": model.weight[:, :, None, None],
        "head.temperature": np.array(model.calibration.temperature, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], transB=1),
        helper.make_node("Div", ["logits", "head.temperature"], ["head.scaled"]),
        helper.make_node("Softmax", ["head.scaled"], ["probabilities"], axis=1),
        helper.make_node("Conv", [backbone_maps, "head.filters"], ["maps"]),
    ]
    if model.rejection:
        constants |= {
            "head.directions": np.ascontiguousarray(model.rejection.directions.T),
            "head.axis": np.array([1], np.int64),
            "head.one": np.array(1, np.float32),
            "head.tiny": np.array(1e-12, np.float32),
        }
        nodes += [
            helper.make_node("ReduceL2", ["features", "head.axis"], ["head.lengths"], keepdims=1),
            helper.make_node("Max", ["head.lengths", "head.tiny"], ["head.divisors"]),
            helper.make_node("Div", ["features", "head.divisors"], ["head.rays"]),
            helper.make_node("MatMul", ["head.rays", "head.directions"], ["head.cosines"]),
            helper.make_node("ReduceMax", ["head.cosines", "head.axis"], ["head.nearest"], keepdims=0),
            helper.make_node("Sub", ["head.one", "head.nearest"], ["distances"]),
        ]
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    cells = [one.dim_value for one in graph.graph.output[1].type.tensor_type.shape.dim[2:]]
    shapes: dict[str, list[Any]] = {
        "probabilities": [batch, len(model.class_names)],
        "maps": [batch, len(model.class_names), *cells],
        "logits": [batch, len(model.class_names)],
    } | ({"distances": [batch]} if model.rejection else {})
    del graph.graph.output[:]
    graph.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


def _describe(graph: Any, model: ModelFile) -> None:
    """Write down what one needs to know to use it."""
    from onnx import helper

    validation = model.metrics.get("validation", {})
    told = {
        "class_names": json.dumps(model.class_names, ensure_ascii=False),
        "preprocessing": json.dumps(asdict(model.preprocessing)),
        "temperature": f"{model.calibration.temperature}",
        "validation": json.dumps(
            {name: validation[name] for name in ("n", "accuracy") if name in validation}
        ),
        "attribution": model.attribution,
        "stockpot": __version__,
    }
    if model.rejection:
        told["threshold"] = f"{model.rejection.threshold}"
    del graph.metadata_props[:]
    helper.set_model_props(graph, told)


def _check(content: bytes, predictor: Predictor) -> None:
    """Send noise through the ONNX file and through the model.

    Raises:
        ModelError: something differs.
    """
    import onnxruntime

    model, size = predictor.model, predictor.model.preprocessing.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {"pixels": pixels}), strict=True))
    features, maps = predictor.engine.run(pixels)
    logits = predictor.logits(features)
    expected: dict[str, NDArray[Any]] = {
        "probabilities": calibrated(logits, model),
        "maps": np.stack([activation_maps(one, model.weight) for one in maps]),
        "logits": logits,
    }
    if model.rejection:
        expected["distances"] = model.rejection.distances(features)
    for name, values in expected.items():
        check_same(f"The exported {name}", found[name], values, "update onnx and onnxruntime")
