"""What is shown of a gRPC call, beyond the HTTP exchange that carried it.

Owns the words only, as `exchange_view` does for exchanges. A method that has not the form
`package.Service/Method` is not shown by itself: it stands in the URL, which was redacted.
"""

from __future__ import annotations

from typing import Any

from otel_tap.exchange import Rpc
from otel_tap.telemetry.rpc import is_method, status_name

KIND = "GRPC"
"""Stands where an exchange has its method."""

_NS_PER_S = 1_000_000_000


def rows(rpc: Rpc) -> list[tuple[str, str]]:
    """(name, value) of what only a call has."""
    found = [
        ("call", _method(rpc) or "unknown method"),
        ("call status", "unknown" if rpc.status is None else status_name(rpc.status)),
    ]
    if rpc.timeout_ns is not None:
        found.append(("deadline", f"{rpc.timeout_ns / _NS_PER_S:g} s"))
    if rpc.request_messages is not None:
        found.append(("sent", f"{rpc.request_messages} messages, {rpc.request_message_bytes} B"))
    if rpc.response_messages is not None:
        answered = f"{rpc.response_messages} messages, {rpc.response_message_bytes} B"
        found.append(("answered", answered))
    if rpc.web:
        found.append(("form", "gRPC-Web"))
    return found


def json_object(rpc: Rpc | None) -> dict[str, Any] | None:
    """The `rpc` key of an exchange's JSON object."""
    if rpc is None:
        return None
    return {
        "method": _method(rpc),
        "status": None if rpc.status is None else status_name(rpc.status),
        "web": rpc.web,
        "timeout_ns": rpc.timeout_ns,
        "request_messages": rpc.request_messages,
        "request_message_bytes": rpc.request_message_bytes,
        "response_messages": rpc.response_messages,
        "response_message_bytes": rpc.response_message_bytes,
    }


def _method(rpc: Rpc) -> str | None:
    return rpc.method.decode() if is_method(rpc.method) else None
