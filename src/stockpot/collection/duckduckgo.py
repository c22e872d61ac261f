"""DuckDuckGo's image search, through the client that the package ddgs has for it.

Of that client only the engine class is used: its public front hides refusals, returns one page, and decodes
the URLs of images, which breaks signed ones.
"""

import asyncio
import os
import random
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

from ddgs.engines.duckduckgo_images import DuckduckgoImages
from ddgs.exceptions import DDGSException
from ddgs.utils import _extract_vqd

from stockpot.collection.hits import Hit, License
from stockpot.errors import SearchRefused
from stockpot.project import parse_json

PAUSE_SECONDS = (1.0, 2.0)  # between pages: from, to
TIMEOUT_SECONDS = 20
_LICENSES: dict[License, str] = {
    "public": "Public",
    "share": "Share",
    "share-commercially": "ShareCommercially",
    "modify": "Modify",
    "modify-commercially": "ModifyCommercially",
}


class DuckDuckGo:
    """DuckDuckGo's search for photos: thumbnails, or originals wherever they are.

    Args:
        originals: fetch the photos themselves instead of the engine's thumbnails.
        license: what the search filter is to let through.
    """

    name = "duckduckgo"

    def __init__(self, originals: bool = False, license: License = "any") -> None:
        self.key = "image" if originals else "thumbnail"
        self.license = _LICENSES.get(license, "")
        self.client = _Client()

    async def pages(self, query: str) -> AsyncIterator[list[Hit]]:
        """Yield what a query finds, about 100 a page.

        Raises:
            SearchRefused: the engine does not answer, or not with photos.
        """
        filters = {"type_image": "photo", "license_image": self.license}
        page, known = 0, set[str]()
        while True:
            if self.client.asked:
                await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            page += 1
            rows = await asyncio.to_thread(self.client.rows, query, page, filters)
            hits = [hit for row in rows if (hit := self._hit(row, query)) and hit.url not in known]
            known |= {hit.url for hit in hits}
            yield hits
            if not hits or not self.client.has_more:
                return

    def _hit(self, row: Any, query: str) -> Hit | None:
        """Return a row's photo, or None where the row has no address."""
        url, page = (row.get(key) if isinstance(row, dict) else None for key in (self.key, "url"))
        if not isinstance(url, str) or not url:
            return None
        license = f"search filter said {self.license}" if self.license else ""
        return Hit(url, page if isinstance(page, str) else "", query, self.name, license)


class _Client(DuckduckgoImages):
    """The client of ddgs: one User-Agent, one token a query, refusals with their reason, rows as they came."""

    def __init__(self) -> None:
        super().__init__(_proxy(), TIMEOUT_SECONDS, verify=os.environ.get("SSL_CERT_FILE") or True)
        self.tokens: dict[str, str] = {}
        self.asked = False
        self.has_more = False

    def rows(self, query: str, page: int, filters: dict[str, str]) -> list[Any]:
        """Return the rows of a page as the engine sent them."""
        self.asked = True
        self.has_more = False
        try:
            rows = self.search(query, page=page, **filters)
        except DDGSException as error:
            reason = str(error).splitlines()[0]
            raise SearchRefused(f"DuckDuckGo cannot be reached ({reason})") from None
        if rows is None:
            raise SearchRefused("DuckDuckGo answered with nothing")
        return list(rows)

    def _get_vqd(self, query: str) -> str:
        if query not in self.tokens:
            response = self.http_client.request("GET", "https://duckduckgo.com", params={"q": query})
            _check(response.status_code)
            try:
                self.tokens[query] = _extract_vqd(response.content, query)
            except DDGSException:
                raise SearchRefused(
                    "DuckDuckGo answered with a page that has no token (a CAPTCHA, or a new layout)"
                ) from None
        return self.tokens[query]

    def request(self, *args: Any, **kwargs: Any) -> str:
        """Return the text of an answer that is no refusal."""
        response = self.http_client.request(*args, **kwargs)
        _check(response.status_code)
        return str(response.text)

    def extract_results(self, html_text: str) -> list[Any]:
        """Return the rows of a page, and remember whether there is a next one."""
        try:
            answer = parse_json(html_text)
            rows, more = list(answer["results"]), bool(answer.get("next"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SearchRefused("DuckDuckGo answered with something else than photos") from None
        self.has_more = more and bool(rows)
        return rows


def _check(status: int) -> None:
    if status != 200:
        meanings = {
            202: "a request to slow down",
            403: "forbidden",
            418: "a CAPTCHA",
            429: "too many requests",
        }
        raise SearchRefused(f"DuckDuckGo refused with {status} ({meanings.get(status, 'no photos')})")


def _proxy() -> str | None:
    """Return the proxy that the environment names, for this client or for all."""
    return os.environ.get("DDGS_PROXY") or urllib.request.getproxies().get("https")
