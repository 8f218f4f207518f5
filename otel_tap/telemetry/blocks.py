"""What the exchanges of one connection have in common, joined once for all of them.

Owns, for every connection, the encoded attributes that do not change from one exchange to the next
while its requests name the same host; and, for all connections to one server, those of each shape
that was met on them. Of captured values it keeps only names of servers, and none that redaction
would change.
"""

from __future__ import annotations

from typing import Final

from otel_tap.exchange import Connection, Exchange, Role
from otel_tap.messages import UNKNOWN_STATUS
from otel_tap.privacy import Redactor
from otel_tap.telemetry.attributes import AttributeEncoder
from otel_tap.telemetry.identity import Seed
from otel_tap.telemetry.location import Forwarded, Location, locate
from otel_tap.telemetry.otlp import LOG_ATTRIBUTE, SPAN_ATTRIBUTE
from otel_tap.telemetry.rpc import display_status
from otel_tap.telemetry.shapes import Shapes

_MAX_BLOCKS: Final = 4096  # each takes about 1 KB
_MAX_SHAPED: Final = 4096  # shapes of all servers; each takes about 1 KB
_MAX_REMEMBERED_NAME: Final = 255  # bytes of a host name in the domain name system
_MAX_DISPLAYED_METHOD: Final = 32

# Members of an enumeration are looked up slowly on its class.
_SERVER: Final = Role.SERVER

Fragment = tuple[bytes, bytes]
"""Encoded fields of a span, and of a log record."""

Common = tuple[bytes, bytes, bytes, bytes, bytes]
"""Encoded fields of a shape in a span, and in a log record; and what stands in the display line
before the target, behind it, and at the end."""

ShapeKey = tuple[bytes, int, str, bool, object]
"""Method, status, version, reused, error (with what is said of a call): what exchanges of a block
differ in."""


class Block:
    """Of a connection whose requests name `host` in their Host field."""

    __slots__ = (
        "attributes",
        "base",
        "behind",
        "client",
        "connection",
        "ends",
        "hops",
        "host",
        "location",
        "role",
        "seed",
        "shaped",
    )

    def __init__(
        self,
        connection: Connection,
        role: Role,
        host: bytes | None,
        location: Location,
        attributes: Fragment,
        client: Fragment,
        shaped: dict[ShapeKey, Common],
    ) -> None:
        self.connection = connection
        self.role = role
        self.host = host
        self.location = location
        # What stands before an origin-form target in the URI, at a client; None: no URI is known.
        self.base = None if location.full is None else location.full[:-1]
        self.attributes = attributes
        self.client = client
        # Both, where no proxy told of another client.
        self.ends: Fragment = (attributes[0] + client[0], attributes[1] + client[1])
        self.shaped = shaped  # with all connections to this server
        self.seed: Seed | None = None  # what the ids of its turns begin with
        # Of requests that came by a proxy which told the host and scheme `hops`, the last ones.
        self.behind: Block | None = None
        self.hops: tuple[bytes | None, str | None] = (None, None)


class Blocks:
    """Blocks by connection, a bounded number of them. One instance serves one thread."""

    __slots__ = ("_attributes", "_redactor", "_shaped", "_shaped_count", "_shapes", "known")

    def __init__(self, attributes: AttributeEncoder, shapes: Shapes, redactor: Redactor) -> None:
        self._attributes = attributes
        self._shapes = shapes
        self._redactor = redactor
        self.known: dict[int, Block] = {}  # by connection id
        self._shaped: dict[tuple[object, ...], dict[ShapeKey, Common]] = {}  # by server
        self._shaped_count = 0

    def of(self, connection: Connection, role: Role, host: bytes | None) -> Block | None:
        """The block of an exchange at this end whose Host field is `host`, as captured.

        Its location is that of a target in origin form, at a server to which no proxy said
        anything. None when `host` may not be remembered.
        """
        block = self.known.get(connection.connection_id)
        if (
            block is not None
            and block.connection is connection
            and block.host == host
            and block.role is role
        ):
            return block
        if host is not None and (
            len(host) > _MAX_REMEMBERED_NAME or self._redactor.field(b"host", host) is not host
        ):
            return None
        if len(self.known) >= _MAX_BLOCKS:
            self._forget()
        location = locate(b"/", b"", connection, role, host)
        block = Block(
            connection,
            role,
            host,
            location,
            self.of_connection(connection),
            _tagged(self._attributes.of_client(connection)) if role is _SERVER else (b"", b""),
            self._shaped_at(role, location),
        )
        self.known[connection.connection_id] = block
        return block

    def behind(self, block: Block, hops: Forwarded) -> Block | None:
        """The block of an exchange whose request came by a proxy; it has no client.

        None when what the proxy said may not be remembered.
        """
        said = (hops.host, hops.scheme)
        behind = block.behind
        if behind is not None and behind.hops == said:
            return behind
        if hops.host is not None and len(hops.host) > _MAX_REMEMBERED_NAME:
            return None
        location = locate(b"/", b"", block.connection, block.role, block.host, hops)
        nobody = (b"", b"")
        shaped = self._shaped_at(block.role, location)
        behind = Block(
            block.connection, block.role, block.host, location, block.attributes, nobody, shaped
        )
        behind.hops = said
        block.behind = behind
        return behind

    def shaped(self, block: Block, key: ShapeKey, exchange: Exchange, method: str) -> Common:
        """What exchanges of this shape have in common; remembers it by `key`."""
        if self._shaped_count >= _MAX_SHAPED:
            self._forget()
        self._shaped_count += 1
        shape = self._shapes.of(exchange, method, block.location)
        before, after, last = display(exchange)
        shaped = (shape.span, shape.log, before, after, last)
        block.shaped[key] = shaped
        return shaped

    def of_connection(self, connection: Connection) -> Fragment:
        """The attributes that any exchange of the connection has."""
        return _tagged(self._attributes.of_connection(connection))

    def _shaped_at(self, role: Role, location: Location) -> dict[ShapeKey, Common]:
        # Whoever names a new server each time need not have a shape: tables are bounded as well.
        if len(self._shaped) >= _MAX_SHAPED:
            self._forget()
        return self._shaped.setdefault((role, location.scheme, location.authority), {})

    def _forget(self) -> None:
        self.known.clear()
        self._shaped.clear()
        self._shaped_count = 0


def display(exchange: Exchange) -> tuple[bytes, bytes, bytes]:
    """`GET /x 200 12 ms`, for people: what stands before the target, behind it, behind the time.

    Of a call: `pkg.Service/Method OK 12 ms`, the method in the place of the target. Everything in
    it stands in attributes too.
    """
    request, response = exchange.request, exchange.response
    error = b"" if exchange.error is None else b" " + exchange.error.value.encode()
    if exchange.rpc is not None:
        http_status = UNKNOWN_STATUS if response is None else response.status
        return b"", b" %s " % display_status(exchange.rpc, http_status), error
    method = b"?" if request is None else request.method[:_MAX_DISPLAYED_METHOD]
    status = b"-" if response is None or response.status < 0 else b"%d" % response.status
    return method + b" ", b" %s " % status, error


def _tagged(attributes: list[bytes]) -> Fragment:
    attributes.insert(0, b"")  # the tag that joins them goes before each
    return SPAN_ATTRIBUTE.join(attributes), LOG_ATTRIBUTE.join(attributes)
