"""WebSocket on a stream of HTTP/2 (RFC 8441): what is told of it, and what losses leave of it.

The streams are spoken by two peers of h2, the frames by two of wsproto.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import wsproto
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import BytesMessage, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate

from otel_tap.events import CloseReason, Direction
from otel_tap.exchange import ExchangeError, Role
from tests.unit.http2_talk import Talk, frame, play
from tests.unit.websocket_talk import BINARY, PING, TEXT, closing, message
from tests.unit.websocket_talk import frame as socket_frame
from tests.unit.wire import SECOND, Wire

ASK = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":path", b"/chat?room=1"),
    (b":authority", b"h.example"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"chat"),
]
GRANT = [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]
DEFLATE = (b"sec-websocket-extensions", b"permessage-deflate")


class Socket:
    """One stream of a talk, and the two ends of the WebSocket on it."""

    def __init__(self, talk: Talk, *, deflates: bool = False, stream: int = 1) -> None:
        self.talk = talk
        self.stream = stream
        talk.request(stream, ASK, ends=False)
        talk.response(stream, [*GRANT, DEFLATE] if deflates else GRANT, None, ends=False)
        self.client = _end(wsproto.ConnectionType.CLIENT, deflates)
        self.server = _end(wsproto.ConnectionType.SERVER, deflates)

    def says(self, *events: Any, client: bool) -> Socket:
        end = self.client if client else self.server
        for event in events:
            self.moves(end.send(event), client=client)
        return self

    def moves(self, data: bytes, *, client: bool, ends: bool = False) -> Socket:
        peer = self.talk.client if client else self.talk.server
        peer.send_data(self.stream, data, end_stream=ends)
        self.talk.flush(peer)
        return self

    def closes(self) -> Socket:
        self.moves(closing(1000, b"bye", masked=True), client=True)
        return self.moves(closing(1000), client=False)


def _end(kind: wsproto.ConnectionType, deflates: bool) -> wsproto.connection.Connection:
    extensions: list[Extension] = []
    if deflates:
        deflate = PerMessageDeflate()
        deflate._enabled = True  # what a handshake that it has no word for would do
        extensions.append(deflate)
    return wsproto.connection.Connection(kind, extensions)


def told(wire: Wire) -> tuple[Any, ...]:
    """The handshake, the session and its messages; there is nothing else."""
    handshakes = [one for one in wire.exchanges if one.websocket is None]
    sessions = [one for one in wire.exchanges if hasattr(one.websocket, "close_code")]
    messages = [one for one in wire.exchanges if hasattr(one.websocket, "body")]
    assert len(handshakes) == len(sessions) == 1
    assert len(wire.exchanges) == 2 + len(messages)
    return handshakes[0], sessions[0], [one.websocket for one in messages]


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("deflates", [True, False])
def test_a_session_is_told_at_its_handshake_and_at_its_end(client, deflates):
    socket = Socket(Talk().begun(), deflates=deflates)
    socket.says(TextMessage("hello"), BytesMessage(b"\0\1" * 300), Ping(b"?"), client=True)
    socket.says(TextMessage("a", message_finished=False), client=False)
    socket.says(Pong(b"?"), TextMessage("b" * 400), client=False)
    wire = play(socket.talk, Wire(client=client).opened())
    assert wire.exchanges[0].websocket is None  # at once: a session may last for days
    (handshake, *_) = wire.exchanges
    assert handshake.role is (Role.CLIENT if client else Role.SERVER)
    request, response = handshake.request, handshake.response
    assert (request.method, request.target) == (b"CONNECT", b"/chat?room=1")
    assert (b"host", b"h.example") in request.fields
    assert request.complete
    assert request.body.size == 0
    assert (response.status, response.complete, response.body.size) == (200, True, 0)
    assert handshake.error is None
    assert not any(hasattr(one.websocket, "close_code") for one in wire.exchanges)
    since = len(socket.talk.script)
    play(socket.closes().talk, wire, since)
    handshake, session, messages = told(wire)
    assert session.error is None
    assert session.request == handshake.request
    assert session.position == handshake.position
    assert session.start_ktime_ns == handshake.start_ktime_ns
    assert session.end_ktime_ns == wire.now
    end = session.websocket
    assert (end.subprotocol, end.deflate) == (b"chat", deflates)
    assert (end.close_code, end.close_reason, end.closed_here) == (1000, b"bye", client)
    of_client, of_server = (end.sent, end.received) if client else (end.received, end.sent)
    assert of_client.exact
    assert of_server.exact
    assert (of_client.messages, of_client.text_messages, of_client.pings) == (2, 1, 1)
    assert (of_server.messages, of_server.frames, of_server.pongs) == (1, 2, 1)
    assert [(one.sent, one.number, one.body.content) for one in messages] == [
        (client, 0, b"hello"), (client, 1, b"\0\1" * 300), (not client, 0, b"a" + b"b" * 400),
    ]  # fmt: skip
    if not deflates:
        assert (of_client.message_bytes, of_server.message_bytes) == (605, 401)
    assert wire.counters.websocket_sessions == 1
    assert wire.counters.exchanges_complete == 1
    assert wire.counters.messages_late == 0


steps = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["text", "bytes", "ping"]),
        st.binary(max_size=300).map(bytes.hex),
    ),
    max_size=8,
)


@given(steps, st.booleans(), st.booleans(), st.data())
@settings(deadline=None, max_examples=80)
def test_any_cut_of_the_streams_gives_the_same_session(said, client, deflates, data):
    socket = Socket(Talk().begun(), deflates=deflates)
    meant: dict[bool, list[bytes]] = {True: [], False: []}
    for by_client, kind, content in said:
        if kind == "ping":
            socket.says(Ping(b"?"), client=by_client)
            continue
        event = TextMessage(content) if kind == "text" else BytesMessage(content.encode())
        socket.says(event, client=by_client)
        meant[by_client].append(content.encode())
    socket.closes()
    wire = Wire(client=client).opened()
    for by_client, sent in socket.talk.script:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
        for begin, end in itertools.pairwise([0, *cuts, len(sent)]):
            if begin < end:
                (wire.request if by_client else wire.response)(sent[begin:end])
    _, session, messages = told(wire)
    assert (session.error, session.websocket.close_code) == (None, 1000)
    for by_client in (True, False):
        ours = by_client == client
        assert [one.body.content for one in messages if one.sent is ours] == meant[by_client]
        flow = session.websocket.sent if ours else session.websocket.received
        assert flow.exact
        assert flow.messages == len(meant[by_client])
        assert flow.pings == sum((c, k) == (by_client, "ping") for c, k, _ in said)


def test_every_single_cut_of_a_session_gives_the_same():
    socket = Socket(Talk().begun())
    socket.says(TextMessage("hello"), client=True).says(BytesMessage(b"x" * 130), client=False)
    socket.closes()
    whole = told(play(socket.talk, Wire().opened()))
    for number, (by_client, sent) in enumerate(socket.talk.script):
        for cut in range(1, len(sent)):
            wire = Wire().opened()
            for other, (client, data) in enumerate(socket.talk.script):
                move = wire.request if client else wire.response
                if other == number:
                    assert client == by_client
                    move(data[:cut])
                    move(data[cut:])
                else:
                    move(data)
            _, session, messages = told(wire)
            assert session.websocket == whole[1].websocket
            assert [one.body for one in messages] == [one.body for one in whole[2]]


def test_sessions_and_exchanges_share_a_connection():
    talk = Talk().begun()
    one, other = Socket(talk, stream=1), Socket(talk, stream=3)
    one.says(TextMessage("one"), client=True)
    talk.request(5).response(5)
    other.says(TextMessage("three"), client=True)
    one.closes()
    other.closes()
    wire = play(talk, Wire().opened())
    contents = {
        exchange.position.offset: exchange.websocket.body.content
        for exchange in wire.exchanges
        if hasattr(exchange.websocket, "body")
    }
    assert contents == {1: b"one", 3: b"three"}
    assert sum(hasattr(exchange.websocket, "close_code") for exchange in wire.exchanges) == 2
    assert [one.position.offset for one in wire.exchanges if one.websocket is None] == [1, 3, 5]


def test_a_silent_session_keeps_no_exchange_open():
    wire = play(Socket(Talk().begun()).talk, Wire(idle_timeout_ns=SECOND).opened())
    (state,) = wire.connections._states.values()
    assert not state.protocol.busy
    assert len(wire.exchanges) == 1


def test_frames_that_are_reported_before_the_grant_are_read():
    socket = Socket(Talk().begun())
    socket.says(TextMessage("early"), client=True).says(TextMessage("later"), client=False)
    script = socket.closes().talk.script
    begun = len(Talk().begun().script)
    assert [client for client, _ in script[begun : begun + 3]] == [True, False, True]
    script.insert(begun + 1, script.pop(begun + 2))
    wire = play(socket.talk, Wire().opened())
    handshake, session, messages = told(wire)
    assert handshake.request.body.size == 0
    assert handshake.request.wire_size < 200
    assert [one.body.content for one in messages] == [b"early", b"later"]
    assert session.websocket.sent.exact


def test_too_much_before_the_grant_is_not_counted_and_says_so():
    socket = Socket(Talk().begun())
    script = socket.talk.script
    grant = script.pop()
    for _ in range(3):
        socket.moves(message(BINARY, b"x" * 6000, masked=True), client=True)
    script.append(grant)
    socket.closes()
    wire = play(socket.talk, Wire().opened())
    wire.closed().later(2 * SECOND)
    _, session, _ = told(wire)
    assert not session.websocket.sent.exact
    assert session.websocket.sent.messages == 2
    assert session.websocket.received.exact


@pytest.mark.parametrize("status", [b"403", b"501"])
def test_a_refusal_is_an_exchange_like_any_other(status):
    talk = Talk().begun().request(1, ASK, ends=False)
    talk.response(1, [(b":status", status)], b"no")
    talk.client.end_stream(1)
    talk.flush(talk.client)
    (exchange,) = play(talk, Wire().opened()).exchanges
    assert exchange.websocket is None
    assert exchange.response.status == int(status)
    assert exchange.response.body.content == b"no"


def test_another_extended_connect_is_an_exchange_like_any_other():
    ask = [(name, b"connect-udp" if name == b":protocol" else value) for name, value in ASK]
    talk = Talk().begun().request(1, ask, b"datagrams").response(1)
    (exchange,) = play(talk, Wire().opened()).exchanges
    assert exchange.request.body.content == b"datagrams"


def test_a_session_ends_when_both_ends_end_the_stream_or_it_is_reset():
    ended = Socket(Talk().begun())
    ended.moves(closing(1001, masked=True), client=True, ends=True)
    ended.moves(b"", client=False, ends=True)
    _, session, _ = told(play(ended.talk, Wire().opened()))
    assert (session.error, session.websocket.close_code) == (None, 1001)

    for code, closed, error in (
        (8, True, None),
        (0, True, None),
        (8, False, ExchangeError.CANCELLED),
        (2, False, ExchangeError.STREAM_RESET),
        (2, True, ExchangeError.STREAM_RESET),
        (0, False, ExchangeError.CONNECTION_CLOSED),
    ):
        reset = Socket(Talk().begun())
        if closed:
            reset.moves(closing(1000, masked=True), client=True)
        reset.talk.client.reset_stream(1, code)
        reset.talk.flush(reset.talk.client)
        _, session, _ = told(play(reset.talk, Wire().opened()))
        assert session.error == error


def test_a_session_ends_with_its_connection():
    socket = Socket(Talk().begun()).says(TextMessage("x"), client=True)
    wire = play(socket.talk, Wire().opened())
    wire.closed(CloseReason.CLOSED).later(2 * SECOND)
    _, session, _ = told(wire)
    assert session.error is ExchangeError.CONNECTION_CLOSED
    assert session.websocket.close_code is None


def test_what_is_no_websocket_ends_its_session_and_not_the_connection():
    socket = Socket(Talk().begun()).moves(b"\xf3nonsense", client=True)
    socket.moves(b"more of it", client=True)
    talk = socket.talk.request(3).response(3)
    wire = play(talk, Wire().opened())
    handshake, session, last = wire.exchanges
    assert handshake.error is None
    assert session.error is ExchangeError.MALFORMED
    assert not session.websocket.sent.exact
    assert last.response.complete
    assert wire.counters.messages_malformed == 1
    assert wire.counters.websocket_malformed == 1
    assert wire.counters.opaque_malformed == 0
    assert wire.opaque == []


def test_a_loss_inside_a_payload_costs_its_bytes_only():
    socket = Socket(Talk().begun())
    socket.moves(message(BINARY, b"x" * 200, masked=True), client=True)
    script = socket.talk.script
    sent = script.pop()[1]
    wire = play(socket.talk, Wire().opened())
    wire.request(sent[:100], lost=50).request(sent[150:])
    play(socket.closes().talk, wire, len(script) - 2)
    _, session, (told_message,) = told(wire)
    flow = session.websocket.sent
    assert flow.exact
    assert (flow.messages, flow.message_bytes, flow.lost_bytes) == (1, 200, 50)
    assert told_message.body.truncated
    assert (session.error, session.websocket.close_code) == (None, 1000)


def test_a_loss_of_frames_makes_counts_of_that_end_lower_bounds():
    socket = Socket(Talk().begun())
    wire = play(socket.talk, Wire().opened())
    for number in range(6):
        since = len(socket.talk.script)
        socket.says(TextMessage(f"message {number}"), client=True)
        if number == 1:
            wire.missed(Direction.EGRESS, len(socket.talk.script[-1][1]))
        else:
            play(socket.talk, wire, since)
    since = len(socket.talk.script)
    socket.says(TextMessage("whole"), client=False)
    play(socket.closes().talk, wire, since)
    wire.closed().later(2 * SECOND)
    _, session, messages = told(wire)
    sent, received = session.websocket.sent, session.websocket.received
    assert not sent.exact
    assert 1 <= sent.messages < 6
    assert (received.exact, received.messages) == (True, 1)
    assert [one.number for one in messages if one.sent][:1] == [0]
    assert all(one.number is None for one in messages[1:] if one.sent)


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from(["data", "lost", "gap"]),
            st.binary(max_size=40)
            | st.sampled_from([
                message(TEXT, b"hello", masked=True), message(BINARY, b"x" * 200),
                socket_frame(PING, b"?", masked=True), closing(1000), closing(1000, masked=True),
            ]),
        ),
        max_size=20,
    ),
    st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_any_bytes_and_losses_give_one_handshake_and_one_session(moves, client):
    talk = Socket(Talk().begun()).talk
    wire = play(talk, Wire(client=client, body_limit=16).opened())
    for by_client, how, content in moves:
        sent = frame(0, 0, 1, content)
        move = wire.request if by_client else wire.response
        if how == "data":
            move(sent)
        elif how == "lost":
            move(sent[:11], lost=len(sent[11:]))
        else:
            up = by_client == client
            wire.missed(Direction.EGRESS if up else Direction.INGRESS, len(sent))
    wire.closed().later(2 * SECOND)
    handshake, session, messages = told(wire)
    assert handshake.error is None
    assert all(len(one.body.content) <= 16 for one in messages)
    for ours, flow in ((True, session.websocket.sent), (False, session.websocket.received)):
        assert flow.messages == sum(one.sent is ours for one in messages)


def test_unknown_fields_of_the_grant_leave_the_extensions_unknown():
    """Behind a loss, the fields that the server's table holds are not known."""
    talk = Talk().begun()
    wire = play(talk, Wire().opened())
    since = len(talk.script)
    Socket(talk, deflates=True, stream=1)
    (by_client, ask), (_, grant) = talk.script[since:]
    assert by_client
    wire.request(ask).missed(Direction.INGRESS, len(grant))
    since = len(talk.script)
    second = Socket(talk, deflates=True, stream=3)
    second.says(TextMessage("hello " * 50), client=True).closes()
    play(talk, wire, since)
    wire.closed().later(2 * SECOND)
    told_of = [one for one in wire.exchanges if one.position.offset == 3]
    handshake, told_message, session = told_of
    assert handshake.response.headers_incomplete
    assert session.websocket.deflate is None
    # An extension may have changed what a payload means: it is counted, and not read.
    assert (session.websocket.close_code, session.websocket.closed_here) == (None, True)
    assert (session.websocket.sent.messages, session.websocket.sent.exact) == (1, True)
    assert told_message.websocket.body.truncated
    assert told_message.websocket.body.content == b""


def test_the_number_of_sessions_is_bounded():
    talk = Talk().begun()
    wire = Wire().opened()
    play(talk, wire)
    (_, ask), (_, grant) = Socket(talk).talk.script[-2:]
    for number in range(300):
        stream = (2 * number + 1).to_bytes(4)
        # Literals that are indexed come again and again: the tables keep the newest.
        wire.request(ask[:5] + stream + ask[9:])
        wire.response(grant[:5] + stream + grant[9:])
    sessions = [one for one in wire.exchanges if hasattr(one.websocket, "close_code")]
    assert len(sessions) == 300 - 256
    assert {one.error for one in sessions} == {ExchangeError.TRUNCATED}
