"""`train` and `study` with the heavy things on a Ray cluster: forward passes of frozen networks, and fine-tuning.

The project stays where it is. Photos travel as pixels, what a network makes of them comes back, and of a training
its epochs, its checkpoints and in the end its weights: nobody else needs the project or the pretrained weights.
`N` photos, `S` input size, `C` channels, `h`, `w` cells of a feature map.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from stockpot import project as disk
from stockpot.cluster.storage import reason_of
from stockpot.cluster.workers import cluster, left_of, rooms, start
from stockpot.errors import WorkersLost
from stockpot.learning.checkpoint import Checkpoint, Optimizers
from stockpot.learning.compute import Compute, Fitted, Fitting, Here, Job, done_here, packed
from stockpot.learning.devices import find_device
from stockpot.learning.group import distributed
from stockpot.learning.runs import Epoch
from stockpot.model.engine import BATCH_SIZE, Engine, load_engine
from stockpot.progress import remark

_TIMES = 4  # that a training is begun
_PATIENCE = 30.0  # seconds until somebody begins
_REST = 10.0  # seconds before all begin again where nobody could
_LISTENING = 0.2  # seconds between two looks at what the first worker says


@contextmanager
def on_ray(address: str = "", workers: int | None = None) -> Iterator[Compute]:
    """Yield what `train` and `study` take as `compute`: a Ray cluster.

    Args:
        address: `ray://HOST:10001` or `HOST:6379`; by default the cluster that runs here or that `RAY_ADDRESS`
            names, else one is started on this computer.
        workers: processes; by default one a GPU, where there is none one a processor for forward passes, and one
            a node for training.

    Raises:
        WrongUse: there is no cluster, or it has not so many processors.
    """
    with cluster(address):
        _, _, on_gpu = rooms(workers)
        yield _Ray(workers, on_gpu)


@dataclass(frozen=True)
class _Ray:
    """The cluster that this process is connected to."""

    workers: int | None  # that were asked for
    on_gpu: bool

    @property
    def left(self) -> int | None:
        """Workers that were asked for and that there still is room for."""
        return self.workers and left_of(self.workers, self.on_gpu)

    def engine(self, graph: Path, network: nn.Module) -> Engine:
        """Return what has the workers run a frozen network."""
        import ray

        return _Spread(_ready(start(_Runner, self.left)), [ray.put(graph.read_bytes())])

    def fit(self, fitting: Fitting) -> Fitted:
        """Train a module with all workers, each with its share of every batch.

        Raises:
            WorkersLost: workers died again and again.
        """
        if not fitting.can_be_shared:
            return done_here(fitting, Here(find_device("auto")))
        return _Training(fitting, self).run()


def _ready(runners: list[Any]) -> list[Any]:
    """Return those of some workers that run soon: where others use the cluster too, not all may find room."""
    import ray

    asked = {runner.ready.remote(): runner for runner in runners}
    here, late = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE)
    if not here:
        logging.getLogger("stockpot").warning("Waiting for free processors on the cluster.")
        here, late = ray.wait(list(asked), num_returns=1)
    for one in late:
        ray.kill(asked[one])
    return [asked[one] for one in here]


class _Spread:
    """A frozen network on all workers, as an engine."""

    def __init__(self, runners: list[Any], settings: list[Any]) -> None:
        self.runners, self.settings = runners, settings
        self.at_once = 2 * BATCH_SIZE * len(runners)

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return pooled features `(N, C)` and feature maps `(N, C, h, w)` of `(N, S, S, 3)` pixels."""
        import ray

        lots = [lot for lot in np.array_split(pixels, len(self.runners)) if len(lot)]
        runners = self.runners[: len(lots)]
        asked = [
            runner.run.remote(self.settings, ray.put(lot)) for runner, lot in zip(runners, lots, strict=True)
        ]
        try:
            features, maps = zip(*ray.get(asked), strict=True)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise WorkersLost(f"A worker was lost ({reason_of(error)}): the same command goes on.") from None
        return np.concatenate(features), np.concatenate(maps)


