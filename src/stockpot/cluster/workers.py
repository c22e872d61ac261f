"""Workers on a Ray cluster: how many, where, and work handed out to them so that a lost one loses nothing."""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stockpot.cluster.parts import Part
from stockpot.cluster.storage import reason_of
from stockpot.errors import WorkersLost, WrongUse
from stockpot.progress import Progress, remark, silent

_SETTINGS = {  # unless the user says otherwise
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers have this environment, not one of their own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",  # after which we count again who is there
}
_RESTARTS = 100  # of a worker
_TIMES = 4  # that a part is begun
_PATIENCE = 30.0  # seconds without a word
_KEPT = "what is done is kept, the same command goes on."


@contextmanager
def cluster(address: str = "") -> Iterator[None]:
    """Be connected to a Ray cluster; one that was started for this is stopped at the end.

    Raises:
        WrongUse: Ray is not installed, or no cluster answers there.
        WorkersLost: it answers no more.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise WrongUse("Ray is not installed: pip install 'stockpot[cluster]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(address)
            how = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
            try:
                ray.init(address or None, **how)
            except ConnectionAbortedError:
                # Ray's server for clients now and then cannot start a process (2.60)
                ray.init(address, **how)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise WrongUse(
                f"No Ray cluster answers at {address or 'RAY_ADDRESS'} ({reason_of(error)}): `ray start --head` "
                f"starts one."
            ) from None
    shown = ray._private.worker._worker_logs_enabled
    ray._private.worker._worker_logs_enabled = False  # it would print on stdout, which carries data only
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        said = ray.exceptions  # these say more than that it is gone
        if isinstance(
            error, said.RayTaskError | said.ObjectStoreFullError | said.OutOfDiskError | BrokenPipeError
        ):
            raise
        raise WorkersLost(f"The cluster was lost ({reason_of(error)}): the same command goes on.") from None
    finally:
        ray._private.worker._worker_logs_enabled = shown
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens; Ray itself tries for long, and complains on stderr."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def rooms(number: int | None, by_node: bool = False, most: int | None = None) -> tuple[int, int, bool]:
    """Return how many workers there are to be, how many processors each can have, and whether each has a GPU.

    Args:
        number: of workers; by default one a GPU, or one a processor where there is no GPU.
        by_node: in place of one a processor, as many as there are nodes.
        most: of them, where nobody has said how many.

    Raises:
        WrongUse: there are not so many processors.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    processors = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    usual = sum(gpus) or (sum(map(bool, processors)) if by_node else sum(processors))
    number = number or min(usual, most or usual)
    on_gpu = number <= sum(gpus)
    places = list(zip(processors, gpus if on_gpu else processors, strict=True))
    if not 1 <= number <= sum(map(min, places)):
        raise WrongUse(
            f"{number} workers need a processor each and Ray has {sum(processors)}: give fewer --workers."
        )
    return number, _threads(places, number), on_gpu


def left_of(number: int, on_gpu: bool) -> int:
    """Return how many of some workers there is room for, where a node may not have come back."""
    import ray

    room = sum(
        int(node["Resources"].get("GPU" if on_gpu else "CPU", 0)) for node in ray.nodes() if node["Alive"]
    )
    return max(1, min(number, room))


def start(kind: type, number: int | None) -> list[Any]:
    """Start as many workers as `rooms` says, spread over the nodes."""
    import ray

    number, threads, on_gpu = rooms(number)
    options = {"num_cpus": threads, "num_gpus": int(on_gpu), "scheduling_strategy": "SPREAD"}
    remote = ray.remote(max_restarts=_RESTARTS, max_task_retries=-1, **options)(kind)
    return [remote.remote(threads, "auto" if on_gpu else "cpu") for _ in range(number)]


