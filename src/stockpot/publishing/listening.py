"""A server of this computer, from the first connection to an orderly end."""

import os
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stockpot.errors import WrongUse

LOCAL = "127.0.0.1"
HEADERS_SECONDS = 10.0  # that a client may take to say what it wants


def listen(
    app: Any,
    host: str,
    port: int,
    ready: Callable[[str], None],
    last_seconds: float,
    connections: int | None = None,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM; requests that are under way then are answered.

    Args:
        app: an ASGI application.
        host: address to listen on.
        port: 0 takes a free one.
        ready: called with the address when it answers.
        last_seconds: that requests may still take at the end.
        connections: at once; whoever comes then is told so (503).

    Raises:
        WrongUse: the address or port is taken or none.
    """
    if not 0 <= port < 2**16:
        raise WrongUse(f"port is {port}; expected 1 to 65535, or 0 for a free one.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: else asyncio leaves Nagle's algorithm on, and an answer in two pieces waits 40 ms
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as door:
        if os.name != "nt":  # else the port of a server that was just stopped is taken for a minute
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise WrongUse(f"Port {port} of {host} cannot be used ({reason}): give another --port.") from None
        door.listen()
        ready(f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            http=_Impatient,
            log_level="warning",
            limit_concurrency=connections,
            timeout_graceful_shutdown=max(1, round(last_seconds)),
        )
        uvicorn.Server(config).run(sockets=[door])


class _Impatient(H11Protocol):
    """Closes connections that begin a request and do not finish its headers, which uvicorn would wait for."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.last = self.cycle
        self.timer = self.loop.call_later(HEADERS_SECONDS, self.look)

    def look(self) -> None:
        """Close where no request has come since the last look; one that is being answered may take its time."""
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self.cycle is self.last:
            self.transport.close()
            return
        self.last = self.cycle
        self.timer = self.loop.call_later(HEADERS_SECONDS, self.look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()
        super().connection_lost(exc)
