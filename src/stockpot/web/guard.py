"""What a local server must refuse: other hosts' names, other pages' requests, and too large a body."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

LARGEST_BODY = 64 * 2**20  # bytes
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LOCAL = ("127.0.0.1", "localhost", "[::1]")

Answer = Callable[[Request], Awaitable[Response]]


async def guard(request: Request, answer: Answer) -> Response:
    """Answer a request of this computer's own page; refuse all others.

    A page elsewhere may point its own name at 127.0.0.1 (DNS rebinding), hence the host; and may send forms here,
    hence the origin of whatever changes something.
    """
    refusal = _refusal(request)
    response = PlainTextResponse(refusal[1], refusal[0]) if refusal else await answer(request)
    response.headers.update(HEADERS)
    return response


def _refusal(request: Request) -> tuple[int, str] | None:
    host = request.headers.get("host", "")
    if host.rpartition(":")[0] not in _LOCAL and host not in _LOCAL:
        return 421, f"This server answers only as 127.0.0.1 or localhost, not as {host[:100]!r}."
    if request.method not in ("GET", "HEAD"):
        origin = request.headers.get("origin", "")
        if urlsplit(origin).netloc != host:
            return 403, "Only this server's own page may change something: open it in the browser."
        if not request.headers.get("content-length", "").isdecimal():
            return 411, "The request does not say how long it is."
        if int(request.headers["content-length"]) > LARGEST_BODY:
            return 413, f"More than {LARGEST_BODY // 2**20} MB: send a smaller photo."
    return None
