"""What is shown of a WebSocket session that is over, or of one of its messages.

Owns the words only, as `exchange_view` does for exchanges; what arrives here is redacted.
"""

from __future__ import annotations

from typing import Any

from otel_tap.websocket import Flow, Message, Session


def kind(what: Session | Message) -> str:
    """Stands where an exchange has its method."""
    return "WEBSOCKET" if isinstance(what, Session) else "MESSAGE"


def outcome(what: Session | Message) -> str:
    """Stands where an exchange has its status: the close code, or which way a message went."""
    if isinstance(what, Message):
        return "sent" if what.sent else "received"
    return "-" if what.close_code is None else str(what.close_code)


def moved(what: Session | Message) -> int:
    """Payload bytes, both ways."""
    if isinstance(what, Message):
        return what.body.size
    return what.sent.message_bytes + what.received.message_bytes


def lost(what: Session | Message) -> int:
    """Payload bytes that fell into gaps, both ways."""
    if isinstance(what, Message):
        return 0
    return what.sent.lost_bytes + what.received.lost_bytes


def rows(what: Session | Message) -> list[tuple[str, str]]:
    """(name, value) of what only a session or message has; the values may hold any text."""
    if isinstance(what, Message):
        number = "unknown" if what.number is None else str(what.number)
        text = what.body.content.decode("utf-8", "backslashreplace")
        return [
            ("message", f"{number}, {outcome(what)}"),
            *(("|", line) for line in text.split("\n")),
        ]
    closed = {None: "no close frame", True: "by this end", False: "by the other end"}
    found = [
        ("sent", _counts(what.sent)),
        ("received", _counts(what.received)),
        ("closed", f"{closed[what.closed_here]} {outcome(what)}"),
    ]
    if what.close_reason:
        found.append(("reason", what.close_reason.decode("utf-8", "backslashreplace")))
    return found


def json_object(what: Session | Message | None) -> dict[str, Any] | None:
    """The `websocket` key of an exchange's JSON object."""
    if what is None:
        return None
    if isinstance(what, Message):
        content = what.body.content.decode("utf-8", "backslashreplace")
        return {
            "type": "message",
            "direction": outcome(what),
            "number": what.number,
            "text": what.text,
            "bytes": what.body.size,
            "content": content,
            "content_truncated": what.body.truncated,
        }
    return {
        "type": "session",
        "sent": _flow(what.sent),
        "received": _flow(what.received),
        "permessage_deflate": what.deflate,
        "close_code": what.close_code,
        "closed_here": what.closed_here,
    }


def _flow(flow: Flow) -> dict[str, Any]:
    return {
        "messages": flow.messages,
        "bytes": flow.message_bytes,
        "pings": flow.pings,
        "pongs": flow.pongs,
        "exact": flow.exact,
    }


def _counts(flow: Flow) -> str:
    at_least = "" if flow.exact else "at least "
    return f"{at_least}{flow.messages} messages, {flow.message_bytes} B"
