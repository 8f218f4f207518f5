"""The attributes that a span and its log record share, encoded once for both.

Source: semantic conventions 1.44.0, "HTTP client span" and "HTTP server span".
"""

from __future__ import annotations

from otel_tap.exchange import Connection, Exchange, ExchangeError, Role
from otel_tap.messages import Field, Request, Response, field_value
from otel_tap.telemetry import names
from otel_tap.telemetry.location import Location, forwarded, locate
from otel_tap.telemetry.otlp import (
    IntAttribute,
    KnownStringAttribute,
    StringAttribute,
    bool_attribute,
    strings_attribute,
)
from otel_tap.telemetry.settings import TelemetrySettings

_MAX_CONNECTIONS = 4096

# Neither says anything of the exchange itself, only of what the agent could see of it.
_NOT_ITS_ERRORS = (ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED)


def error_type(exchange: Exchange) -> str | None:
    """`error.type` of the exchange: how it broke, else a status that is an error at this end."""
    if exchange.error is not None and exchange.error not in _NOT_ITS_ERRORS:
        return exchange.error.value
    response = exchange.response
    if response is not None and response.status >= (400 if exchange.role is Role.CLIENT else 500):
        return str(response.status)
    return None


class AttributeEncoder:
    """Turns exchanges into encoded attributes. One instance serves one thread."""

    def __init__(self, settings: TelemetrySettings) -> None:
        self._known_methods = {method.encode(): method for method in settings.known_methods}
        self._asked = settings.attributes
        self._request_headers = _header_attributes(
            names.HTTP_REQUEST_HEADER, settings.request_headers
        )
        self._response_headers = _header_attributes(
            names.HTTP_RESPONSE_HEADER, settings.response_headers
        )
        self._method = KnownStringAttribute(names.HTTP_REQUEST_METHOD)
        self._method_original = StringAttribute(names.HTTP_REQUEST_METHOD_ORIGINAL)
        self._status = IntAttribute(names.HTTP_RESPONSE_STATUS_CODE)
        self._error_type = KnownStringAttribute(names.ERROR_TYPE)
        self._url_full = StringAttribute(names.URL_FULL)
        self._url_path = StringAttribute(names.URL_PATH)
        self._url_query = StringAttribute(names.URL_QUERY)
        self._scheme = KnownStringAttribute(names.URL_SCHEME)
        self._server_address = StringAttribute(names.SERVER_ADDRESS)
        self._server_port = IntAttribute(names.SERVER_PORT)
        self._client_address = StringAttribute(names.CLIENT_ADDRESS)
        self._client_port = IntAttribute(names.CLIENT_PORT)
        self._peer_address = KnownStringAttribute(names.NETWORK_PEER_ADDRESS)
        self._peer_port = IntAttribute(names.NETWORK_PEER_PORT)
        self._version = KnownStringAttribute(names.NETWORK_PROTOCOL_VERSION)
        self._user_agent = StringAttribute(names.USER_AGENT_ORIGINAL)
        self._lost_bytes = IntAttribute(names.LOST_BYTES)
        self._tls_library = KnownStringAttribute(names.TLS_LIBRARY)
        self._evidence = KnownStringAttribute(names.PEER_EVIDENCE)
        self._transport = KnownStringAttribute(names.NETWORK_TRANSPORT)
        self._sizes = {
            name: IntAttribute(name)
            for name in (
                names.HTTP_REQUEST_SIZE,
                names.HTTP_REQUEST_BODY_SIZE,
                names.HTTP_RESPONSE_SIZE,
                names.HTTP_RESPONSE_BODY_SIZE,
            )
            if name in settings.attributes
        }
        self.truncated = bool_attribute(names.TRUNCATED, value=True)
        self._reused = (
            bool_attribute(names.CONNECTION_REUSED, value=False),
            bool_attribute(names.CONNECTION_REUSED, value=True),
        )
        self._connections: dict[int, tuple[Connection, list[bytes]]] = {}

    def method_of(self, request: Request) -> str:
        """The method as spans name it: `_OTHER` unless it is known."""
        return self._known_methods.get(request.method, "_OTHER")

    def of(self, exchange: Exchange) -> tuple[list[bytes], Location | None]:
        """Encoded attributes of both the span and the log record, and where the request went."""
        encoded = self._of_connection(exchange.connection).copy()
        request, response = exchange.request, exchange.response
        location = None
        if request is not None:
            location = self._of_request(encoded, exchange, request)
        if response is not None:
            self._of_response(encoded, response)
        message = response or request
        if message is not None:
            encoded.append(self._version.of(message.version))
        error = error_type(exchange)
        if error is not None:
            encoded.append(self._error_type.of(error))
        encoded.append(self._reused[exchange.reused])
        lost = exchange.lost_bytes
        if lost:
            encoded.append(self._lost_bytes.of(lost))
        if lost or exchange.error is ExchangeError.TRUNCATED:
            encoded.append(self.truncated)
        return encoded, location

    def _of_connection(self, connection: Connection) -> list[bytes]:
        known = self._connections.get(connection.connection_id)
        if known is not None and known[0] is connection:
            return known[1]
        encoded = [self._evidence.of(connection.evidence.value)]
        if connection.peer is not None:
            encoded.append(self._peer_address.of(connection.peer.host))
            encoded.append(self._peer_port.of(connection.peer.port))
        if connection.tls.value:
            encoded.append(self._tls_library.of(connection.tls.value))
        if names.NETWORK_TRANSPORT in self._asked:
            encoded.append(self._transport.of("tcp"))
        if len(self._connections) >= _MAX_CONNECTIONS:
            self._connections.clear()
        self._connections[connection.connection_id] = (connection, encoded)
        return encoded

    def _of_request(self, encoded: list[bytes], exchange: Exchange, request: Request) -> Location:
        server = exchange.role is Role.SERVER
        asked = self._asked
        method = self.method_of(request)
        encoded.append(self._method.of(method))
        if method == "_OTHER":
            encoded.append(self._method_original.of(request.method))
        hops = forwarded(request)
        location = locate(request, exchange.connection, exchange.role, hops)
        if server or names.URL_SCHEME in asked:
            encoded.append(self._scheme.of(location.scheme))
        if (server or names.URL_PATH in asked) and location.path:
            encoded.append(self._url_path.of(location.path))
        if (server or names.URL_QUERY in asked) and location.query:
            encoded.append(self._url_query.of(location.query))
        if location.full is not None:
            encoded.append(self._url_full.of(location.full))
        if location.authority is not None:
            encoded.append(self._server_address.of(location.authority.host))
            if location.authority.port is not None:
                encoded.append(self._server_port.of(location.authority.port))
        if server:
            self._of_client(encoded, exchange.connection, hops.client)
        if server or names.USER_AGENT_ORIGINAL in asked:
            agent = field_value(request.fields, b"user-agent")
            if agent is not None:
                encoded.append(self._user_agent.of(agent))
        for name, key in self._request_headers.items():
            _append_header(encoded, request.fields, name, key)
        if self._sizes:
            self._append_size(encoded, names.HTTP_REQUEST_SIZE, request.wire_size)
            self._append_size(encoded, names.HTTP_REQUEST_BODY_SIZE, request.body.size)
        return location

    def _of_client(
        self, encoded: list[bytes], connection: Connection, forwarded_for: bytes | None
    ) -> None:
        peer = connection.peer
        if forwarded_for is not None:
            encoded.append(self._client_address.of(forwarded_for))
        elif peer is not None:
            encoded.append(self._client_address.of(peer.host.encode()))
            if names.CLIENT_PORT in self._asked:
                encoded.append(self._client_port.of(peer.port))

    def _of_response(self, encoded: list[bytes], response: Response) -> None:
        encoded.append(self._status.of(response.status))
        for name, key in self._response_headers.items():
            _append_header(encoded, response.fields, name, key)
        if self._sizes:
            self._append_size(encoded, names.HTTP_RESPONSE_SIZE, response.wire_size)
            self._append_size(encoded, names.HTTP_RESPONSE_BODY_SIZE, response.body.size)

    def _append_size(self, encoded: list[bytes], name: str, size: int) -> None:
        attribute = self._sizes.get(name)
        if attribute is not None:
            encoded.append(attribute.of(size))


def _header_attributes(prefix: str, headers: tuple[str, ...]) -> dict[bytes, str]:
    return {name.encode(): prefix + name for name in headers}


def _append_header(
    encoded: list[bytes], fields: tuple[Field, ...], name: bytes, attribute: str
) -> None:
    values = [value for field_name, value in fields if field_name == name]
    if values:
        encoded.append(strings_attribute(attribute, values))
