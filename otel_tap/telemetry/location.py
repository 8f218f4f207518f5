"""Where a request went: scheme, authority, path and query, by what its message says.

Source: semantic conventions, "Setting server.address and server.port attributes", and RFC 9110 7.1,
RFC 9112 3.2 (forms of the target), RFC 7239 (Forwarded).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from otel_tap.exchange import Connection, Role

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(
    rb"(?:[^@/?#]*@)?(\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z%._~-]+)?\]|[^:\[\]/?#@\s]+)(?::(\d{0,5}))?"
)
_ABSOLUTE: Final = re.compile(
    rb"([A-Za-z][A-Za-z0-9+.-]{0,31})://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL
)
_FORWARDED_PAIR: Final = re.compile(
    rb"""(?i)(?:^|;)\s*(for|host|proto)\s*=\s*(?:"([^"]*)"|([^;,\s"]+))\s*(?=;|$)"""
)
_MAX_MEMO: Final = 4096
_MAX_REMEMBERED_NAME: Final = 255  # bytes of a host name in the domain name system

# Members of an enumeration are looked up slowly on its class.
_SERVER: Final = Role.SERVER


class Authority(NamedTuple):
    """A host, IPv6 without brackets, and its port, None when it is not known."""

    host: bytes
    port: int | None


class Location(NamedTuple):
    """What is known of a request's target URI; None and empty where it is not."""

    scheme: str
    authority: Authority | None
    full: bytes | None  # the whole URI, at a client
    path: bytes
    query: bytes | None


_authorities: dict[tuple[bytes, int | None], Authority] = {}


def parse_authority(value: bytes, default_port: int | None = None) -> Authority | None:
    """`host[:port]`, user information ignored; None when it is none. Remembers hosts, not users."""
    key = (value, default_port)
    known = _authorities.get(key)
    if known is not None:
        return known
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return None
    port = int(match[2]) if match[2] else default_port
    if port is not None and not 0 < port < 65536:
        return None
    authority = Authority(match[1].strip(b"[]"), port)
    if b"@" not in value and len(value) <= _MAX_REMEMBERED_NAME:
        if len(_authorities) >= _MAX_MEMO:
            _authorities.clear()
        _authorities[key] = authority
    return authority


class Forwarded(NamedTuple):
    """What proxies in front of a server said of the original request."""

    client: bytes | None = None
    host: bytes | None = None
    scheme: str | None = None


NOT_FORWARDED: Final = Forwarded()


def forwarded(first: Mapping[bytes, bytes]) -> Forwarded:
    """The first hop of Forwarded, else of X-Forwarded; `first` has the first value of each name."""
    standard = first.get(b"forwarded")
    client = first.get(b"x-forwarded-for")
    host = first.get(b"x-forwarded-host")
    scheme = first.get(b"x-forwarded-proto")
    if standard is None and client is None and host is None and scheme is None:
        return NOT_FORWARDED
    if standard is not None:
        pairs = {
            match[1].lower(): match[3] if match[2] is None else match[2]
            for match in _FORWARDED_PAIR.finditer(standard.split(b",", 1)[0])
        }
        client = pairs.get(b"for", client)
        host = pairs.get(b"host", host)
        scheme = pairs.get(b"proto", scheme)
    named_scheme = _first_hop(scheme).lower()
    return Forwarded(
        _client_address(_first_hop(client)),
        _first_hop(host) or None,
        named_scheme.decode() if named_scheme in (b"http", b"https") else None,
    )


def _first_hop(value: bytes | None) -> bytes:
    return value.split(b",", 1)[0].strip() if value else b""


def _client_address(value: bytes) -> bytes | None:
    """The address in a node of RFC 7239 6, without the port that some proxies append."""
    if _is_ipv6(value):
        return value
    node = parse_authority(value)
    # An obfuscated or unknown node (6.2, 6.3) is no address.
    if node is None or node.host[:1] == b"_" or node.host.lower() == b"unknown":
        return None
    return node.host


def _is_ipv6(value: bytes) -> bool:
    if value.count(b":") < 2:  # to refuse it takes longer
        return False
    try:
        ipaddress.IPv6Address(value.decode("ascii", "replace"))
    except ValueError:
        return False
    return True


def _split_query(target: bytes) -> tuple[bytes, bytes | None]:
    path, mark, query = target.partition(b"?")
    return path, query if mark else None


def locate(
    target: bytes,
    method: bytes,
    connection: Connection,
    role: Role,
    host: bytes | None,
    hops: Forwarded = NOT_FORWARDED,
) -> Location:
    """The target URI as this end knows it; `host` is the value of Host."""
    scheme = "https" if connection.tls else "http"
    path, query = b"", None
    full: bytes | None = None
    behind: bytes | None = None  # what stands behind the authority in the URI; None: no URI
    if target[:1] == b"/":
        path, query = _split_query(target)
        behind = target
    elif method == b"CONNECT":
        host = target
    elif target == b"*":
        path = target
        behind = b""
    else:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            path, query = _split_query(target)
        else:
            full = target
            scheme = absolute[1].lower().decode()
            host = absolute[2]  # RFC 9112 3.2.2: Host is ignored
            path, query = _split_query(absolute[3])
    authority = None
    if role is _SERVER:
        scheme = hops.scheme or scheme
        full = behind = None
    # An extended CONNECT (RFC 8441) has a path, and the default port of its scheme.
    tunnels = method == b"CONNECT" and target[:1] != b"/"
    port = None if tunnels else _DEFAULT_PORTS.get(scheme)
    if hops.host:
        # A proxy that says the original host but not its scheme leaves the default port unknown.
        authority = parse_authority(hops.host, port if hops.scheme else None)
    if authority is None and host:
        authority = parse_authority(host, port)
    if behind is not None:
        peer = connection.peer
        if not host and peer is not None:
            authority = Authority(peer.host.encode(), peer.port)
            literal = b"[%s]:%d" if b":" in authority.host else b"%s:%d"
            host = literal % (authority.host, peer.port)
        if authority is not None and host is not None:
            full = b"%s://%s%s" % (scheme.encode(), host, behind)
    return Location(scheme, authority, full, path, query)
