"""A proxy that answers every host itself, over TLS with a throw-away certificate authority.

The real clients are pointed at it by the environment alone (HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE). It listens
on 127.0.0.1; a second port, the canary, must never be reached.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme


@dataclass
class Answer:
    """What a host says."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None  # announced; None: as it is, -1: none
    parts: Callable[[], AsyncIterator[bytes]] | None = None  # a body that comes bit by bit


@dataclass(frozen=True)
class Request:
    """What a client asks a host for."""

    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    target: str  # path and query, as they came


Host = Callable[[Request], Answer]


class StandIn:
    """The local internet; hosts by name, `*` for all others."""

    def __init__(self, folder: Path, hosts: dict[str, Host]) -> None:
        self.hosts = hosts
        self.seen: list[Request] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.canary_hits = 0
        self.authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait(10)

    @property
    def environment(self) -> dict[str, str]:
        """What points every client here."""
        proxy = f"http://127.0.0.1:{self.port}"
        return {
            **{name: proxy for key in ("HTTP_PROXY", "HTTPS_PROXY") for name in (key, key.lower())},
            "SSL_CERT_FILE": str(self.ca_file),
            "NO_PROXY": "",
            "no_proxy": "",
        }

    def asked(self, host: str) -> list[str]:
        """Return what a host was asked for, in order."""
        return [request.target for request in self.seen if request.host == host]

    def close(self) -> None:
        """Stop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)

        async def listen() -> None:
            proxy = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            canary = await asyncio.start_server(self._be_hit, "127.0.0.1", 0)
            self.servers = [proxy, canary]
            self.port, self.canary = (server.sockets[0].getsockname()[1] for server in self.servers)

        self.loop.run_until_complete(listen())
        ready.set()
        self.loop.run_forever()
        for server in self.servers:
            server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for writer in self.writers:
            writer.transport.abort()
        self.loop.run_until_complete(asyncio.sleep(0.05))  # the transports close
        self.loop.close()

    async def _be_hit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.canary_hits += 1
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            host = ""
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while (text := (await reader.readline()).decode().strip()) != "":
                    name, _, value = text.partition(":")
                    headers[name.lower()] = value.strip()
                if method == "CONNECT":
                    host, _, port = target.rpartition(":")
                    if port not in ("80", "443") or _inside(host):
                        self.canary_hits += 1  # through the proxy
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    await writer.drain()
                    await writer.start_tls(self._context(host))
                    continue
                if not await self._answer(host, target, headers, writer):
                    break
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or this server
        finally:
            writer.close()

    def _context(self, host: str) -> ssl.SSLContext:
        if host not in self.contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self.authority.issue_cert(host).configure_cert(context)
            self.contexts[host] = context
        return self.contexts[host]

    async def _answer(
        self, host: str, target: str, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        """Write an answer; tell whether the connection stays open."""
        parts = urlsplit(target)
        host = host or parts.hostname or ""
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path_and_query = parts.path + (f"?{parts.query}" if parts.query else "")
        request = Request(host, parts.path or "/", query, headers, path_and_query)
        self.seen.append(request)
        if host and (parts.port not in (None, 80, 443) or _inside(host)):
            self.canary_hits += 1  # through the proxy
        answer = self.hosts.get(host, self.hosts["*"])(request)
        given = {"Content-Type": "application/octet-stream", **answer.headers}
        length = len(answer.body) if answer.length is None else answer.length
        if length >= 0:
            given["Content-Length"] = str(length)
        else:
            given["Connection"] = "close"
        lines = [f"HTTP/1.1 {answer.status} x", *(f"{name}: {value}" for name, value in given.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()
        if answer.parts:
            async for part in answer.parts():
                if writer.is_closing():
                    break
                writer.write(part)
                await writer.drain()
        return length == len(answer.body) and not answer.parts


def _inside(host: str) -> bool:
    """Tell whether a host is private, as a resolver would understand it."""
    try:
        host = host.strip("[]").encode("idna").decode()
        address = ipaddress.ip_address(host) if ":" in host else ipaddress.ip_address(socket.inet_aton(host))
    except (ValueError, OSError):
        return "." not in host
    return not address.is_global
