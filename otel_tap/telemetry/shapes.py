"""What an exchange has in common with many others, encoded once for all of them.

Owns the parts of spans and log records that take few values: method, server, version, status, and
what follows from them (name, kind, error type, severity). Of captured values it keeps only names of
servers, never a path, a query or another field: those may be secret.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import UNKNOWN, UNKNOWN_STATUS
from otel_tap.telemetry import names
from otel_tap.telemetry import rpc as calls
from otel_tap.telemetry.location import Location
from otel_tap.telemetry.otlp import (
    LOG_ATTRIBUTE,
    SPAN_ATTRIBUTE,
    bool_attribute,
    field,
    int_attribute,
    string_attribute,
)
from otel_tap.telemetry.readings import span_name

_MAX_SHAPES: Final = 4096
_MAX_REMEMBERED_NAME: Final = 255

_KIND_SERVER: Final = b"\x30\x02"
_KIND_CLIENT: Final = b"\x30\x03"
_STATUS_ERROR: Final = b"\x7a\x02\x18\x02"  # no description: the code or error.type says it
_EVENT_NAME: Final = field(b"\x62", names.EVENT_NAME.encode())
_INFO: Final = b"\x10\x09\x1a\x04INFO"
_WARN: Final = b"\x10\x0d\x1a\x04WARN"
_ERROR: Final = b"\x10\x11\x1a\x05ERROR"

# Neither says anything of the exchange itself, only of what the agent could see of it.
_NOT_ITS_ERRORS = (ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED)


class Shape(NamedTuple):
    """Encoded fields of a span and of a log record, attributes among them."""

    span: bytes
    log: bytes


def error_type(status: int, role: Role, error: ExchangeError | None) -> str | None:
    """`error.type` of an exchange: how it broke, else a status that is an error at this end."""
    if error is not None and error not in _NOT_ITS_ERRORS:
        return error.value
    return str(status) if status >= (400 if role is Role.CLIENT else 500) else None


def _outcome(
    status: int, role: Role, error: ExchangeError | None, call: calls.RpcKey | None
) -> tuple[str | None, bytes]:
    """`error.type` and severity."""
    if call is None or call[1] is None:
        broken_as = error_type(status, role, error)
        return broken_as, _severity(status, broken_as)
    # Its status is the last that moves of a call: what becomes of the stream then is no matter.
    failed_as = calls.failed_as(call[1], role)
    if failed_as is None:
        return None, _INFO
    return failed_as, _ERROR if calls.is_fault_of_server(call[1]) else _WARN


def _severity(status: int, broken_as: str | None) -> bytes:
    if broken_as is None:
        return _INFO
    return _WARN if broken_as == str(status) and status < 500 else _ERROR


class Shapes:
    """Encodes and remembers shapes, a bounded number of them. One instance serves one thread."""

    __slots__ = ("_always_scheme", "_known")

    def __init__(self, *, always_scheme: bool) -> None:
        self._always_scheme = always_scheme
        self._known: dict[tuple[object, ...], Shape] = {}

    def of(self, exchange: Exchange, method: str | None, location: Location | None) -> Shape:
        """The shape of the exchange; `method` is None when it is not a known one."""
        response = exchange.response
        message = response or exchange.request
        version = "" if message is None else message.version
        status = UNKNOWN_STATUS if response is None else response.status  # 000 is sent, too
        scheme = authority = None
        if location is not None:
            scheme = location.scheme
            authority = location.authority
        request = exchange.request
        if method is None and request is not None and request.method == UNKNOWN:
            method = ""  # not one that is not known, but one that was not seen
        name = b"" if exchange.genai is None else span_name(exchange.genai)
        call = None if exchange.rpc is None else calls.shape_key(exchange.rpc)
        key = (
            exchange.role, method, scheme, authority, version, status, exchange.error,
            exchange.reused, name, call,
        )  # fmt: skip
        shape = self._known.get(key)
        if shape is None:
            shape = self._encode(exchange, method, location, version, status, name, call)
            if authority is None or len(authority.host) <= _MAX_REMEMBERED_NAME:
                if len(self._known) >= _MAX_SHAPES:
                    self._known.clear()
                self._known[key] = shape
        return shape

    def _encode(
        self,
        exchange: Exchange,
        method: str | None,
        location: Location | None,
        version: str,
        status: int,
        name: bytes,
        call: calls.RpcKey | None,
    ) -> Shape:
        role = exchange.role
        attributes = [b""]  # the tag that joins them goes before each
        if location is not None:
            if method != "":
                attributes.append(
                    string_attribute(names.HTTP_REQUEST_METHOD, (method or "_OTHER").encode())
                )
            if role is Role.SERVER or self._always_scheme:
                attributes.append(string_attribute(names.URL_SCHEME, location.scheme.encode()))
            if location.authority is not None:
                host, port = location.authority
                attributes.append(string_attribute(names.SERVER_ADDRESS, host))
                if port is not None:
                    attributes.append(int_attribute(names.SERVER_PORT, port))
        if status != UNKNOWN_STATUS:
            attributes.append(int_attribute(names.HTTP_RESPONSE_STATUS_CODE, status))
        if version:
            attributes.append(string_attribute(names.NETWORK_PROTOCOL_VERSION, version.encode()))
        if call is not None:
            attributes += calls.shape_attributes(call)
        broken_as, severity = _outcome(status, role, exchange.error, call)
        if broken_as is not None:
            attributes.append(string_attribute(names.ERROR_TYPE, broken_as.encode()))
        attributes.append(bool_attribute(names.CONNECTION_REUSED, value=exchange.reused))
        if call is not None:
            name = calls.span_name(call)
        elif not name:
            name = (method or "HTTP").encode()
        return Shape(
            field(b"\x2a", name)
            + (_KIND_CLIENT if role is Role.CLIENT else _KIND_SERVER)
            + SPAN_ATTRIBUTE.join(attributes)
            + (b"" if broken_as is None else _STATUS_ERROR),
            severity + LOG_ATTRIBUTE.join(attributes) + _EVENT_NAME,
        )
