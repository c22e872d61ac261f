"""Openverse's public API: openly licensed photos, with licence and attribution in every row.

https://api.openverse.org/v1/
"""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from stockpot.collection.fetching import Dropped, Fetcher
from stockpot.collection.hits import Hit, License
from stockpot.errors import SearchRefused
from stockpot.project import parse_json

ADDRESS = "https://api.openverse.org/v1/images/"
PAGE_SIZE = 20  # the most without an account
PAUSE_SECONDS = (1.0, 2.0)  # between pages: from, to
_LICENSES: dict[License, dict[str, str]] = {
    "any": {},
    "public": {"license": "cc0,pdm"},
    "share": {"license_type": "all-cc"},
    "share-commercially": {"license_type": "commercial"},
    "modify": {"license_type": "modification"},
    "modify-commercially": {"license_type": "commercial,modification"},
}


class Openverse:
    """Openverse's search for photos.

    Args:
        fetcher: what asks.
        originals: fetch the photos themselves instead of Openverse's thumbnails.
        license: what the licence must allow.
    """

    name = "openverse"

    def __init__(self, fetcher: Fetcher, originals: bool = False, license: License = "any") -> None:
        self.fetcher = fetcher
        self.key = "url" if originals else "thumbnail"
        self.filters = _LICENSES[license]
        self.asked = False

    async def pages(self, query: str) -> AsyncIterator[list[Hit]]:
        """Yield what a query finds, 20 a page; the service gives at most 240.

        Raises:
            SearchRefused: the engine does not answer, or not with photos.
        """
        page, last = 1, 1
        while page <= last:
            if self.asked:
                await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            self.asked = True
            rows, last = await self._ask(query, page)
            yield [hit for row in rows if (hit := self._hit(row, query))]
            page += 1

    async def _ask(self, query: str, page: int) -> tuple[list[Any], int]:
        """Return the rows of a page and the number of the last one."""
        asked = {"q": query, "page": page, "page_size": PAGE_SIZE, "category": "photograph", **self.filters}
        try:
            answer = parse_json(await self.fetcher.ask(f"{ADDRESS}?{urlencode(asked)}"))
            return list(answer["results"]), min(int(answer["page_count"]), 240 // PAGE_SIZE)
        except Dropped as error:
            raise SearchRefused(f"Openverse refused ({error})") from None
        except (ValueError, OverflowError, KeyError, TypeError):
            raise SearchRefused("Openverse answered with something else than photos") from None

    def _hit(self, row: Any, query: str) -> Hit | None:
        """Return a row's photo, or None where the row has no address."""
        url = row.get(self.key) if isinstance(row, dict) else None
        if not isinstance(url, str) or not url:
            return None
        said = {key: str(row.get(key) or "") for key in ("foreign_landing_url", "license", "attribution")}
        license = f"{said['license']} {row.get('license_version') or ''}".strip()
        return Hit(url, said["foreign_landing_url"], query, self.name, license, said["attribution"])
