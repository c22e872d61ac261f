"""Measuring in turns, and what the machine could do at most."""

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from statistics import median
from typing import Any

import onnxruntime
import torch
from onnx import TensorProto, helper

from stockpot.model.engine import available_threads

ROUNDS = 5
FEWER_ROUNDS = 3  # of what takes minutes

Figures = dict[str, Any]


def side_by_side(
    figure: str, ways: dict[str, Callable[[], Figures]], key: str, rounds: int = ROUNDS
) -> Iterator[Figures]:
    """Yield a row a way, after all have taken turns: figures of `key`, and how they compare to the first way.

    Args:
        figure: what is measured.
        ways: each gives its figures; of a key with "seconds" in its name less is better, of others more.
        key: the one that is compared.
        rounds: turns that each way has.
    """
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    usual = next(iter(ways))
    theirs = median(answer[key] for answer in found[usual])
    for name, answers in found.items():
        values = [answer[key] for answer in answers]
        times = theirs / median(values) if "seconds" in key else median(values) / theirs
        row = {"figure": figure, "way": name, "unit": key.replace("_", " "), **spread(values)}
        yield row | along(answers, key) | ({f"times as fast as {usual}": times} if len(ways) > 1 else {})


def spread(values: list[float]) -> Figures:
    """Return median, lowest and highest of some values, and how many there are."""
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def along(answers: list[Figures], key: str) -> Figures:
    """Return what answers have beside a figure: words, the median of numbers, and the largest memory."""
    rest: Figures = {}
    for name, value in answers[0].items():
        if name in (key, "seconds", "megabytes"):
            continue
        if isinstance(value, float):
            rest[name] = median(answer[name] for answer in answers)
        elif isinstance(value, str):
            rest[name] = value
    memory = [answer["megabytes"] for answer in answers if "megabytes" in answer]
    return rest | ({"megabytes": max(memory)} if memory else {})


def with_share(figures: Figures) -> Figures:
    """Return a rate with the machine's peak right after it, and its share of that."""
    highest = peak(figures["precision"])
    share = figures["rate"] * figures["gflop"] / highest
    return figures | {"peak, GFLOP/s": highest, "share of peak": share}


def peak(precision: str, size: int = 2048) -> float:
    """Return GFLOP/s of a product of two square matrices: the most that this machine computes.

    In float32 the better one of torch's and ONNX Runtime's, as either has slow kernels for some processors.
    """
    a, b = (torch.randn(size, size).to(getattr(torch, precision)) for _ in range(2))
    products: list[Callable[[], object]] = [lambda: torch.mm(a, b)]
    if precision == "float32":
        session = _product_of_onnxruntime(size)
        given = {"a": a.numpy(), "b": b.numpy()}
        products.append(lambda: session.run(None, given))
    return 2 * size**3 / min(_fastest(product) for product in products) / 1e9


@cache
def _product_of_onnxruntime(size: int) -> Any:
    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size]) for name in "abc")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _fastest(work: Callable[[], object], times: int = 6) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def whole_process(command: list[str]) -> Figures:
    """Return the seconds of a command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - started}