def _threads(rooms: list[tuple[int, int]], workers: int) -> int:
    """Return how many processors a worker can have so that all fit.

    Args:
        rooms: of every node its processors, and how many workers may be there.
        workers: on all nodes.
    """

    def fits(threads: int) -> bool:
        return sum(min(processors // threads, most) for processors, most in rooms) >= workers

    return max(filter(fits, range(1, max(processors for processors, _ in rooms) + 1)))


def share_out(
    parts: Iterator[Part],
    kind: type,
    settings: tuple[Any, ...],
    number: int | None = None,
    progress: Progress = silent,
) -> Iterator[tuple[str, int]]:
    """Start workers, give each that is idle the next part, and yield where a part was made, and of how many photos.

    A part whose worker dies goes to the next one that is idle. Ray starts that worker again; no part waits for it.

    Args:
        parts: the work.
        kind: is called as `kind(threads, device)`; it has `ready([settings])`, which returns its node, and
            `make(part, [settings])`, which returns its photos; `settings` is a reference for `ray.get`.
        settings: of every worker; they travel to a node once.
        number: of workers; by default one a GPU, or one a processor where there is no GPU.
        progress: told of workers that died.

    Raises:
        WrongUse: there are not so many processors.
        WorkersLost: the workers of a part died again and again, or none is left.
    """
    import ray

    # Not for `kind`: Ray warns that a worker that is started again may not find them
    hands = _Hands(parts, [ray.put(settings)], progress)
    for worker in start(kind, number):
        hands.greet(worker)
    while hands.give() or hands.at_work():
        yield from hands.take()
    if hands.failed:
        failed = ", ".join(map(str, hands.failed))
        raise WorkersLost(
            f"Part {failed} was not made, {_TIMES} workers died of it{hands.death}: give them more memory, or take "
            f"out the photo that does it; {_KEPT}"
        )


class _Hands:
    """Who does what right now."""

    def __init__(self, parts: Iterator[Part], settings: list[Any], progress: Progress) -> None:
        self.parts, self.settings, self.progress = parts, settings, progress
        self.again: deque[Part] = deque()  # their worker died
        self.begun: Counter[int] = Counter()  # by a part's number, of those that were
        self.failed: list[int] = []
        self.idle: list[tuple[Any, str]] = []  # workers and their nodes
        self.busy: dict[Any, tuple[Any, str, Part | None]] = {}  # by what ray.wait takes; no part: it starts
        self.death = ""  # how the last one died

    def greet(self, worker: Any) -> None:
        """Have a worker say when it is ready; one that died waits until Ray has started it again."""
        self.busy[worker.ready.remote(self.settings)] = (worker, "", None)

    def give(self) -> bool:
        """Give parts to those who are idle; tell whether there may be more."""
        while self.idle:
            part = self.again.popleft() if self.again else next(self.parts, None)
            if part is None:
                return False
            worker, node = self.idle.pop()
            self.busy[worker.make.options(max_task_retries=0).remote(part, self.settings)] = (
                worker,
                node,
                part,
            )
        return True

    def at_work(self) -> bool:
        """Tell whether somebody makes a part."""
        return any(part for _, _, part in self.busy.values())

    def take(self) -> Iterator[tuple[str, int]]:
        """Wait until somebody is done, and yield what was made."""
        import ray

        if not self.busy:
            raise WorkersLost(f"No worker is left{self.death}: {_KEPT}")
        answers, _ = ray.wait(list(self.busy), timeout=_PATIENCE)
        if not answers:
            if not self.at_work():
                remark(self.progress, "Waiting for free processors on the cluster.")
            return
        answer = answers[0]
        worker, node, part = self.busy.pop(answer)
        try:
            found = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # also out of memory, or its node is gone
            self.death = f" ({reason_of(error)})"
            if part is not None:
                self.lose(worker, part)
            return
        self.idle.append((worker, node or found))
        if part is not None:
            yield node, found

    def lose(self, worker: Any, part: Part) -> None:
        """Put a part back whose worker died, unless it is the part's fault."""
        self.begun[part.number] += 1
        if self.begun[part.number] < _TIMES:
            self.again.append(part)
            remark(self.progress, f"A worker died making part {part.number}; the part goes to the next one.")
        else:
            self.failed.append(part.number)
            remark(self.progress, f"A worker died making part {part.number}, the last of {_TIMES}.")
        self.greet(worker)
