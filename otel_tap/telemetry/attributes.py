"""The attributes that differ from exchange to exchange, encoded once for span and log record.

Source: semantic conventions 1.44.0, "HTTP client span" and "HTTP server span".

Every captured value passes the redactor here before it is encoded: a record holds few of the fields
of an exchange, and redacting the others would cost more than encoding it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_tap.exchange import Connection, Exchange, ExchangeError, Role
from otel_tap.messages import UNKNOWN, Field, Request, Response
from otel_tap.privacy import Redactor
from otel_tap.protocols.http1.ambiguity import ambiguity_of
from otel_tap.telemetry import names
from otel_tap.telemetry.location import NOT_FORWARDED, Forwarded, Location, forwarded, locate
from otel_tap.telemetry.otlp import (
    IntAttribute,
    StringAttribute,
    bool_attribute,
    int_attribute,
    string_attribute,
    strings_attribute,
)
from otel_tap.telemetry.settings import TelemetrySettings

# Members of an enumeration are looked up slowly on its class.
_SERVER: Final = Role.SERVER
_TRUNCATED: Final = ExchangeError.TRUNCATED

FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-forwarded-proto", b"x-forwarded-host")
"""Fields in which proxies say what they were asked."""


class AttributeEncoder:
    """Turns exchanges into encoded attributes. One instance serves one thread."""

    __slots__ = (
        "_client_agent",
        "_client_path",
        "_client_port",
        "_client_query",
        "_headers_incomplete",
        "_lost_bytes",
        "_method_original",
        "_redactor",
        "_request_headers",
        "_response_headers",
        "_sizes",
        "_transport",
        "asks_more",
        "client_address",
        "truncated",
        "url_full",
        "url_path",
        "url_query",
        "user_agent",
    )

    def __init__(self, settings: TelemetrySettings, redactor: Redactor) -> None:
        asked = settings.attributes
        self._redactor = redactor
        self._request_headers = _header_attributes(
            names.HTTP_REQUEST_HEADER, settings.request_headers
        )
        self._response_headers = _header_attributes(
            names.HTTP_RESPONSE_HEADER, settings.response_headers
        )
        self._client_path = names.URL_PATH in asked
        self._client_query = names.URL_QUERY in asked
        self._client_agent = names.USER_AGENT_ORIGINAL in asked
        self._client_port = names.CLIENT_PORT in asked
        self._transport = names.NETWORK_TRANSPORT in asked
        self._method_original = StringAttribute(names.HTTP_REQUEST_METHOD_ORIGINAL)
        self.url_full = StringAttribute(names.URL_FULL)
        self.url_path = StringAttribute(names.URL_PATH)
        self.url_query = StringAttribute(names.URL_QUERY)
        self.client_address = StringAttribute(names.CLIENT_ADDRESS)
        self.user_agent = StringAttribute(names.USER_AGENT_ORIGINAL)
        self._lost_bytes = IntAttribute(names.LOST_BYTES)
        self._sizes = {
            name: IntAttribute(name)
            for name in (
                names.HTTP_REQUEST_SIZE,
                names.HTTP_REQUEST_BODY_SIZE,
                names.HTTP_RESPONSE_SIZE,
                names.HTTP_RESPONSE_BODY_SIZE,
            )
            if name in asked
        }
        self._headers_incomplete = bool_attribute(names.HEADERS_INCOMPLETE, value=True)
        self.truncated = bool_attribute(names.TRUNCATED, value=True)
        # Whether `more` can have anything to say of an exchange without losses and doubts.
        self.asks_more = bool(self._request_headers or self._response_headers or self._sizes)

    @property
    def asks_more_of_clients(self) -> bool:
        """Whether settings ask for what the convention leaves out at a client."""
        return self._client_path or self._client_query or self._client_agent

    def of_connection(self, connection: Connection) -> list[bytes]:
        """What all exchanges of a connection say."""
        peer = connection.peer
        attributes = [string_attribute(names.PEER_EVIDENCE, connection.evidence.encode())]
        if peer is not None:
            attributes.append(string_attribute(names.NETWORK_PEER_ADDRESS, peer.host.encode()))
            attributes.append(int_attribute(names.NETWORK_PEER_PORT, peer.port))
        if connection.tls:
            attributes.append(string_attribute(names.TLS_LIBRARY, connection.tls.encode()))
        if self._transport:
            attributes.append(string_attribute(names.NETWORK_TRANSPORT, b"tcp"))
        return attributes

    def of_client(self, connection: Connection) -> list[bytes]:
        """Who the client is, at a server that no proxy told of another."""
        peer = connection.peer
        if peer is None:
            return []
        attributes = [self.client_address.of(peer.host.encode())]
        if self._client_port:
            attributes.append(int_attribute(names.CLIENT_PORT, peer.port))
        return attributes

    def at_client(
        self,
        attributes: list[bytes],
        base: bytes | None,
        target: bytes,
        agent: bytes | None,
    ) -> None:
        """Appends what says where a request with a target in origin form went.

        `base` stands before the target in its URI; None when that is not known. `target` is
        redacted; `agent` is the first value of User-Agent, as captured.
        """
        if base is not None:
            attributes.append(self.url_full.of(base + target))
        if self._client_path or self._client_query:
            path, _, query = target.partition(b"?")
            if self._client_path:
                attributes.append(self.url_path.of(path))
            if query and self._client_query:
                attributes.append(self.url_query.of(query))
        if self._client_agent:
            self._append_agent(attributes, agent)

    def at_server(self, attributes: list[bytes], target: bytes, agent: bytes | None) -> None:
        """The same at a server to which no proxy said anything."""
        path, _, query = target.partition(b"?")
        attributes.append(self.url_path.of(path))
        if query:
            attributes.append(self.url_query.of(query))
        self._append_agent(attributes, agent)

    def locate(
        self,
        attributes: list[bytes],
        exchange: Exchange,
        request: Request,
        target: bytes,
        first: Mapping[bytes, bytes],
    ) -> Location:
        """Where any request went; appends what says so. `target` is redacted, `first` is not."""
        field = self._redactor.field
        host = first.get(b"host")
        if host is not None:
            host = field(b"host", host)
        elif request.headers_incomplete:
            host = UNKNOWN  # is no name: the peer's address shall not take its place
        at_server = exchange.role is _SERVER
        hops = self.hops(first) if at_server else NOT_FORWARDED
        location = locate(target, request.method, exchange.connection, exchange.role, host, hops)
        if location.full is not None:
            attributes.append(self.url_full.of(location.full))
        if location.path and (at_server or self._client_path):
            attributes.append(self.url_path.of(location.path))
        if location.query and (at_server or self._client_query):
            attributes.append(self.url_query.of(location.query))
        if at_server:
            if hops.client is None:
                # A proxy may have named another one in a field that is missing.
                if not request.headers_incomplete:
                    attributes += self.of_client(exchange.connection)
            else:
                attributes.append(self.client_address.of(hops.client))
        if at_server or self._client_agent:
            self._append_agent(attributes, first.get(b"user-agent"))
        return location

    def hops(self, first: Mapping[bytes, bytes]) -> Forwarded:
        """What proxies in front of a server said, redacted; `first` is as captured."""
        field = self._redactor.field
        return forwarded({name: field(name, first[name]) for name in FORWARDED if name in first})

    def method_original(self, attributes: list[bytes], request: Request) -> None:
        """Appends the method as it was sent, for one that is not known."""
        attributes.append(self._method_original.of(request.method))

    def more(
        self, attributes: list[bytes], exchange: Exchange, lost: int, *, incomplete: bool
    ) -> None:
        """Appends everything else that differs: losses, doubts, and what settings ask for."""
        request, response = exchange.request, exchange.response
        if request is not None:
            for name, key in self._request_headers.items():
                self._append_header(attributes, request.fields, name, key)
        if response is not None:
            for name, key in self._response_headers.items():
                self._append_header(attributes, response.fields, name, key)
        if self._sizes:
            self._append_sizes(attributes, request, response)
        if lost:
            attributes.append(self._lost_bytes.of(lost))
        if incomplete:
            attributes.append(self._headers_incomplete)
        if lost or exchange.error is _TRUNCATED:
            attributes.append(self.truncated)
        words = ambiguity_of(exchange)
        if words:
            values = [word.encode() for word in words]
            attributes.append(strings_attribute(names.HTTP_AMBIGUITY, values))

    def _append_agent(self, attributes: list[bytes], agent: bytes | None) -> None:
        if agent is not None:
            attributes.append(self.user_agent.of(self._redactor.field(b"user-agent", agent)))

    def _append_header(
        self, attributes: list[bytes], fields: tuple[Field, ...], name: bytes, attribute: str
    ) -> None:
        values = [
            self._redactor.field(name, value) for field_name, value in fields if field_name == name
        ]
        if values:
            attributes.append(strings_attribute(attribute, values))

    def _append_sizes(
        self, attributes: list[bytes], request: Request | None, response: Response | None
    ) -> None:
        sizes = {}
        if request is not None:
            sizes[names.HTTP_REQUEST_SIZE] = request.wire_size
            sizes[names.HTTP_REQUEST_BODY_SIZE] = request.body.size
        if response is not None:
            sizes[names.HTTP_RESPONSE_SIZE] = response.wire_size
            sizes[names.HTTP_RESPONSE_BODY_SIZE] = response.body.size
        for name, size in sizes.items():
            attribute = self._sizes.get(name)
            if attribute is not None:
                attributes.append(attribute.of(size))


def _header_attributes(prefix: str, headers: tuple[str, ...]) -> dict[bytes, str]:
    return {name.encode(): prefix + name for name in headers}
