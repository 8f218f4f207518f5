"""Exchanges while they run: what is known of them, that looking changes nothing, and silence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import TextMessage

from otel_tap import connections as subject
from otel_tap.events import Direction
from otel_tap.exchange import ExchangeError
from otel_tap.messages import Body
from tests.unit.http2_talk import Talk, frame, play
from tests.unit.test_http1 import GET, OK, summary
from tests.unit.test_http1_properties import conversations, pieces
from tests.unit.test_http2_websocket import Socket
from tests.unit.websocket_talk import ASK, CLOSE, GRANT, TEXT
from tests.unit.websocket_talk import frame as websocket_frame
from tests.unit.wire import SECOND, Wire

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"8\r\ndata: x\n\r\n"
POST = b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def looked(wire: Wire, older_than_ns: int = 0) -> list:
    return wire.connections.under_way(wire.now, older_than_ns)


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize(
    ("sent", "got", "asked", "answer"),
    [
        ([GET], [], (b"GET", True, 0), None),
        ([GET[:20]], [], None, None),
        ([POST + b"ab"], [], (b"POST", False, 2), None),
        ([POST + b"ab", b"cd"], [], (b"POST", False, 4), None),
        ([GET], [LENGTH + b"abc"], (b"GET", True, 0), (200, False, 3)),
        ([GET], [LENGTH, b"abc", b"d"], (b"GET", True, 0), (200, False, 4)),
        ([GET], [STREAM, EVENT, EVENT], (b"GET", True, 0), (200, False, 16)),
        ([GET], [STREAM[:30]], (b"GET", True, 0), None),
        ([POST], [OK], (b"POST", False, 0), (200, True, 2)),
    ],
)
def test_what_is_known_of_a_running_exchange(client, sent, got, asked, answer):
    wire = Wire(client=client).opened().request(GET).response(OK)
    began = wire.now + 1_000_000
    for payload in sent:
        wire.request(payload)
    for payload in got:
        wire.response(payload)
    wire.now += 5 * SECOND
    if asked is None:
        assert not looked(wire)
        return
    (seen,) = looked(wire)
    method, whole, size = asked
    assert (seen.request.method, seen.request.complete, seen.request.body.size) == (
        method,
        whole,
        size,
    )
    if answer is None:
        assert seen.response is None
    else:
        known = seen.response
        assert (known.status, known.complete, known.body.size) == answer
    assert seen.error is None
    assert seen.start_ktime_ns == began
    assert seen.duration_ns == wire.now - began
    assert looked(wire, 10 * SECOND) == []
    assert len(wire.exchanges) == 1


def test_the_exchange_that_is_over_is_the_one_that_ran():
    wire = Wire().opened().request(GET).response(OK).request(GET).response(STREAM)
    (seen,) = looked(wire)
    wire.response(b"0\r\n\r\n")
    over = wire.exchanges[1]
    assert (seen.position, seen.start_ktime_ns) == (over.position, over.start_ktime_ns)
    assert (seen.reused, seen.tid, seen.role) == (over.reused, over.tid, over.role)
    assert not looked(wire)


@given(conversations(), st.booleans(), st.data())
@settings(deadline=None, max_examples=60)
def test_looking_changes_nothing(batches, client, data):
    alone, watched = Wire(client=client, body_limit=9).opened(), Wire(client=client, body_limit=9)
    watched.opened()
    for batch in batches:
        for direction, at in ((Direction.EGRESS, 1), (Direction.INGRESS, 2)):
            for piece in pieces(data.draw, b"".join(pair[at] for pair in batch)):
                way = direction if client else Direction(1 - direction)
                for wire in (alone, watched):
                    wire.moved(way, piece)
                for seen in looked(watched):
                    assert seen.request is not None or seen.response is not None
                    assert seen not in watched.exchanges
    assert alone.exchanges == watched.exchanges
    assert not looked(watched)


def test_streams_of_http2_are_seen_side_by_side():
    wire = Wire().opened()
    wire.request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)).response(frame(4, 0, 0))
    wire.request(frame(1, 5, 1, b"\x82\x84\x87\x41\x01h") + frame(1, 4, 3, b"\x83\x84\x87"))
    wire.response(frame(1, 4, 1, b"\x88") + frame(0, 0, 1, b"abc"))
    first, second = looked(wire)
    assert (first.request.method, first.response.status) == (b"GET", 200)
    assert first.response.body == Body(b"abc", 3, False)
    assert (second.request.method, second.response) == (b"POST", None)
    assert [one.position.offset for one in (first, second)] == [1, 3]
    # The one that answers without a length may be silent; the one without an answer may not.
    wire.later(70 * SECOND)
    assert [summary(one)[2] for one in wire.exchanges] == [ExchangeError.TIMEOUT]
    assert [one.position.offset for one in looked(wire)] == [1]
    wire.response(frame(0, 1, 1, b"d"))
    assert wire.exchanges[1].response.body.content == b"abcd"
    assert wire.exchanges[1].error is None


@pytest.mark.parametrize("client", [True, False])
def test_a_session_is_seen_while_it_runs_and_looking_ends_nothing(client):
    wire = Wire(client=client).opened().request(ASK).response(GRANT % b"")
    (handshake,) = wire.exchanges
    wire.request(websocket_frame(TEXT, b"hello", masked=True))
    wire.later(5 * SECOND)
    (seen,) = looked(wire)
    sent, received = seen.websocket.sent, seen.websocket.received
    asked, answered = (sent, received) if client else (received, sent)
    assert (asked.messages, asked.message_bytes, answered.messages) == (1, 5, 0)
    assert seen.position == handshake.position
    assert seen.end_ktime_ns == wire.now
    wire.response(websocket_frame(CLOSE)).request(websocket_frame(CLOSE, masked=True))
    assert [one.websocket is not None for one in wire.exchanges] == [False, True, True]
    assert not looked(wire)


def test_a_session_on_a_stream_of_http2_is_seen_while_it_runs():
    socket = Socket(Talk().begun()).says(TextMessage("hello"), client=True)
    wire = play(socket.talk, Wire().opened())
    (seen,) = looked(wire)
    assert (seen.websocket.sent.messages, seen.position.offset) == (1, 1)


@pytest.mark.parametrize(
    "head", [STREAM, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"]
)
def test_a_stream_of_events_may_be_silent_for_long(head):
    wire = Wire().opened().request(GET).response(head).response(EVENT)
    for _ in range(50):
        wire.later(60 * SECOND)
    assert not wire.exchanges
    wire.response(EVENT)
    for _ in range(59):
        wire.later(60 * SECOND)
    wire.response(b"0\r\n\r\n").closed().later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error is None
    assert exchange.response.complete
    assert exchange.response.body.content.startswith(b"data: x\n" if head is STREAM else EVENT)


def test_a_stream_whose_end_was_never_told_is_not_kept_for_ever():
    wire = Wire().opened().request(GET).response(STREAM)
    wire.later(subject.FORGET_NS + SECOND)
    assert summary(wire.exchanges[0])[2] is ExchangeError.TIMEOUT


def test_a_content_of_known_length_that_stops_times_out():
    wire = Wire().opened().request(GET).response(LENGTH).response(b"abc").later(61 * SECOND)
    assert summary(wire.exchanges[0])[2] is ExchangeError.TIMEOUT