class _Runner:
    """A worker that runs a frozen network."""

    def __init__(self, threads: int, device: str) -> None:
        self.threads, self.device = threads, device
        self.engine: Engine | None = None

    def ready(self) -> None:
        """Say that it runs."""

    def run(
        self, settings: list[Any], pixels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features and maps of pixels."""
        import ray

        if self.engine is None:
            self.engine = load_engine(ray.get(settings[0]), self.threads, self.device)
        return self.engine.run(pixels)


@dataclass
class _Messages:
    """What the first worker and the one who asked leave for each other; an actor."""

    taken_up: bytes  # the latest checkpoint
    stopping: bool = False
    said: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def say(self, word: str, *what: Any) -> None:
        """Leave a word for the one who asked."""
        if word == "checkpoint":
            (self.taken_up,) = what
        self.said.append((word, what))

    def stop(self) -> bool:
        """Tell the first worker whether to stop."""
        return self.stopping

    def latest(self) -> bytes:
        """Return the checkpoint to go on from."""
        return self.taken_up

    def hear(self, stop: bool) -> list[tuple[str, tuple[Any, ...]]]:
        """Return what was said since the last call."""
        self.stopping = stop
        said, self.said = self.said, []
        return said


class _Told(Checkpoint):
    """A checkpoint on another computer: somebody is told its bytes, none when it is deleted."""

    def __init__(self, checkpoint: Checkpoint, tell: Callable[[bytes], None]) -> None:
        super().__init__(checkpoint.path, checkpoint.origin)
        self.tell = tell

    def save(self, tensors: Mapping[str, Tensor], optimizers: Optimizers, state: Any) -> None:
        """Replace the file, and tell."""
        super().save(tensors, optimizers, state)
        self.tell(self.path.read_bytes())

    def delete(self) -> None:
        """Delete the file, and tell."""
        super().delete()
        self.tell(b"")


class _Training:
    """One training on a cluster, seen from where it was asked for."""

    def __init__(self, fitting: Fitting, cluster: _Ray) -> None:
        self.fitting, self.cluster = fitting, cluster
        self.at_work = False  # the first worker has begun, and none has died since
        self.waited = time.monotonic()  # since when
        self.told = 0  # epochs that `watch` knows of
        self.outcome: Fitted | Exception | None = None

    def run(self) -> Fitted:
        """Wait for its end, hand on what is said in between, and put what was learned into the module."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        job = packed(self.fitting)
        node = ray.get_runtime_context().get_node_id()  # not one that comes and goes
        # soft would place what needs no processor anywhere (Ray 2.60)
        beside = NodeAffinitySchedulingStrategy(node, soft=False)
        messages = ray.remote(num_cpus=0, scheduling_strategy=beside)(_Messages).remote(job.taken_up)
        settings = {"messages": messages, "job": [ray.put(job)]}
        lost = 0
        try:
            while self.outcome is None:
                failure = self._begin(messages, settings)
                lost += self.outcome is None and not _found_no_room(failure)
                if lost == _TIMES:
                    raise WorkersLost(
                        f"The training was lost {lost} times ({reason_of(failure)}): look whether its workers have "
                        f"memory enough and the packages of this process; the same command goes on."
                    )
        except BaseException:
            with suppress(Exception):
                messages.hear.remote(True)  # the workers need not go on
            raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def _begin(self, messages: Any, settings: dict[str, Any]) -> Exception:
        """Have all workers train until it is done or one of them dies; return what Ray ended with.

        Raises:
            WrongUse: there are not so many processors.
            KeyboardInterrupt: it is to stop, and nobody works who could complete an epoch.
        """
        ended: Future[Exception] = Future()
        workers = rooms(self.cluster.left, by_node=True, most=self.fitting.most_processes)
        how = (settings, *workers, ended)
        threading.Thread(target=_have_ray_train, args=how, daemon=True).start()
        self.at_work = False
        while True:
            done = bool(wait([ended], _LISTENING).done)
            stop = self.fitting.stop()
            self._hear(messages, stop)
            if done:
                break
            if stop and not self.at_work:
                raise KeyboardInterrupt
            if self.at_work:
                self.waited = time.monotonic()
            if time.monotonic() - self.waited > _PATIENCE:
                self.waited = time.monotonic()
                remark(self.fitting.progress, "Waiting for free processors on the cluster.")
        if self.at_work and self.outcome is None:
            remark(self.fitting.progress, "A worker died; all go on from the last checkpoint.")
        elif self.outcome is None:
            self._rest()
        return ended.result()

    def _rest(self) -> None:
        """Give the cluster time to notice that a node is gone."""
        until = time.monotonic() + _REST
        while time.monotonic() < until:
            if self.fitting.stop():
                raise KeyboardInterrupt
            time.sleep(_LISTENING)

    def _hear(self, messages: Any, stop: bool) -> None:
        """Do what the workers' words ask for."""
        import ray

        for word, what in ray.get(messages.hear.remote(stop)):
            getattr(self, f"_on_{word}")(*what)

    def _on_begin(self) -> None:
        self.at_work = True

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        self.fitting.progress(stage, done, total)

    def _on_epoch(self, epoch: Epoch) -> None:
        if epoch.number > self.told:  # after a checkpoint they come again
            self.told = epoch.number
            self.fitting.watch(epoch)

    def _on_checkpoint(self, data: bytes) -> None:
        assert self.fitting.checkpoint is not None, "what can be shared has one"
        if data:
            disk.write_bytes(self.fitting.checkpoint.path, data)
        else:
            self.fitting.checkpoint.delete()

    def _on_end(self, fitted: Fitted, state: bytes) -> None:
        self.outcome = fitted
        # frozen layers too: for the audit
        self.fitting.module.load_state_dict(safetensors.torch.load(state))
        self.fitting.module.eval()

    def _on_failure(self, error: Exception) -> None:
        self.outcome = error


def _have_ray_train(
    settings: dict[str, Any], number: int, threads: int, on_gpu: bool, ended: "Future[Exception]"
) -> None:
    """Have Ray start workers, and wait until they are done or one of them has died."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    # how many there can be is looked up before each new beginning: a node may not come back
    once = FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            TorchTrainer(
                _take_part,
                train_loop_config=settings,
                scaling_config=ScalingConfig(
                    num_workers=number,
                    use_gpu=on_gpu,
                    resources_per_worker={"CPU": threads, "GPU": int(on_gpu)},
                    placement_strategy="SPREAD",
                ),
                run_config=RunConfig(storage_path=folder, failure_config=once),
            ).fit()
        ended.set_result(Exception("it ended without a word"))
    except Exception as error:  # noqa: BLE001 - looked at where the training was asked for
        ended.set_result(error)


def _found_no_room(failure: Exception) -> bool:
    """Tell whether workers could not be started in time: a node is gone, or others are at work there."""
    cause = type(getattr(failure, "controller_failure", None)).__name__
    return cause in ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")


def _take_part(settings: dict[str, Any]) -> None:
    """Have one's share in a training; the first worker says how it goes."""
    import ray
    from ray.train.torch import get_device

    messages, group = settings["messages"], distributed()

    def say(word: str, *what: Any) -> Any:
        return messages.say.remote(word, *what) if group.index == 0 else None

    say("begin")
    # asked once: all must begin at the same epoch
    latest = [ray.get(messages.latest.remote()) if group.index == 0 else b""]
    dist.broadcast_object_list(latest, src=0)
    job: Job = replace(ray.get(settings["job"][0]), taken_up=latest[0])
    with job.unpacked() as fitting:
        assert fitting.checkpoint is not None, "it is unpacked with one"
        asked = replace(
            fitting,
            checkpoint=_Told(fitting.checkpoint, lambda data: say("checkpoint", data)),
            stop=lambda: group.index == 0 and ray.get(messages.stop.remote()),
            progress=lambda *how: say("progress", *how),
            watch=lambda epoch: say("epoch", epoch),
        )
        try:
            fitted = Here(get_device(), group).fit(asked)
        except Exception as error:
            if not _of_another(error):
                ray.get(messages.say.remote("failure", error))
            raise  # and Ray ends the others
        state = (
            safetensors.torch.save(_on_processor(fitting.module.state_dict())) if group.index == 0 else b""
        )
    ray.get(say("end", fitted, state) or [])


def _of_another(error: Exception) -> bool:
    """Tell whether an error may be that another worker has died: torch.distributed says little about it."""
    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)


def _on_processor(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
