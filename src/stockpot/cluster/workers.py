"""Workers on a Ray cluster: how many, where, and work handed out to them so that a lost one loses nothing."""

import itertools
import os
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stockpot.cluster.parts import Part
from stockpot.errors import RowsLost, WrongUse

_RESTARTS = 100  # of a worker
_TIMES = 4  # that a part is begun whose worker died


@contextmanager
def cluster(address: str = "") -> Iterator[None]:
    """Be connected to a Ray cluster; one that was started for this is stopped at the end.

    Raises:
        WrongUse: Ray is not installed, or no cluster answers there.
    """
    quiet = ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
    for name in quiet:  # no telemetry, no second environment, no warning
        os.environ.setdefault(name, "0")
    try:
        import ray
    except ImportError:
        raise WrongUse("Ray is not installed: pip install 'stockpot[cluster]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address or None, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise WrongUse(
                f"No Ray cluster answers at {address or 'RAY_ADDRESS'} ({reason}): `ray start --head` starts one."
            ) from None
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def start_workers(kind: type, settings: tuple[Any, ...], number: int | None) -> list[Any]:
    """Start workers, spread over the nodes; each is `kind(threads, device, *settings)` and has `make(part)`.

    Raises:
        WrongUse: there are not so many processors.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    processors = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    number = number or gpus or sum(processors)
    if not 1 <= number <= sum(processors):
        raise WrongUse(f"{number} workers need as many processors, Ray has {sum(processors)}: fewer --workers.")
    threads = _threads(processors, number)
    on_gpu = gpus >= number
    ready = _ready_class(kind)
    remote = ray.remote(
        num_cpus=threads,
        num_gpus=int(on_gpu),
        max_restarts=_RESTARTS,
        max_task_retries=-1,
        scheduling_strategy="SPREAD",
    )(ready)
    shared = [ray.put(setting) for setting in settings]
    return [remote.remote(threads, "auto" if on_gpu else "cpu", *shared) for _ in range(number)]


def _threads(processors: list[int], workers: int) -> int:
    """Return how many processors each worker can have, so that all of them fit on the nodes."""
    possible = range(1, max(processors) + 1)
    return max(each for each in possible if sum(has // each for has in processors) >= workers)


def _ready_class(kind: type) -> type:
    return kind


def hand_out(parts: Iterator[Part], workers: list[Any]) -> Iterator[tuple[str, int]]:
    """Give every idle worker the next part; yield where a part was made, and of how many photos.

    A part whose worker dies goes to another. A worker that died is started again by Ray, and nothing waits for it.

    Raises:
        RowsLost: the workers of a part died again and again, or no worker is left.
    """
    import ray
