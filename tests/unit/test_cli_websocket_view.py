"""A WebSocket session and its messages as a reader sees them."""

from __future__ import annotations

import json
from dataclasses import replace

from otel_tap.messages import Body
from otel_tap.websocket import Flow, Message, Session
from tests.unit.test_cli_exchange_view import EXCHANGE, view

SESSION = Session(
    Flow(3, 2, 40, 4, 1, 1, 2, 0, exact=True),
    Flow(5, 5, 700, 5, 0, 0, 0, 9, exact=False),
    b"chat", True, 1000, b"bye\x1b[2J", closed_here=False,
)  # fmt: skip
MESSAGE = Message(True, True, False, 2, Body(b"one\ntw\x1b[2Jo", 12, True), 1)


def test_a_session_is_a_line_with_its_close_code_and_size():
    line = view(replace(EXCHANGE, websocket=SESSION)).line().split(" ", 1)[1]
    assert line == (
        "curl[4242] -> WEBSOCKET https://example.org/x 1000 12 ms 740 B "
        "peer=[2001:db8::1]:443 lost=9B"
    )
    unclosed = replace(SESSION, close_code=None)
    assert " - 12 ms" in view(replace(EXCHANGE, websocket=unclosed)).line()


def test_a_message_is_a_line_with_its_direction_and_size():
    line = view(replace(EXCHANGE, websocket=MESSAGE)).line()
    assert " MESSAGE https://example.org/x sent 12 ms 12 B " in line


def test_details_say_what_was_counted_and_nothing_unsafe():
    rows = view(replace(EXCHANGE, websocket=SESSION)).details()
    assert ("sent", "3 messages, 40 B") in rows
    assert ("received", "at least 5 messages, 700 B") in rows
    assert ("closed", "by the other end 1000") in rows
    lines = view(replace(EXCHANGE, websocket=MESSAGE)).details()
    assert ("message", "2, sent") in lines
    assert ("|", "one") in lines
    for _, value in rows + lines:
        assert "\x1b" not in value


def test_json_has_a_key_of_its_own_for_what_followed_a_handshake():
    assert json.loads(view().json_line())["websocket"] is None
    session = json.loads(view(replace(EXCHANGE, websocket=SESSION)).json_line())["websocket"]
    assert session == {
        "type": "session",
        "sent": {"messages": 3, "bytes": 40, "pings": 1, "pongs": 2, "exact": True},
        "received": {"messages": 5, "bytes": 700, "pings": 0, "pongs": 0, "exact": False},
        "permessage_deflate": True,
        "close_code": 1000,
        "closed_here": False,
    }
    message = json.loads(view(replace(EXCHANGE, websocket=MESSAGE)).json_line())["websocket"]
    assert message == {
        "type": "message",
        "direction": "sent",
        "number": 2,
        "text": True,
        "bytes": 12,
        "content": "one\ntw\x1b[2Jo",
        "content_truncated": True,
    }
