"""The two engines' protocols, and hosts of photos."""

import hashlib
import io
import json
from collections import deque
from collections.abc import Callable
from urllib.parse import quote

import numpy as np
from PIL import Image

from standin.server import Answer, Request

THUMBNAILS = "external-content.duckduckgo.com"
Row = dict[str, object]


def photo(name: str, size: tuple[int, int] = (224, 168)) -> bytes:
    """Return a JPEG that no other name gives."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


class Engines:
    """DuckDuckGo and Openverse, with as many photos as they are given, and faults to come first."""

    def __init__(self, found: Callable[[str], list[Row]]) -> None:
        self.found = found  # rows of a query
        self.faults: dict[str, deque[Answer]] = {"token": deque(), "page": deque(), "openverse": deque()}
        self.tokens: dict[str, str] = {}

    def duckduckgo(self, request: Request) -> Answer:
        """The page with the token, and the pages of photos that need it."""
        kind = "page" if request.path == "/i.js" else "token"
        if self.faults[kind]:
            return self.faults[kind].popleft()
        query, agent = request.query["q"], request.headers.get("user-agent", "")
        token = "4-" + str(int(hashlib.sha256(f"{query} {agent}".encode()).hexdigest()[:16], 16))
        if kind == "token":
            return Answer(f'<html><script>x={{vqd="{token}"}}</script></html>'.encode())
        if request.query.get("vqd") != token:
            return Answer(b"If this persists, please email us.", 403)
        start = int(request.query.get("s", 0))
        rows = self.found(query)
        answer: dict[str, object] = {"results": rows[start : start + 100], "query": query}
        if start + 100 < len(rows):
            answer["next"] = f"i.js?q={quote(query)}&s={start + 100}"
        return Answer(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})

    def openverse(self, request: Request) -> Answer:
        """Twenty rows a page."""
        if self.faults["openverse"]:
            return self.faults["openverse"].popleft()
        page, size = int(request.query["page"]), int(request.query["page_size"])
        rows = self.found(request.query["q"])
        answer = {
            "result_count": len(rows),
            "page_count": -(-len(rows) // size),
            "results": [
                {
                    "url": row["image"],
                    "thumbnail": row["thumbnail"],
                    "foreign_landing_url": row["url"],
                    "license": "by",
                    "license_version": "2.0",
                    "attribution": f'"{row["title"]}" by someone is licensed under CC BY 2.0.',
                }
                for row in rows[(page - 1) * size : page * size]
            ],
        }
        return Answer(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})


def row(name: str, thumbnail: str = "", image: str = "") -> Row:
    """Return what DuckDuckGo says of a photo; its thumbnail's address has escapes that must stay."""
    return {
        "title": name,
        "image": image or f"https://photos.example/{quote(name)}.jpg",
        "thumbnail": thumbnail or f"https://{THUMBNAILS}/iu/?u={quote(name, safe='')}&sig=a%2Fb%3D%3D&f=1",
        "url": f"https://pages.example/{quote(name)}",
        "width": 224,
        "height": 168,
        "source": "Bing",
    }


def thumbnail(request: Request) -> Answer:
    """Return the photo of a name; a signature that was written anew is refused."""
    if "sig=a%2Fb%3D%3D" not in request.target:
        return Answer(b"bad signature", 403)
    return Answer(photo(request.query["u"]), headers={"Content-Type": "image/jpeg"})
