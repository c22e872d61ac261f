"""A server of this computer, from the first connection to an orderly end."""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stockpot.errors import WrongUse

LOCAL = "127.0.0.1"
CONNECTIONS = 256  # at once
LOOK_SECONDS = (
    10.0  # between looks at a connection: in so long a client must begin a request, and read an answer
)
_SPARE = 64  # open files that are not connections
_SMALLEST = 8  # bytes a line of what a client sends, on average: chunks of a byte each cost more than photos
_FULL = json.dumps({"error": "Too many connections: close some, or try again."}).encode()
_SENT_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)


def listen(app: Any, host: str, port: int, ready: Callable[[str], None], last_seconds: float) -> None:
    """Serve an app until Ctrl-C or SIGTERM; requests that are under way then are answered.

    Args:
        app: an ASGI application.
        host: address to listen on.
        port: 0 takes a free one.
        ready: called with the address; whoever connects from then on is answered.
        last_seconds: that requests may still take at the end.

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
            raise WrongUse(
                f"Port {port} of {host} cannot be used ({reason}): give another --port or --host."
            ) from None
        door.listen()
        ready(f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}")
        uvicorn.Server(configuration(app, last_seconds)).run(sockets=[door])


def configuration(app: Any, last_seconds: float) -> uvicorn.Config:
    """Return how uvicorn serves an app."""
    return uvicorn.Config(
        app, http=_Guarded, log_level="warning", timeout_graceful_shutdown=max(1, round(last_seconds))
    )


def _most_connections() -> int:
    """Return how many connections there may be, fewer where this process may not open so many files."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return CONNECTIONS
    return max(1, min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE))


class _Guarded(H11Protocol):
    """A connection that must get on: uvicorn would wait for ever for headers, and for an answer to be read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.last = self._progress()
        self.timer = self.loop.call_later(LOOK_SECONDS, self.look)
        if len(self.connections) > _most_connections():
            transport.write(_SENT_AWAY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if len(data) > 64 * _SMALLEST and _SMALLEST * data.count(b"\r\n") > len(data):
            self.transport.abort()
        elif not self.transport.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Say that what comes is no HTTP; whoever works on the request before must not answer as well."""
        super().send_400_response(msg)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def look(self) -> None:
        """End the connection if nothing has happened since the last look; an answer may take its time."""
        now = self._progress()
        request, unread = now
        answering = request is not None and not request.response_complete
        if (unread or not answering) and now == self.last:
            self.transport.abort()
            return
        self.last = now
        self.timer = self.loop.call_later(LOOK_SECONDS, self.look)

    def _progress(self) -> tuple[Any, int]:
        """Return the last request, and how many bytes of answers wait to be read."""
        return self.cycle, self.transport.get_write_buffer_size()

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()
        super().connection_lost(exc)
