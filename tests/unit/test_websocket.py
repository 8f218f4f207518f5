"""WebSocket as an observer reads it: messages, counts, the close, and what losses leave of them."""

from __future__ import annotations

import time
import zlib

import pytest

from otel_tap.events import CloseReason, Direction
from otel_tap.exchange import ExchangeError
from otel_tap.messages import Body
from otel_tap.protocols.websocket.frames import unmask
from otel_tap.protocols.websocket.handshake import agreed
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
from tests.unit.wire import SECOND, Wire


@pytest.mark.parametrize("client", [True, False])
def test_a_session_is_told_at_its_handshake_and_at_its_end(client):
    talk = Talk(client=client, extensions=b"Sec-WebSocket-Protocol: chat.v2\r\n")
    (handshake,) = talk.exchanges
    assert handshake.response.status == 101
    assert handshake.websocket is None
    talk.request(message(TEXT, b"hello", masked=True)).response(message(BINARY, b"\x00\x01\x02"))
    talk.request(frame(PING, b"?", masked=True)).response(frame(PONG, b"?"))
    talk.request(message(TEXT, b"frag" * 3, 4, 8, masked=True))
    talk.response(closing(1000, b"bye"))
    assert not talk.sessions
    talk.request(closing(1000, masked=True))
    (session,) = talk.sessions
    assert session.error is None
    assert session.request.target == b"/chat"
    assert session.start_ktime_ns == handshake.start_ktime_ns
    assert session.end_ktime_ns == talk.now
    assert session.position == handshake.position
    said = session.websocket
    assert (said.subprotocol, said.deflate) == (b"chat.v2", False)
    assert (said.close_code, said.close_reason) == (1000, b"bye")
    assert said.closed_here is not client
    of_client, of_server = (said.sent, said.received) if client else (said.received, said.sent)
    assert (of_client.messages, of_client.text_messages, of_client.frames) == (2, 2, 4)
    assert (of_client.message_bytes, of_client.pings, of_client.pongs) == (17, 1, 0)
    assert (of_server.messages, of_server.text_messages, of_server.pongs) == (1, 0, 1)
    assert of_client.exact
    assert of_server.exact
    assert [one.body for one in talk.messages] == [
        Body(b"hello", 5, False), Body(b"\x00\x01\x02", 3, False), Body(b"fragfragfrag", 12, False),
    ]  # fmt: skip
    assert [one.sent for one in talk.messages] == [client, not client, client]
    assert [one.number for one in talk.messages] == [0, 0, 1]
    assert talk.opaque == [1]
    assert talk.counters.websocket_sessions == 1
    assert talk.counters.websocket_messages == 3


def test_frames_that_come_with_the_response_or_before_it_is_reported_are_read():
    whole = Wire(client=False)
    whole.opened().request(
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + message(TEXT, b"early", masked=True)
    )
    whole.request(message(TEXT, b"later", masked=True))
    whole.response(
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n" + message(TEXT, b"welcome")
    )
    told = [one.websocket.body.content for one in whole.exchanges if one.websocket]
    assert told == [b"early", b"later", b"welcome"]
    assert whole.counters.skipped_bytes == 0


def test_without_bodies_messages_are_counted_and_not_told():
    talk = Talk(body_limit=0)
    talk.request(message(TEXT, b"secret", masked=True)).response(closing(1001, b"secret"))
    talk.closed()
    talk.later(2 * SECOND)
    (session,) = talk.sessions
    assert talk.messages == []
    assert session.websocket.sent.message_bytes == 6
    assert (session.websocket.close_code, session.websocket.close_reason) == (1001, b"")


def test_control_frames_between_fragments_belong_to_no_message():
    talk = Talk()
    talk.request(
        frame(TEXT, b"one ", masked=True, final=False)
        + frame(PING, b"now", masked=True)
        + frame(0, b"two", masked=True)
    )
    (told,) = talk.messages
    assert told.body == Body(b"one two", 7, False)


