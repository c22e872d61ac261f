"""What a search engine names: a photo somewhere, and where it is shown."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

License = Literal["any", "public", "share", "share-commercially", "modify", "modify-commercially"]


@dataclass(frozen=True)
class Hit:
    """A photo that a search engine names."""

    url: str  # of the image that is fetched
    page: str  # that shows it; "" where the engine names none
    query: str
    engine: str
    license: str  # as the engine says it; "" where it says nothing
    attribution: str = ""  # whom to name, and how, where the engine says it


class Engine(Protocol):
    """A search for photos."""

    name: str

    def pages(self, query: str) -> AsyncIterator[list[Hit]]:
        """Yield what a query finds, page by page, until the engine has no more.

        Raises:
            SearchRefused: it does not answer; what came before stands.
        """
