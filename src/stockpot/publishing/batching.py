"""Photos of many requests through one engine: while it computes, others wait, and go together next.

No request waits for others to come. `S` input size, `C` channels, `h`, `w` cells of a feature map.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from stockpot.model.engine import BATCH_SIZE, Engine
from stockpot.photos.preprocessing import Pixels

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]  # features (C,), maps (C, h, w)


class Batcher:
    """Runs an engine on a thread of its own, at most `BATCH_SIZE` photos at a time."""

    def __init__(self, engine: Engine, told: Callable[[int], None] = lambda photos: None) -> None:
        self._engine = engine
        self._told = told  # how many photos went together
        self._waiting: asyncio.Queue[tuple[Pixels, asyncio.Future[Answer]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)
        self._worker: asyncio.Task[None] | None = None

    async def run(self, pixels: Pixels) -> Answer:
        """Return features and maps of one prepared photo `(S, S, 3)`."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((pixels, future))
        return await future

    async def close(self) -> None:
        """End; nobody waits any more."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        self._thread.shutdown()

    async def _work(self) -> None:
        """Compute what waits, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_SIZE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [one for one in batch if not one[1].cancelled()]  # nobody waits for those any more
            if not batch:
                continue
            self._told(len(batch))
            try:
                pixels = np.stack([pixels for pixels, _ in batch])
                features, maps = await loop.run_in_executor(self._thread, self._engine.run, pixels)
            except Exception as error:  # noqa: BLE001 - those who wait must be told, and others still be served
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for i, (_, future) in enumerate(batch):
                if not future.done():
                    future.set_result((features[i], maps[i]))
