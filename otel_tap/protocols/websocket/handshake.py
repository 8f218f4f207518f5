"""What the handshake of a WebSocket agreed upon (RFC 6455 4.2.2, RFC 7692 7.1).

Owns how the response's fields are read. It must not know frames.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_tap.messages import Field, field_value, field_values
from otel_tap.protocols.websocket.frames import RSV1

_EXTENSIONS_LIMIT: Final = 16  # extensions of a response that are looked at
_ANY_RESERVED: Final = 0x70


class Agreed(NamedTuple):
    """`reserved`: the reserved bits of frames that an extension may use.

    `opaque`: an extension that is not known changes, or may change, what payloads mean.
    """

    subprotocol: bytes | None
    deflate: bool | None  # None: not known
    client_takeover: bool
    server_takeover: bool
    reserved: int
    opaque: bool


def is_websocket(fields: tuple[Field, ...]) -> bool:
    """Whether these fields of a response with status 101 say WebSocket."""
    upgrade = field_value(fields, b"upgrade")
    return upgrade is not None and upgrade.strip().lower() == b"websocket"


def agreed(fields: tuple[Field, ...], *, incomplete: bool = False) -> Agreed:
    """What the fields of the response that granted the session say.

    `incomplete`: some of them are unknown, and any extension can be among those.
    """
    deflate = opaque = False
    client_takeover = server_takeover = True
    offered = b",".join(field_values(fields, b"sec-websocket-extensions"))
    for number, extension in enumerate(offered.split(b",")):
        name, *parameters = [part.strip().lower() for part in extension.split(b";")]
        if not name:
            continue
        if number >= _EXTENSIONS_LIMIT or name != b"permessage-deflate" or deflate:
            opaque = True
            continue
        deflate = True
        for parameter in parameters:
            key = parameter.partition(b"=")[0].strip()
            if key == b"client_no_context_takeover":
                client_takeover = False
            elif key == b"server_no_context_takeover":
                server_takeover = False
    subprotocol = field_value(fields, b"sec-websocket-protocol")
    if incomplete:
        return Agreed(subprotocol, None, True, True, _ANY_RESERVED, True)
    return Agreed(
        subprotocol,
        deflate,
        client_takeover,
        server_takeover,
        _ANY_RESERVED if opaque else RSV1 if deflate else 0,
        opaque,
    )
