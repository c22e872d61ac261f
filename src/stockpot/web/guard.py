"""What a local server must refuse: other hosts' names, other pages' requests, and too large a body."""

import re
from collections.abc import Awaitable, Callable

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
REPORT = "/report.html"
_OF_REPORT = {  # its scripts are inside it; `sandbox` keeps them from this server
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_LENGTH = re.compile("[0-9]{1,12}")

Answer = Callable[[Request], Awaitable[Response]]


async def guard(request: Request, answer: Answer) -> Response:
    """Answer a request of this computer's own page; refuse all others.

    A page elsewhere may point its own name at 127.0.0.1 (DNS rebinding), hence the host; and may send forms here,
    hence the origin of whatever changes something.
    """
    refusal = _refusal(request)
    response = PlainTextResponse(refusal[1], refusal[0]) if refusal else await answer(request)
    response.headers.update(HEADERS | (_OF_REPORT if request.url.path == REPORT else {}))
    return response


def _refusal(request: Request) -> tuple[int, str] | None:
    headers = request.headers
    host, length = headers.get("host", ""), headers.get("content-length", "")
    if host.rpartition(":")[0] not in _LOCAL and host not in _LOCAL:
        return 421, f"This server answers only as 127.0.0.1 or localhost, not as {host[:100]!r}."
    if (
        headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site")
        and request.url.path != "/"
    ):
        return 403, "Another page asks for this: open it in the browser."
    if request.method not in ("GET", "HEAD"):
        if headers.get("origin") != f"http://{host}":
            return 403, "Only this server's own page may change something: open it in the browser."
        if "transfer-encoding" in headers or not _LENGTH.fullmatch(length):
            return 411, "The request does not say how long it is."
        if int(length) > LARGEST_BODY:
            return 413, f"More than {LARGEST_BODY // 2**20} MB: send a smaller photo."
    return None
