"""What the records of a gRPC call say beyond those of the HTTP exchange that carried it.

Owns the words of the "rpc" semantic conventions 1.44.0 (gRPC) and the own facts of a call. A
method is named only where its name has the form `package.Service/Method`: anything else that
stood in the path is `_OTHER`, so that span names stay few, and goes out redacted.
"""

from __future__ import annotations

import re
from typing import Final

from otel_tap.exchange import Role, Rpc
from otel_tap.messages import UNKNOWN
from otel_tap.telemetry import names
from otel_tap.telemetry.otlp import (
    IntAttribute,
    bool_attribute,
    double_attribute,
    string_attribute,
)

# Number is place. Source: gRPC, "Status codes and their use in gRPC".
_STATUS_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
# UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
_FAULTS_OF_SERVERS: Final = frozenset((2, 4, 12, 13, 14, 15))

_MAX_METHOD: Final = 255  # bytes
_METHOD: Final = re.compile(rb"[\w.$-]+/[\w.$-]+").fullmatch
_OTHER: Final = b"_OTHER"
_SYSTEM: Final = b"grpc"
_NS_PER_S: Final = 1_000_000_000

_HTTP_OK: Final = 200

RpcKey = tuple[bytes, int | None, bool]
"""What the calls of one shape have in common: method, status, gRPC-Web."""


def status_name(status: int) -> str:
    """The name of a status, or its number if it has none."""
    return _STATUS_NAMES[status] if 0 <= status < len(_STATUS_NAMES) else str(status)


def is_method(method: bytes) -> bool:
    """Whether this is the name of a method, rather than anything that a path can hold."""
    return len(method) <= _MAX_METHOD and _METHOD(method) is not None


def shape_key(rpc: Rpc) -> RpcKey:
    """What its shape depends on; of few values, whatever was sent."""
    method = rpc.method
    if method != UNKNOWN and not is_method(method):
        method = _OTHER
    return method, rpc.status, rpc.web


def span_name(key: RpcKey) -> bytes:
    """The method, or the system where that is not known."""
    method = key[0]
    return _SYSTEM if method in (UNKNOWN, _OTHER) else method


def is_fault_of_server(status: int) -> bool:
    """Whether a status says that the server failed; a number without a name reads as UNKNOWN."""
    return status in _FAULTS_OF_SERVERS or status >= len(_STATUS_NAMES)


def failed_as(status: int, role: Role) -> str | None:
    """`error.type` of a call with this status, None where that is no error at this end."""
    if status == 0 or (role is Role.SERVER and not is_fault_of_server(status)):
        return None
    return status_name(status)


def shape_attributes(key: RpcKey) -> list[bytes]:
    """The attributes that all calls of one shape have."""
    method, status, web = key
    attributes = [string_attribute(names.RPC_SYSTEM_NAME, _SYSTEM)]
    if method != UNKNOWN:
        attributes.append(string_attribute(names.RPC_METHOD, method))
    if status is not None:
        name = status_name(status).encode()
        attributes.append(string_attribute(names.RPC_RESPONSE_STATUS_CODE, name))
    if web:
        attributes.append(bool_attribute(names.RPC_WEB, value=True))
    return attributes


def display_status(rpc: Rpc, http_status: int) -> bytes:
    """For people: how the call ended, else what HTTP said instead, else `-`."""
    if rpc.status is not None:
        return status_name(rpc.status).encode()
    return b"-" if http_status in (_HTTP_OK, -1) else b"HTTP %d" % http_status


class RpcEncoder:
    """Encodes what differs from call to call. One instance serves one thread."""

    __slots__ = (
        "_request_bytes",
        "_request_messages",
        "_response_bytes",
        "_response_messages",
    )

    def __init__(self) -> None:
        self._request_messages = IntAttribute(names.RPC_REQUEST_MESSAGES)
        self._request_bytes = IntAttribute(names.RPC_REQUEST_MESSAGE_BYTES)
        self._response_messages = IntAttribute(names.RPC_RESPONSE_MESSAGES)
        self._response_bytes = IntAttribute(names.RPC_RESPONSE_MESSAGE_BYTES)

    def append(self, attributes: list[bytes], rpc: Rpc) -> None:
        """Appends what moved, and the deadline; nothing for what is not known."""
        if rpc.request_messages is not None and rpc.request_message_bytes is not None:
            attributes.append(self._request_messages.of(rpc.request_messages))
            attributes.append(self._request_bytes.of(rpc.request_message_bytes))
        if rpc.response_messages is not None and rpc.response_message_bytes is not None:
            attributes.append(self._response_messages.of(rpc.response_messages))
            attributes.append(self._response_bytes.of(rpc.response_message_bytes))
        if rpc.timeout_ns is not None:
            attributes.append(double_attribute(names.RPC_TIMEOUT, rpc.timeout_ns / _NS_PER_S))

    def append_original(self, attributes: list[bytes], rpc: Rpc, target: bytes) -> None:
        """Appends what stood in the place of a method that is `_OTHER`; `target` is redacted."""
        if rpc.method != UNKNOWN and not is_method(rpc.method):
            original = target.partition(b"?")[0].removeprefix(b"/")
            attributes.append(string_attribute(names.RPC_METHOD_ORIGINAL, original))