def test_content_is_kept_to_the_limit_and_counted_beyond():
    talk = Talk(body_limit=4)
    talk.request(message(TEXT, b"abcd", 2, masked=True) + message(TEXT, b"abcdef", 5, masked=True))
    assert [one.body for one in talk.messages] == [
        Body(b"abcd", 4, False), Body(b"abcd", 6, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "parameters", [b"", b"; server_no_context_takeover; server_max_window_bits=10"]
)
def test_compressed_messages_are_told_as_they_were_written(parameters):
    talk = Talk(extensions=DEFLATE % parameters)
    pack = Deflater(takeover=not parameters)
    contents = [b"tick 1 " * 50, b"", b"tick 2 " * 50, bytes(range(256)) * 20]
    for content in contents:
        packed = pack(content)
        talk.response(message(TEXT, packed, len(packed) // 2, compressed=True))
    talk.response(message(TEXT, b"not compressed"))
    assert [one.body.content for one in talk.messages] == [*contents, b"not compressed"]
    assert not any(one.body.truncated for one in talk.messages)
    assert [one.compressed for one in talk.messages] == [True] * 4 + [False]
    talk.closed().later(2 * SECOND)
    flow = talk.sessions[0].websocket.received
    assert flow.compressed_messages == 4
    assert flow.message_bytes < 1500


def test_a_last_block_ends_what_can_be_referred_to():
    talk = Talk(extensions=DEFLATE % b"")
    last = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = last.compress(b"hello hello") + last.flush() + b"\x00"
    talk.response(message(TEXT, packed, compressed=True))
    talk.response(message(TEXT, Deflater()(b"another"), compressed=True))
    first, second = talk.messages
    assert first.body == Body(b"hello hello", len(packed), False)
    assert (second.body.content, second.body.truncated) == (b"", True)


def test_a_bomb_is_cut_and_costs_little():
    talk = Talk(extensions=DEFLATE % b"", body_limit=1000)
    pack = Deflater()
    bomb = pack(bytes(64 << 20))
    began = time.process_time()
    for _ in range(20):
        talk.response(message(BINARY, bomb, compressed=True))
    assert time.process_time() - began < 1
    first, *others = [one.body for one in talk.messages]
    assert (first.content, first.truncated) == (bytes(1000), True)
    assert all((one.content, one.truncated) == (b"", True) for one in others)
    assert len(others) == 19


def test_without_takeover_one_bomb_does_not_hide_the_messages_behind_it():
    talk = Talk(extensions=DEFLATE % b"; server_no_context_takeover", body_limit=1000)
    pack = Deflater(takeover=False)
    talk.response(message(BINARY, pack(bytes(64 << 20)), compressed=True))
    talk.response(message(TEXT, pack(b"after"), compressed=True))
    bomb, after = [one.body for one in talk.messages]
    assert (bomb.content, bomb.truncated) == (bytes(1000), True)
    assert (after.content, after.truncated) == (b"after", False)


def test_bytes_that_are_not_deflate_give_no_content():
    talk = Talk(extensions=DEFLATE % b"")
    talk.response(message(TEXT, b"\xff" * 20, compressed=True))
    (told,) = talk.messages
    assert told.body == Body(b"", 20, True)


def test_messages_of_an_unknown_extension_are_counted_only():
    talk = Talk(extensions=b"Sec-WebSocket-Extensions: x-secret-sauce, permessage-deflate\r\n")
    talk.response(frame(TEXT, b"?" * 9, rsv=0x70))
    (told,) = talk.messages
    assert told.body == Body(b"", 9, True)


# Losses.


def test_a_gap_inside_a_payload_costs_its_bytes_only():
    talk = Talk()
    sent = message(TEXT, b"x" * 100, masked=True)
    talk.request(sent[:46], lost=len(sent) - 46).request(message(TEXT, b"next", masked=True))
    assert [one.body for one in talk.messages] == [
        Body(b"x" * 40, 100, True), Body(b"next", 4, False),
    ]  # fmt: skip
    talk.closed().later(2 * SECOND)
    flow = talk.sessions[0].websocket.sent
    assert (flow.messages, flow.message_bytes, flow.lost_bytes, flow.exact) == (2, 104, 60, True)


def test_a_gap_in_what_was_compressed_silences_what_refers_to_it():
    talk = Talk(extensions=DEFLATE % b"")
    pack = Deflater()
    first = message(TEXT, pack(b"some words, some words"), compressed=True)
    talk.response(first[:6], lost=len(first) - 6)
    talk.response(message(TEXT, pack(b"some words"), compressed=True))
    talk.response(message(TEXT, b"plain"))
    lost, after, plain = [one.body for one in talk.messages]
    assert b"some words, some words".startswith(lost.content)
    assert lost.truncated
    assert (after.content, after.truncated) == (b"", True)
    assert plain == Body(b"plain", 5, False)


def test_behind_a_gap_that_hides_frames_counts_are_lower_bounds():
    talk = Talk()
    talk.response(message(TEXT, b"first")).missed(Direction.INGRESS, 30)
    for number in range(4):
        talk.response(message(TEXT, b"later %d" % number))
    assert [one.body.content for one in talk.messages] == [
        b"first",
        b"later 1",
        b"later 2",
        b"later 3",
    ]
    assert [one.number for one in talk.messages] == [0, None, None, None]
    talk.request(closing(1000, masked=True)).response(closing(1000))
    said = talk.sessions[0].websocket
    assert (said.received.messages, said.received.exact) == (4, False)
    assert (said.sent.messages, said.sent.exact) == (0, True)
    assert said.close_code == 1000


def test_a_payload_that_only_looks_like_frames_is_not_taken_up():
    talk = Talk()
    talk.missed(Direction.INGRESS, 30)
    inside = message(TEXT, b"forged")
    talk.response(inside).response(b"the rest of a payload").response(inside).response(b"more")
    assert talk.messages == []


def test_a_message_whose_beginning_was_lost_is_not_told():
    talk = Talk()
    talk.missed(Direction.INGRESS, 30)
    talk.response(frame(PING)).response(frame(0, b"rest", final=False)).response(frame(0, b"end"))
    talk.response(message(TEXT, b"whole"))
    assert [one.body.content for one in talk.messages] == [b"whole"]


def test_a_lost_close_code_is_not_made_up():
    talk = Talk()
    talk.response(closing(1011, b"reason")[:2], lost=8)
    talk.closed().later(2 * SECOND)
    said = talk.sessions[0].websocket
    assert (said.close_code, said.closed_here) == (None, False)


def test_a_large_payload_that_nobody_wants_is_not_copied():
    talk = Talk(body_limit=0)
    spared = []
    state = next(iter(talk.connections._states.values()))
    state.carrier.spare = lambda *facts: spared.append(facts)
    begin = talk.offsets[Direction.EGRESS]
    sent = message(BINARY, bytes(1_000_000), masked=True)
    talk.request(sent[:100], lost=len(sent) - 100)
    assert spared == [(1, Direction.EGRESS, begin + 100, begin + len(sent))]
    talk.closed().later(2 * SECOND)
    flow = talk.sessions[0].websocket.sent
    assert (flow.messages, flow.message_bytes, flow.lost_bytes, flow.exact) == (
        1,
        1_000_000,
        0,
        True,
    )
    assert talk.counters.gap_bytes == 0
    assert talk.counters.spared_bytes == len(sent) - 100


# What is not WebSocket, and how sessions end.


@pytest.mark.parametrize(
    "bad",
    [
        frame(TEXT, b"x", rsv=0x40),
        frame(3, b"x"),
        frame(11),
        frame(PING, b"x" * 126),
        frame(PING, final=False),
        frame(0, b"x"),
        frame(TEXT, b"x", final=False) + frame(TEXT, b"y"),
        b"\x82\x7f\xff" + bytes(7),
        closing(1000) + frame(TEXT, b"x"),
    ],
)  # fmt: skip
def test_what_is_no_frame_ends_the_reading_and_marks_the_session(bad):
    talk = Talk()
    talk.response(message(TEXT, b"good") + bad).response(message(TEXT, b"more"))
    (session,) = talk.sessions
    assert session.error == ExchangeError.MALFORMED
    assert session.websocket.received.messages == 1
    assert not session.websocket.received.exact
    assert not session.websocket.sent.exact
    assert talk.opaque == [1]
    assert talk.counters.messages_malformed == 1
    assert talk.counters.websocket_malformed == 1
    assert talk.counters.opaque_malformed == 1


def test_a_close_frame_without_a_code_says_so():
    talk = Talk()
    talk.response(frame(8))
    talk.request(frame(8, masked=True))
    assert talk.sessions[0].websocket.close_code == 1005


def test_a_connection_that_ends_without_a_close_frame_is_an_error():
    talk = Talk()
    talk.closed().later(2 * SECOND)
    (session,) = talk.sessions
    assert session.error == ExchangeError.CONNECTION_CLOSED
    assert (session.websocket.close_code, session.websocket.closed_here) == (None, None)


def test_a_reset_is_an_error_even_behind_a_close_frame():
    talk = Talk()
    talk.response(closing(1000))
    talk.closed(CloseReason.RESET).later(2 * SECOND)
    assert talk.sessions[0].error == ExchangeError.CONNECTION_RESET
    assert talk.sessions[0].websocket.close_code == 1000


def test_silence_does_not_end_a_session():
    talk = Talk()
    for _ in range(50):
        talk.later(60 * SECOND)
    assert not talk.sessions
    talk.response(message(TEXT, b"still here"))
    assert talk.messages[0].body.content == b"still here"


def test_a_session_that_is_forgotten_is_told():
    talk = Talk()
    talk.later(3601 * SECOND)
    (session,) = talk.sessions
    assert session.error == ExchangeError.TRUNCATED
    assert talk.connections.open_connections == 0


def test_a_session_that_is_open_when_the_agent_stops_is_told():
    talk = Talk()
    talk.response(message(TEXT, b"x"))
    talk.connections.flush(talk.now)
    (session,) = talk.sessions
    assert session.error == ExchangeError.AGENT_STOPPED
    assert session.websocket.received.messages == 1
    assert not session.websocket.received.exact


def test_a_session_that_is_left_out_for_overload_is_told_with_lower_bounds():
    talk = Talk()
    talk.response(message(TEXT, b"x")).closed(CloseReason.SHED)
    (session,) = talk.sessions
    assert session.error == ExchangeError.TRUNCATED
    assert session.websocket.received.messages == 1
    assert not session.websocket.received.exact
    assert not session.websocket.sent.exact


def test_a_handshake_whose_request_was_not_seen_leaves_the_client_side_in_doubt():
    talk = Wire(client=False).opened(from_start=False)
    talk.response(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n" + message(TEXT, b"hi"))
    talk.response(closing(1000)).request(closing(1000, masked=True))
    talk.closed().later(2 * SECOND)
    session = talk.exchanges[-1]
    assert session.request is None
    assert session.websocket.sent.exact
    assert not session.websocket.received.exact


# Small parts.


def test_masks_turn_with_the_position_in_the_payload():
    content = bytes(range(250))
    masked = frame(BINARY, content, masked=True)[8:]
    key = frame(BINARY, content, masked=True)[4:8]
    for cut in (0, 1, 2, 3, 4, 5, 249, 250):
        assert unmask(masked[:cut], key, 0) + unmask(masked[cut:], key, cut) == content


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"permessage-deflate", (True, True, True, 0x40, False)),
        (b"Permessage-Deflate ; client_no_context_takeover", (True, False, True, 0x40, False)),
        (b"permessage-deflate; server_no_context_takeover", (True, True, False, 0x40, False)),
        (b"", (False, True, True, 0, False)),
        (b"other", (False, True, True, 0x70, True)),
        (b"permessage-deflate, permessage-deflate", (True, True, True, 0x70, True)),
    ],
)
def test_extensions_are_read_as_the_server_chose_them(value, expected):
    assert agreed(((b"sec-websocket-extensions", value),))[1:] == expected
