"""Where a request went: scheme, authority, path and query, by what its message says.

Source: semantic conventions, "Setting server.address and server.port attributes", and RFC 9110 7.1,
RFC 9112 3.2 (forms of the target), RFC 7239 (Forwarded).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from otel_tap.events import TlsLibrary
from otel_tap.exchange import Connection, Role
from otel_tap.messages import Request, field_value

_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(
    rb"(?:[^@/?#]*@)?(\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z%._~-]+)?\]|[^:\[\]/?#@\s]+)(?::(\d{0,5}))?"
)
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_FORWARDED_PAIR = re.compile(rb"""(?i)(?:^|;)\s*(for|host|proto)\s*=\s*("([^"]*)"|[^;,\s"]+)""")
_MAX_MEMO = 4096


@dataclass(frozen=True, slots=True)
class Authority:
    """A host, IPv6 without brackets, and its port, None when none is said."""

    host: bytes
    port: int | None


@dataclass(frozen=True, slots=True)
class Location:
    """What is known of a request's target URI; None and empty where it is not."""

    scheme: str
    authority: Authority | None
    full: bytes | None  # the whole URI
    path: bytes
    query: bytes | None


_authorities: dict[bytes, Authority | None] = {}


def parse_authority(value: bytes) -> Authority | None:
    """`host[:port]`, user information ignored; None when it is none. Remembers hosts, not users."""
    known = _authorities.get(value)
    if known is not None:
        return known
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    if port is not None and not 0 < port < 65536:
        return None
    authority = Authority(match[1].strip(b"[]"), port)
    if b"@" not in value and len(value) < 256:
        if len(_authorities) >= _MAX_MEMO:
            _authorities.clear()
        _authorities[value] = authority
    return authority


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What proxies in front of a server said of the original request."""

    client: bytes | None = None
    host: bytes | None = None
    scheme: str | None = None


_NOT_FORWARDED = Forwarded()


def _known_scheme(value: bytes | None) -> str | None:
    lowered = (value or b"").strip().lower()
    return lowered.decode() if lowered in (b"http", b"https") else None


def _is_ipv6(value: bytes) -> bool:
    try:
        ipaddress.IPv6Address(value.decode("ascii", "replace"))
    except ValueError:
        return False
    return True


def forwarded(request: Request) -> Forwarded:
    """The first hop of Forwarded, else of the X-Forwarded fields."""
    standard = client = host = scheme = None
    for name, value in request.fields:
        if name == b"forwarded":
            standard = value if standard is None else standard
        elif name[:12] == b"x-forwarded-":
            if name == b"x-forwarded-for":
                client = value if client is None else client
            elif name == b"x-forwarded-host":
                host = value if host is None else host
            elif name == b"x-forwarded-proto":
                scheme = value if scheme is None else scheme
    if standard is not None:
        pairs = {
            match[1].lower(): match[3] if match[3] is not None else match[2]
            for match in _FORWARDED_PAIR.finditer(standard.split(b",", 1)[0])
        }
        client = pairs.get(b"for", client)
        host = pairs.get(b"host", host)
        scheme = pairs.get(b"proto", scheme)
    if client is None and host is None and scheme is None:
        return _NOT_FORWARDED
    first = client.split(b",", 1)[0].strip() if client else None
    if first:
        # Proxies append ports; an obfuscated name (RFC 7239 6.3) is no address.
        authority = parse_authority(first)
        if authority is not None:
            hidden = authority.host[:1] == b"_" or authority.host.lower() == b"unknown"
            first = None if hidden else authority.host
        elif not _is_ipv6(first):
            first = None
    return Forwarded(
        first or None,
        host.split(b",", 1)[0].strip() if host else None,
        _known_scheme(scheme.split(b",", 1)[0] if scheme else None),
    )


def _split_query(target: bytes) -> tuple[bytes, bytes | None]:
    path, mark, query = target.partition(b"?")
    return path, query if mark else None


def locate(request: Request, connection: Connection, role: Role, hops: Forwarded) -> Location:
    """The target URI as this end knows it."""
    target = request.target
    scheme = "http" if connection.tls is TlsLibrary.NONE else "https"
    named: bytes | None = None
    well_formed = True
    full: bytes | None = None
    path, query = b"", None
    if target[:1] == b"/":
        path, query = _split_query(target)
    elif request.method == b"CONNECT":
        named = target
    elif target == b"*":
        path = target
    else:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None:
            scheme = absolute[1].lower().decode()
            named = absolute[2]
            full = target
            path, query = _split_query(absolute[3])
        else:
            path, query = _split_query(target)
            well_formed = False  # no form of RFC 9112: what URI it means cannot be said
    host = field_value(request.fields, b"host")
    if role is Role.SERVER:
        scheme = hops.scheme or scheme
    original = parse_authority(hops.host) if role is Role.SERVER and hops.host else None
    authority = original or (parse_authority(named) if named else None)
    if authority is None and host:
        named, authority = host, parse_authority(host)
    if role is Role.SERVER:
        full = None
    elif full is None and request.method != b"CONNECT":
        if authority is None and connection.peer is not None and not host:
            authority = Authority(connection.peer.host.encode(), connection.peer.port)
            literal = b"[%s]" if b":" in authority.host else b"%s"
            named = literal % authority.host + b":%d" % connection.peer.port
        if authority is not None and named is not None and well_formed:
            full = scheme.encode() + b"://" + named
            if path != b"*":
                full += path
            if query is not None:
                full += b"?" + query
    # A proxy that says the original host but not its scheme leaves the default port unknown.
    unknown = original is not None and hops.scheme is None
    if (
        authority is not None
        and authority.port is None
        and request.method != b"CONNECT"
        and not unknown
    ):
        authority = Authority(authority.host, _DEFAULT_PORTS.get(scheme))
    return Location(scheme, authority, full, path, query)
