"""Fetching what strangers name: guarded, bounded in bytes and seconds, gentle to every host."""

import asyncio
import ssl
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from stockpot import __version__
from stockpot.collection.addresses import Forbidden, Place, checked, guarded_sockets

MAX_BYTES = 20_000_000  # of one answer
MAX_REDIRECTS = 5
TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10, sock_read=15)  # seconds
ATTEMPTS = 3
WAIT_SECONDS = 1.0  # before the second attempt; twice that before the third
MAX_WAIT_SECONDS = 20.0  # that a host may ask for before it is given up
AT_ONCE = 16  # connections
AT_ONCE_A_HOST = 6
HOST_PAUSE_SECONDS = 0.02  # between two requests to one host
MAX_REFUSALS = 10  # of a host, one after another, before it is given up
_REDIRECTS = {301, 302, 303, 307, 308}
_REFUSALS = {202, 401, 403, 429}  # perhaps of us rather than of this photo
_TROUBLES = {408, 425, 429, 500, 502, 503, 504}  # may have passed in a moment
_OPT_OUTS = {"noai", "noimageai", "noindex", "none"}


class Dropped(Exception):
    """Something that was not fetched, and why."""

    def __init__(self, reason: str, again: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.again = again  # may succeed another day
        self.wait = wait  # seconds after which it may succeed; None: not today


class Fetcher:
    """A client that no URL leads astray.

    Args:
        trusted: places that may be reached although they are private, for tests.
        resolver: of names, for tests.
        timeout: of a whole answer, redirects included, and of its parts.
    """

    def __init__(
        self,
        trusted: Iterable[Place] = (),
        resolver: Any = None,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self.trusted, self.resolver, self.timeout = frozenset(trusted), resolver, timeout
        self.proxies = {name: _whole(url) for name, url in urllib.request.getproxies().items()}
        self.hosts: dict[str, _Host] = defaultdict(_Host)
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the client."""
        places = self.trusted | await _places(self.proxies.values())
        connector = aiohttp.TCPConnector(
            limit=AT_ONCE,
            socket_factory=guarded_sockets(places),
            resolver=self.resolver,
            ssl=ssl.create_default_context(),  # made now: aiohttp makes its own when it is imported
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            timeout=self.timeout,
            headers={"User-Agent": f"stockpot/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would send the passwords in ~/.netrc to strangers
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.session.close()
        await asyncio.sleep(0.25)  # until TLS connections have said goodbye

    async def fetch(self, url: str) -> bytes:
        """Return the photo behind a URL, or whatever is there.

        Args:
            url: as the engine names it.

        Raises:
            Dropped: with the reason; what may pass in a moment was tried again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._follow(url, _OPT_OUTS)
            except Dropped as error:
                if error.wait is None or attempt == ATTEMPTS:
                    raise
                wait = error.wait or WAIT_SECONDS * attempt
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def ask(self, url: str) -> bytes:
        """Return what an interface answers; its first refusal counts.

        Raises:
            Dropped: with the reason.
        """
        return await self._follow(url, set())

    async def _follow(self, url: str, opt_outs: set[str]) -> bytes:
        """Fetch, through redirects that are looked at one by one, all within one deadline."""
        left = self.timeout.total or 0.0
        try:
            for _ in range(MAX_REDIRECTS + 1):
                target = checked(url)
                async with self.hosts[str(target.raw_host)].turn():
                    started = asyncio.get_running_loop().time()
                    async with asyncio.timeout(left):
                        found = await self._get(target, opt_outs)
                    left -= asyncio.get_running_loop().time() - started
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
        except Forbidden as error:
            raise Dropped(f"the address {error}") from None
        except TimeoutError:
            raise Dropped("too slow", again=True, wait=0) from None
        except aiohttp.ClientProxyConnectionError:
            raise Dropped("the proxy cannot be reached", again=True) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, Forbidden):  # by its name's address, which may be another tomorrow
                raise Dropped(f"the address {error.os_error}", again=True) from None
            raise Dropped("cannot be reached", again=True, wait=0) from None
        except ValueError:
            raise Dropped("the address is no address") from None
        except (aiohttp.ClientError, OSError):
            raise Dropped("broken off", again=True, wait=0) from None
        raise Dropped(f"more than {MAX_REDIRECTS} redirects")

    async def _get(self, url: URL, opt_outs: set[str]) -> bytes | str:
        """Return a body, or the URL that it is to be had from."""
        async with self.session.get(url, allow_redirects=False, proxy=self._proxy(url)) as answer:
            if answer.status in _REDIRECTS:
                return answer.headers.get("Location", "")
            self.hosts[str(url.raw_host)].note(answer)
            if opt_outs & set(_words(answer.headers.getall("X-Robots-Tag", []))):
                raise Dropped("its host does not want it to be used (X-Robots-Tag)")
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if max(len(body), answer.content_length or 0) > MAX_BYTES:
                    raise Dropped(f"more than {MAX_BYTES // 1_000_000} MB")
            return bytes(body)

    def _proxy(self, url: URL) -> str | None:
        """Return the proxy that the environment names for a URL."""
        proxy = self.proxies.get(url.scheme)
        return None if proxy is None or urllib.request.proxy_bypass(str(url.raw_host)) else proxy


class _Host:
    """How many requests a host gets at once, how fast one after another, and whether it still gets any."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE_A_HOST)
        self.next = asyncio.Lock()
        self.not_before = 0.0  # by the loop's clock
        self.refusals = 0  # one after another

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place.

        Raises:
            Dropped: the host has refused too often.
        """
        async with self.places:
            async with self.next:
                now = asyncio.get_running_loop().time()
                await asyncio.sleep(max(HOST_PAUSE_SECONDS, self.not_before - now))
            if self.refusals >= MAX_REFUSALS:
                raise Dropped("its host refuses", again=True)
            yield

    def note(self, answer: aiohttp.ClientResponse) -> None:
        """Remember what a host asks for.

        Raises:
            Dropped: it did not give what it was asked for.
        """
        status, asked = answer.status, answer.headers.get("Retry-After", "")
        self.refusals = self.refusals + 1 if status in _REFUSALS else 0
        if status == 200:
            return
        wait = float(asked) if asked.isdecimal() else 0.0
        if status in _TROUBLES and wait > MAX_WAIT_SECONDS:
            self.refusals = MAX_REFUSALS
        elif status in _TROUBLES:
            self.not_before = asyncio.get_running_loop().time() + wait
        retry = status in _TROUBLES and wait <= MAX_WAIT_SECONDS
        raise Dropped(f"answered {status}", status in _TROUBLES | _REFUSALS, wait if retry else None)


def _words(headers: Iterable[str]) -> list[str]:
    """Return the directives of X-Robots-Tag headers, those for a named robot included."""
    return [word.rpartition(":")[2].strip().lower() for header in headers for word in header.split(",")]


def _whole(proxy: str) -> str:
    return proxy if "//" in proxy else f"http://{proxy}"


async def _places(proxies: Iterable[str]) -> frozenset[Place]:
    """Return the addresses of proxies; they may be private."""
    places: set[Place] = set()
    for proxy in set(proxies):
        parts = urlsplit(proxy)
        try:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(parts.hostname, parts.port or 80)
        except (OSError, ValueError):
            continue  # the first request will say so
        places |= {(str(entry[4][0]), int(entry[4][1])) for entry in found}
    return frozenset(places)
