"""Which addresses may be fetched from: what a search engine names must not reach this machine or its network.

A name is looked at before it is asked for, and the address that it leads to once more where the connection is
made; so neither a redirect, nor a name that changes its address, nor an unusual spelling gets past.
"""

import ipaddress
import socket
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

PORTS = frozenset({80, 443})
Place = tuple[str, int]  # address and port


class Forbidden(OSError):
    """An address that must not be fetched from, and why."""


def check_url(url: str) -> None:
    """Raise Forbidden for a URL that must not be fetched.

    Raises:
        Forbidden: neither http nor https, a port other than 80 and 443, a user's name or password, or the
            literal address of a private network.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise Forbidden("is no address") from None
    if scheme not in ("http", "https"):
        raise Forbidden(f"is {scheme or 'nothing'}, not http or https")
    if not host:
        raise Forbidden("names no host")
    if parts.username is not None or parts.password is not None:
        raise Forbidden("carries a user's name")
    if port not in (None, *PORTS):
        raise Forbidden(f"asks for port {port}")
    literal = _literal(host)
    if host.rstrip(".").endswith("localhost") or (literal and not is_public(literal)):
        raise Forbidden("leads into a private network")


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner or ip in ipaddress.ip_network("64:ff9b::/96"):
            return bool(ip.ipv4_mapped) and is_public(str(ip.ipv4_mapped))
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
                raise Forbidden("leads into a private network")
            if port not in PORTS:
                raise Forbidden(f"asks for port {port}")
        return socket.socket(family, kind, protocol)

    return make


def _literal(host: str) -> str | None:
    """Return the IP address that a host is spelled as, in any spelling that a resolver takes, or None."""
    host = host.partition("%")[0].rstrip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return None
