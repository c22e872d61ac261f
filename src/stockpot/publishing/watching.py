"""Around a service: every request is for this server, counted, timed, and ended when it takes too long."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from stockpot.publishing.meters import Meters

PATHS = ("/predict", "/explain", "/model", "/healthz", "/metrics", "/openapi.json")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Watched:
    """An ASGI application with a watch beside it."""

    def __init__(self, app: Any, seconds: float, meters: Meters, hosts: frozenset[str]) -> None:
        self.app, self.seconds, self.meters = app, seconds, meters
        self.hosts = hosts  # names it answers to; none: to all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"
        started, status, arrived = perf_counter(), 0, False

        async def hear() -> Message:
            nonlocal arrived
            message = await receive()
            arrived = arrived or not message.get("more_body", False)
            return message

        async def tell(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        async def refuse(code: int, text: str) -> None:
            await JSONResponse({"error": text}, code, {"Connection": "close"})(scope, receive, tell)

        try:
            with self.meters.in_work.track_inprogress():
                if not self._is_for_us(scope):
                    await refuse(421, f"This server answers only as {', '.join(sorted(self.hosts))}.")
                    return
                try:
                    async with asyncio.timeout(self.seconds):
                        await self.app(scope, hear, tell)
                except TimeoutError:
                    if not status:  # else the answer is not read: its connection will be ended
                        code, what = (503, "The answer took") if arrived else (408, "The request took")
                        text = f"{what} more than {self.seconds:g} seconds: try again, or send less at once."
                        await refuse(code, text)
                except ClientDisconnect:
                    status = 499  # as others count those who have gone
        finally:
            self.meters.requests.labels(path, str(status or 500)).inc()
            self.meters.seconds.labels(path).observe(perf_counter() - started)

    def _is_for_us(self, scope: Scope) -> bool:
        """Tell whether a request names this server: a page elsewhere may point its name here (DNS rebinding)."""
        named = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        host = named if named.endswith("]") else named.rpartition(":")[0] or named
        return not self.hosts or host.strip("[]") in self.hosts
