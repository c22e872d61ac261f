"""Long work: one piece at a time, on a thread of its own, and what it says for whoever asks."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from stockpot.errors import Busy, StockpotError, sentence_of
from stockpot.learning.runs import Epoch

log = logging.getLogger("stockpot")
Kind = Literal["", "collect", "review", "forecast", "train", "results", "report"]
STOPPABLE = ("collect", "train")
SHORT = ("forecast", "results")  # only look: whatever else is asked for waits until they are done
PATIENCE = 60.0  # seconds to wait for one of them


@dataclass
class Work:
    """One piece of work and how far it is."""

    number: int  # of this server's, from 1
    kind: Kind
    title: str  # what is done, in words
    running: bool = True
    stage: str = ""
    done: int = 0
    total: int = 0
    remark: str = ""  # the last thing it said that is no stage
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    asked_to_stop: bool = False

    def tell(self, stage: str, done: int, total: int) -> None:
        """Note how far it is: `Progress`."""
        if total:
            self.stage, self.done, self.total = stage, done, total
        else:
            self.remark = stage

    def to_json(self) -> dict[str, Any]:
        """Return it as a page is told; epochs only by their number."""
        return vars(self) | {"epochs": len(self.epochs), "stoppable": self.kind in STOPPABLE}


class Worker:
    """Does one piece of work at a time."""

    def __init__(self) -> None:
        self.work = Work(0, "", "", running=False)
        self._lock = threading.Lock()
        self._thread = threading.Thread()

    def doing(self, kind: Kind) -> bool:
        """Tell whether such work is under way."""
        return self.work.running and self.work.kind == kind

    def check_free(self) -> None:
        """Wait for work that only looks; refuse what must not happen beside other work.

        Raises:
            Busy: there is some.
        """
        with self._lock:
            work, thread = self.work, self._thread
        if work.running and work.kind in SHORT:
            thread.join(PATIENCE)
        self._refuse()

    def _refuse(self) -> None:
        if self.work.running:
            stop = ", or stop it" if self.work.kind in STOPPABLE else ""
            raise Busy(f"{self.work.title} is under way: wait until it is done{stop}.")

    def start(self, kind: Kind, title: str, do: Callable[[Work], dict[str, Any]]) -> Work:
        """Begin a piece of work.

        Raises:
            Busy: another one is not done yet.
        """
        self.check_free()
        with self._lock:
            self._refuse()
            self.work = Work(self.work.number + 1, kind, title)
            self._thread = threading.Thread(target=_carry_out, args=(self.work, do), daemon=True)
            self._thread.start()
            return self.work

    def stop(self) -> None:
        """Ask the work to end with what it has."""
        self.work.asked_to_stop = True

    def close(self, seconds: float = 20.0) -> None:
        """Stop, and wait until what there is has been kept."""
        self.stop()
        if self.work.running:
            self._thread.join(seconds)


def _carry_out(work: Work, do: Callable[[Work], dict[str, Any]]) -> None:
    try:
        work.result = do(work)
    except KeyboardInterrupt:
        work.error = f"{work.title}: stopped before there was anything to keep."
    except Exception as error:
        work.error = sentence_of(error)
        if work.error and not isinstance(error, StockpotError):
            log.info("%s failed", work.title, exc_info=True)
        elif not work.error:
            log.exception("%s failed", work.title)
            work.error = f"{work.title} failed: {type(error).__name__}; the terminal says where."
    finally:
        work.running = False
