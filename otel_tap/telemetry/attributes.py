"""The attributes that differ from exchange to exchange, encoded once for span and log record.

Source: semantic conventions 1.44.0, "HTTP client span" and "HTTP server span".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from otel_tap.exchange import Connection, Exchange, ExchangeError, Role
from otel_tap.messages import Field, Request, Response
from otel_tap.telemetry import names
from otel_tap.telemetry.location import Location, forwarded, locate
from otel_tap.telemetry.otlp import (
    LOG_ATTRIBUTE,
    SPAN_ATTRIBUTE,
    IntAttribute,
    StringAttribute,
    bool_attribute,
    int_attribute,
    string_attribute,
    strings_attribute,
)
from otel_tap.telemetry.settings import TelemetrySettings

_MAX_CONNECTIONS = 4096

# Members of an enumeration are looked up slowly on its class.
_SERVER = Role.SERVER
_TRUNCATED = ExchangeError.TRUNCATED


class ConnectionAttributes(NamedTuple):
    """What all exchanges of a connection say: attributes of spans, of log records, of a client."""

    connection: Connection
    span: bytes
    log: bytes
    client: list[bytes]  # who its peer is, where that is the client


class AttributeEncoder:
    """Turns exchanges into encoded attributes. One instance serves one thread."""

    def __init__(self, settings: TelemetrySettings) -> None:
        asked = settings.attributes
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
        self._url_full = StringAttribute(names.URL_FULL)
        self._url_path = StringAttribute(names.URL_PATH)
        self._url_query = StringAttribute(names.URL_QUERY)
        self._client_address = StringAttribute(names.CLIENT_ADDRESS)
        self._user_agent = StringAttribute(names.USER_AGENT_ORIGINAL)
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
        self.truncated = bool_attribute(names.TRUNCATED, value=True)
        self._connections: dict[int, ConnectionAttributes] = {}

    def of_connection(self, connection: Connection) -> ConnectionAttributes:
        """What its exchanges have in common; remembered while its Connection is the same."""
        known = self._connections.get(connection.connection_id)
        if known is not None and known.connection is connection:
            return known
        peer = connection.peer
        attributes = [b"", string_attribute(names.PEER_EVIDENCE, connection.evidence.encode())]
        client = []
        if peer is not None:
            host = peer.host.encode()
            attributes.append(string_attribute(names.NETWORK_PEER_ADDRESS, host))
            attributes.append(int_attribute(names.NETWORK_PEER_PORT, peer.port))
            client.append(self._client_address.of(host))
            if self._client_port:
                client.append(int_attribute(names.CLIENT_PORT, peer.port))
        if connection.tls:
            attributes.append(string_attribute(names.TLS_LIBRARY, connection.tls.encode()))
        if self._transport:
            attributes.append(string_attribute(names.NETWORK_TRANSPORT, b"tcp"))
        known = ConnectionAttributes(
            connection, SPAN_ATTRIBUTE.join(attributes), LOG_ATTRIBUTE.join(attributes), client
        )
        if len(self._connections) >= _MAX_CONNECTIONS:
            self._connections.clear()
        self._connections[connection.connection_id] = known
        return known

    def locate(
        self,
        attributes: list[bytes],
        exchange: Exchange,
        request: Request,
        first: Mapping[bytes, bytes],
        common: ConnectionAttributes,
    ) -> Location:
        """Where the request went; appends what says so. `first` has its first field values."""
        host = first.get(b"host")
        if exchange.role is _SERVER:
            hops = forwarded(first)
            location = locate(request, exchange.connection, _SERVER, host, hops)
            if location.path:
                attributes.append(self._url_path.of(location.path))
            if location.query:
                attributes.append(self._url_query.of(location.query))
            if hops.client is None:
                attributes += common.client
            else:
                attributes.append(self._client_address.of(hops.client))
            agent = first.get(b"user-agent")
        else:
            location = locate(request, exchange.connection, exchange.role, host)
            if location.full is not None:
                attributes.append(self._url_full.of(location.full))
            if self._client_path and location.path:
                attributes.append(self._url_path.of(location.path))
            if self._client_query and location.query:
                attributes.append(self._url_query.of(location.query))
            agent = first.get(b"user-agent") if self._client_agent else None
        if agent is not None:
            attributes.append(self._user_agent.of(agent))
        return location

    def method_original(self, attributes: list[bytes], request: Request) -> None:
        """Appends the method as it was sent, for one that is not known."""
        attributes.append(self._method_original.of(request.method))

    def append(
        self,
        attributes: list[bytes],
        exchange: Exchange,
        first: Mapping[bytes, bytes],
    ) -> None:
        """Appends everything else that differs: losses, and what settings ask for."""
        request, response = exchange.request, exchange.response
        lost = 0
        if request is not None:
            lost = request.lost_bytes
            for name, key in self._request_headers.items():
                if name in first:
                    _append_header(attributes, request.fields, name, key)
        if response is not None:
            lost += response.lost_bytes
            for name, key in self._response_headers.items():
                _append_header(attributes, response.fields, name, key)
        if self._sizes:
            self._append_sizes(attributes, request, response)
        if lost:
            attributes.append(self._lost_bytes.of(lost))
        if lost or exchange.error is _TRUNCATED:
            attributes.append(self.truncated)

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


def _append_header(
    attributes: list[bytes], fields: tuple[Field, ...], name: bytes, attribute: str
) -> None:
    values = [value for field_name, value in fields if field_name == name]
    if values:
        attributes.append(strings_attribute(attribute, values))
