"""`torchrun --no-python -- stockpot train ...`: one command in several processes, of which the first one leads.

The others do not run the command. They wait for trainings, get all they need for one from the first, have their
share in it, and end with the first.
"""

import atexit
import functools
import os
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import nn

from stockpot.errors import WorkersLost, WrongUse
from stockpot.learning.compute import Compute, Fitted, Fitting, Here, Job, done_here, packed
from stockpot.learning.devices import find_device
from stockpot.learning.group import distributed
from stockpot.model.engine import Engine

_PATIENCE = timedelta(days=1)  # that others wait while the first one does what only one can do


def here(device: str = "auto") -> Compute:
    """Return what computes in this process and, if torchrun has started more of them, in those.

    In all processes but the first one of torchrun's it does not return: they end when the first one does.

    Args:
        device: as `find_device` takes it.

    Raises:
        WrongUse: there is no such device, or not so many of them.
    """
    where = find_device(device)
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return Here(where)
    if where.type == "mps":
        raise WrongUse("Several processes cannot share this GPU: give --device cpu, or leave out torchrun.")
    if where.type == "cuda":
        number = int(os.environ["LOCAL_RANK"])
        if number >= torch.cuda.device_count():
            raise WrongUse(
                f"There are {torch.cuda.device_count()} GPUs here: give torchrun so many processes."
            )
        torch.cuda.set_device(number)
    return _join(where)


@functools.cache  # a process joins once
def _join(device: torch.device) -> Compute:
    # not in every build of torch
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, index, count = next(rendezvous("env://", timeout=_PATIENCE))
    begun = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)  # else old addresses are found in it
    dist.init_process_group(store=begun, rank=index, world_size=count, timeout=_PATIENCE)
    if dist.get_rank():
        _follow(Here(device, distributed()))
    leader = _Leader(device)
    atexit.register(leader.dismiss)
    return leader


class _Leader:
    """The first process."""

    def __init__(self, device: torch.device) -> None:
        self.alone, self.together = Here(device), Here(device, distributed())
        self.given_up = False  # a training that the others are still at

    def engine(self, graph: Path, network: nn.Module) -> Engine:
        """Return what runs a frozen network, here."""
        return self.alone.engine(graph, network)

    def fit(self, fitting: Fitting) -> Fitted:
        """Train a module, together with the others where that is as good as alone.

        Raises:
            WorkersLost: an earlier training did not come to its end.
        """
        if not fitting.can_be_shared:
            return done_here(fitting, self.alone)
        if self.given_up:
            raise WorkersLost(
                "The other processes wait for a training that was given up: run torchrun again."
            )
        _send(packed(fitting))
        try:
            return self.together.fit(fitting)
        except WrongUse:
            raise  # and so it is in all of them: they wait for what comes next
        except BaseException:
            self.given_up = True
            raise

    def dismiss(self) -> None:
        """Let the others end; those that are still at something are ended by torchrun."""
        if not self.given_up:
            _send(None)
            dist.destroy_process_group()


def _follow(here: Here) -> NoReturn:
    """Take part in trainings until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides what it means
    try:
        while job := _receive():
            with job.unpacked() as fitting, suppress(WrongUse):  # the first process says so
                here.fit(fitting)
    except Exception as error:  # noqa: BLE001 - a script that catches it would go on as a second first process
        sys.exit(f"Process {here.group.index} of {here.group.count} ends: {error}")
    dist.destroy_process_group()
    sys.exit()


def _send(job: Job | None) -> None:
    dist.broadcast_object_list([job], src=0)


def _receive() -> Job | None:
    received: list[Job | None] = [None]
    dist.broadcast_object_list(received, src=0)
    return received[0]
