"""Fetching what strangers name: guarded, bounded in bytes and seconds, gentle to every host."""

import asyncio
import logging
import ssl
import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
import stamina

from stockpot import __version__
from stockpot.collection.addresses import Forbidden, Place, check_url, guarded_sockets

MAX_BYTES = 20_000_000  # of one answer
MAX_REDIRECTS = 5
TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10, sock_read=15)  # seconds
ATTEMPTS = 3
MAX_WAIT_SECONDS = 20.0  # that a host may ask for before it is given up
AT_ONCE = 16  # connections
AT_ONCE_A_HOST = 6
HOST_PAUSE_SECONDS = 0.02  # between two requests to one host
_REDIRECTS = {301, 302, 303, 307, 308}
_OPT_OUTS = {"noai", "noimageai", "noindex", "none"}


class Dropped(Exception):
    """Something that was not fetched, and why."""

    def __init__(self, reason: str, again: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.again = again  # may succeed another time
        self.wait = wait  # seconds that the host asks for


class Fetcher:
    """A client that no URL leads astray.

    Args:
        trusted: places that may be reached although they are private, for tests.
        resolver: of names, for tests.
        timeout: of a whole answer and of its parts.
    """

    def __init__(
        self,
        trusted: Iterable[Place] = (),
        resolver: Any = None,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        logging.getLogger("stamina").setLevel(logging.ERROR)  # what is tried again is no news
        self.trusted, self.resolver, self.timeout = frozenset(trusted), resolver, timeout
        self.hosts: dict[str, _Host] = defaultdict(_Host)
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the client."""
        places = self.trusted | await _proxies()
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
            trust_env=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.session.close()

    async def fetch(self, url: str, retry: bool = True) -> bytes:
        """Return the body behind a URL.

        Args:
            url: as the engine names it; it is not decoded or normalized.
            retry: try again what may succeed another time.

        Raises:
            Dropped: with the reason.
        """
        if not retry:
            return await self._follow(url)
        async for attempt in stamina.retry_context(
            _wait, attempts=ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=5.0
        ):
            with attempt:
                return await self._follow(url)
        raise AssertionError("the last attempt raises")

    async def _follow(self, url: str) -> bytes:
        """Fetch, through redirects that are looked at one by one, all within one deadline."""
        try:
            async with asyncio.timeout(self.timeout.total):
                for _ in range(MAX_REDIRECTS + 1):
                    found = await self._get(url)
                    if isinstance(found, bytes):
                        return found
                    url = found
        except Forbidden as error:
            raise Dropped(f"the address {error}") from None
        except TimeoutError:
            raise Dropped("too slow", again=True) from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError):
            raise Dropped("the address is no address") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, Forbidden):
                raise Dropped(f"the address {error.os_error}") from None
            raise Dropped("cannot be reached", again=True) from None
        except (aiohttp.ClientError, OSError):
            raise Dropped("broken off", again=True) from None
        raise Dropped(f"more than {MAX_REDIRECTS} redirects")

    async def _get(self, url: str) -> bytes | str:
        """Return a body, or the URL that it is to be had from."""
        check_url(url)
        async with (
            self.hosts[urlsplit(url).hostname or ""],
            self.session.get(_as_it_is(url), allow_redirects=False) as answer,
        ):
            if answer.status in _REDIRECTS:
                return urljoin(url, answer.headers.get("Location", ""))
            if answer.status != 200:
                raise _refused(answer)
            if _OPT_OUTS & set(_words(answer.headers.getall("X-Robots-Tag", []))):
                raise Dropped("its host does not want it to be used (X-Robots-Tag)")
            if "Content-Encoding" in answer.headers:
                raise Dropped("compressed although that was not asked for")
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > MAX_BYTES:
                    raise Dropped(f"more than {MAX_BYTES // 1_000_000} MB")
            return bytes(body)


class _Host:
    """How many requests a host gets at once, and how fast one after another."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE_A_HOST)
        self.turn = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self.places.acquire()
        async with self.turn:
            await asyncio.sleep(HOST_PAUSE_SECONDS)

    async def __aexit__(self, *_: object) -> None:
        self.places.release()


def _as_it_is(url: str) -> Any:
    """Return a URL whose escapes are left alone: signed URLs break if they are written anew."""
    from yarl import URL

    return URL(url, encoded=url.isascii() and " " not in url)


def _refused(answer: aiohttp.ClientResponse) -> Dropped:
    again = answer.status in (408, 425, 429, 500, 502, 503, 504)
    asked = answer.headers.get("Retry-After", "")
    return Dropped(f"answered {answer.status}", again, float(asked) if asked.isdecimal() else None)


def _wait(error: Exception) -> bool | float:
    """Tell stamina whether, or after how many seconds, to try again."""
    if not isinstance(error, Dropped) or not error.again:
        return False
    if error.wait is None:
        return True
    return error.wait if error.wait <= MAX_WAIT_SECONDS else False


def _words(headers: Iterable[str]) -> list[str]:
    """Return the directives of X-Robots-Tag headers, those for a named robot included."""
    return [word.rpartition(":")[2].strip().lower() for header in headers for word in header.split(",")]


async def _proxies() -> frozenset[Place]:
    """Return the places of the proxies that the environment names; they may be private."""
    places = set()
    loop = asyncio.get_running_loop()
    for address in {value for key, value in urllib.request.getproxies().items() if key in ("http", "https")}:
        parts = urlsplit(address if "//" in address else f"http://{address}")
        try:
            found = await loop.getaddrinfo(parts.hostname, parts.port or 80)
        except OSError:
            continue  # the first request will say so
        places |= {(str(entry[4][0]), int(entry[4][1])) for entry in found}
    return frozenset(places)
