"""Which addresses may be fetched from: what a search engine names must not reach this machine or its network.

A URL is looked at before it is asked for, and the address that its name leads to once more where the connection
is made; so neither a redirect, nor a name that changes its address, nor an unusual spelling gets past. A proxy
resolves names by itself: behind one, only the URL can be looked at.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote, urlsplit

from yarl import URL

PORTS = frozenset({80, 443})
PRIVATE = "leads into a private network"
Place = tuple[str, int]  # address and port
_INSIDE = ("localhost", "local", "internal", "lan", "intranet", "home.arpa")  # ends of names that are private
_LEFT_ALONE = "%/:@!$&'()*+,;=?~-._[]"  # signs of a path or query that are not escaped, least of all escapes


class Forbidden(OSError):
    """An address that must not be fetched from, and why."""


def checked(url: str) -> URL:
    """Return a URL that may be asked for, with its escapes as they are: signed ones break if written anew.

    Raises:
        Forbidden: neither http nor https, a port other than 80 and 443, a user's name or password, a name or
            address of a private network, or no URL at all.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if ":" not in host:
            host = host.encode("idna").decode("ascii").lower()  # full-width signs and accents become plain
    except ValueError:
        raise Forbidden("is no address") from None
    if parts.scheme not in ("http", "https"):
        raise Forbidden(f"is {parts.scheme or 'nothing'}, not http or https")
    if not host:
        raise Forbidden("names no host")
    if parts.username is not None or parts.password is not None:
        raise Forbidden("carries a user's name")
    if not re.fullmatch(r"[a-z0-9._-]+|[a-f0-9:.%a-z]+", host):
        raise Forbidden("is no address")
    if port not in (None, *PORTS):
        raise Forbidden(f"asks for port {port}")
    _check_host(host.rstrip("."))
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    rest = quote(parts.path or "/", safe=_LEFT_ALONE)
    rest += f"?{quote(parts.query, safe=_LEFT_ALONE)}" if parts.query else ""
    return URL(f"{parts.scheme}://{place}{rest}", encoded=True)


def _check_host(host: str) -> None:
    """Refuse a host that is private by its address, in whatever spelling, or by its name."""
    literal = _literal(host)
    named_inside = "." not in host or any(host == end or host.endswith(f".{end}") for end in _INSIDE)
    if (literal and not is_public(literal)) or (not literal and named_inside):
        raise Forbidden(PRIVATE)


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if ip not in ipaddress.ip_network("2000::/3") or ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast


def guarded_sockets(trusted: Collection[Place] = ()) -> Callable[[Any], socket.socket]:
    """Return what makes sockets for a client: none to a private address or an unusual port.

    Args:
        trusted: addresses with ports that may be reached all the same, such as the proxy's.
    """

    def make(address: Any) -> socket.socket:
        family, kind, protocol, _, place = address
        host, port = place[:2]
        if (host, port) not in trusted:
            if not is_public(host):
                raise Forbidden(PRIVATE)
            if port not in PORTS:
                raise Forbidden(f"asks for port {port}")
        return socket.socket(family, kind, protocol)

    return make


def _literal(host: str) -> str | None:
    """Return the IP address that a host is spelled as, in any spelling that a resolver takes, or None."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return None
