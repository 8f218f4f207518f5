"""Invariants of the WebSocket observer.

1. Any chunking of a valid session gives the same messages, counts and close, at both ends.
2. With gaps, counts that say that they are exact are; and the content of a message that has a
   number is the beginning of the message of that number.
3. Any bytes and gaps give one session and no exception, within the body limit.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.events import CloseReason, Direction
from tests.unit.websocket_talk import (
    BINARY,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    Deflater,
    Talk,
    closing,
    frame,
    message,
)
from tests.unit.wire import SECOND

contents = st.binary(max_size=40) | st.sampled_from(
    [b"a" * 125, b"b" * 126, b"word " * 60, frame(TEXT, b"inside"), frame(PING) * 2]
)


@st.composite
def sides(draw, *, masked, deflates):
    """What one end sends: (call by call bytes, [(text, content)], pings, pongs, payload bytes)."""
    pack = Deflater()
    calls, told = [], []
    pings = pongs = size = 0
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from([TEXT, BINARY, TEXT, PING, PONG]))
        content = draw(contents)
        if kind in (PING, PONG):
            calls.append(frame(kind, content[:125], masked=masked))
            pings += kind == PING
            pongs += kind == PONG
            continue
        told.append((kind == TEXT, content))
        compressed = deflates and draw(st.booleans())
        payload = pack(content) if compressed else content
        size += len(payload)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        calls.append(message(kind, payload, *cuts, masked=masked, compressed=compressed))
    return calls, told, pings, pongs, size


@st.composite
def sessions(draw):
    deflates = draw(st.booleans())
    return (
        deflates,
        draw(sides(masked=True, deflates=deflates)),
        draw(sides(masked=False, deflates=deflates)),
    )


def pieces(draw: Any, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)]) if b > a]


@given(sessions(), st.booleans(), st.data())
@settings(deadline=None, max_examples=150)
def test_any_chunking_at_either_end_gives_the_same_session(session, client, data):
    deflates, asked, answered = session
    talk = Talk(client=client, extensions=DEFLATE % b"" if deflates else b"")
    for side, move in ((asked, talk.request), (answered, talk.response)):
        for piece in pieces(data.draw, b"".join(side[0])):
            move(piece)
    talk.request(closing(1000, masked=True)).response(closing(1000))
    told = {sent: [(m.text, m.body.content) for m in talk.messages if m.sent is sent]
            for sent in (True, False)}  # fmt: skip
    assert told == {client: asked[1], not client: answered[1]}
    assert not any(one.body.truncated for one in talk.messages)
    (end,) = talk.sessions
    assert end.error is None
    assert (end.websocket.close_code, end.websocket.closed_here) == (1000, client)
    for side, ours in ((asked, client), (answered, not client)):
        flow = end.websocket.sent if ours else end.websocket.received
        assert flow.exact
        assert flow.messages == len(side[1])
        assert flow.text_messages == sum(text for text, _ in side[1])
        assert (flow.pings, flow.pongs, flow.message_bytes) == side[2:]


@given(sessions(), st.data())
@settings(deadline=None, max_examples=300)
def test_losses_never_make_a_count_wrong_or_a_content_false(session, data):
    deflates, asked, answered = session
    talk = Talk(extensions=DEFLATE % b"" if deflates else b"")
    for side, direction in ((asked, Direction.EGRESS), (answered, Direction.INGRESS)):
        calls = side[0]
        if data.draw(st.booleans()):
            calls = pieces(data.draw, b"".join(calls))
        for call in calls:
            kept = data.draw(st.sampled_from([None, None, None, 0, 1, 2, 3, 20]))
            if kept is None or kept >= len(call):
                talk.moved(direction, call)
            elif kept == 0:
                talk.missed(direction, len(call))
            else:
                talk.moved(direction, call[:kept], lost=len(call) - kept)
        # What is lost at the very end has no event behind it to tell of it.
        talk.moved(direction, frame(PING, b"last", masked=direction == Direction.EGRESS))
    talk.closed(CloseReason.CLOSED).later(2 * SECOND)
    (end,) = talk.sessions
    for side, flow, sent in (
        (asked, end.websocket.sent, True),
        (answered, end.websocket.received, False),
    ):
        if flow.exact:
            assert flow.messages == len(side[1])
            assert flow.text_messages == sum(text for text, _ in side[1])
            assert (flow.pings - 1, flow.pongs, flow.message_bytes) == side[2:]
        told = [one for one in talk.messages if one.sent is sent]
        numbered = [one for one in told if one.number is not None]
        assert [one.number for one in numbered] == list(range(len(numbered)))
        for one, (text, content) in zip(numbered, side[1], strict=False):
            assert one.text == text
            assert content.startswith(one.body.content)
            assert one.body.truncated or content == one.body.content


noise = st.lists(
    st.tuples(
        st.sampled_from(["request", "response", "gap", "lost"]),
        st.binary(max_size=30)
        | st.sampled_from(
            [
                frame(TEXT, b"x", masked=True), frame(TEXT, b"x"), frame(TEXT, b"x", final=False),
                frame(0, b"y", masked=True), frame(PING), closing(1000), closing(1000, masked=True),
                frame(TEXT, b"\xca\xff\x00", rsv=0x40), b"\x81\xff", b"\x82\x7e\xff\xff",
            ]
        ),
    ),
    max_size=25,
)  # fmt: skip


@given(noise, st.booleans(), st.sampled_from([0, 3, 1 << 20]), st.booleans())
@settings(deadline=None, max_examples=400)
def test_any_bytes_give_one_session_within_the_limit(moves, client, limit, deflates):
    talk = Talk(client=client, body_limit=limit, extensions=DEFLATE % b"" if deflates else b"")
    for kind, payload in moves:
        if kind == "request":
            talk.request(payload)
        elif kind == "response":
            talk.response(payload)
        elif kind == "gap":
            talk.missed(Direction.INGRESS, len(payload))
        else:
            talk.moved(Direction.EGRESS, payload[:3], lost=len(payload[3:]))
    talk.closed().later(2 * SECOND)
    (end,) = talk.sessions
    size = sum(len(payload) for _, payload in moves)
    for flow in (end.websocket.sent, end.websocket.received):
        assert flow.message_bytes <= size
        assert flow.lost_bytes <= size
    assert all(len(one.body.content) <= limit for one in talk.messages)
    assert talk.counters.websocket_messages == len(talk.messages)
    assert talk.connections.open_connections == 0
