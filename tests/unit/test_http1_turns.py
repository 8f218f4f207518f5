"""The short way reads what the long way reads: same exchanges, same times, same counts.

Everything is told with `Turns` and with `Http1` alone; and again as turns, by outlines that were
learned of the same story.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.compiled import is_compiled
from otel_tap.events import CloseReason, Direction, TlsLibrary
from otel_tap.exchange import ExchangeError, Position
from otel_tap.messages import field_value, field_values
from otel_tap.protocols import detection
from otel_tap.protocols.http1 import Http1
from otel_tap.protocols.http1.head import HeadParser
from otel_tap.protocols.http1.turns import Turns
from otel_tap.turn import Turn
from tests.unit.test_http1_properties import conversations, pieces, steps
from tests.unit.wire import SECOND, Wire

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# Where it is compiled, tests/fuzz/targets/http1_readers.py compares the two ways.
replaces = pytest.mark.skipif(
    is_compiled(), reason="calls between compiled modules cannot be replaced"
)

Story = Sequence[tuple[str, Any]]


def told(
    story: Story, start: dict[str, Any], heads: HeadParser | None = None, **settings: Any
) -> Wire:
    wire = Wire(**settings)
    if heads is not None:
        wire.connections._heads = heads
        for outlines in (heads.requests, heads.responses):
            outlines.looking = outlines._learning = 1000  # all that is met is learned
    wire.opened(**start)
    for verb, facts in story:
        getattr(wire, verb)(*facts.get("args", ()), **facts.get("facts", {}))
    wire.connections.flush(wire.now)
    return wire


def check_same(one: Wire, other: Wire) -> None:
    assert one.exchanges == other.exchanges
    assert one.counters == other.counters
    assert one.opaque == other.opaque


def check_both_ways(story: Story, start: dict[str, Any], **settings: Any) -> Wire:
    short = told(story, start, **settings)
    with patch.object(detection, "Turns", Http1):
        check_same(short, told(story, start, **settings))
    check_as_turns(story, start, **settings)
    return short


def check_turn(turn: Turn) -> None:
    """What a turn says, the exchange that it can be made into says too."""
    exchange = turn.exchange()
    request, response = exchange.request, exchange.response
    assert request is not None
    assert response is not None
    assert (turn.method, turn.target) == (request.method, request.target)
    wanted = (b"host", b"user-agent", b"traceparent", b"tracestate")
    assert [turn.host, turn.agent, turn.trace_parent, turn.trace_state] == [
        field_value(request.fields, name) for name in wanted
    ]
    assert all(len(field_values(request.fields, name)) < 2 for name in wanted)
    assert (turn.status, turn.version) == (response.status, response.version)
    assert (turn.role, turn.connection, turn.tid) == (
        exchange.role,
        exchange.connection,
        exchange.tid,
    )
    assert (turn.start_ktime_ns, turn.end_ktime_ns) == (
        exchange.start_ktime_ns,
        exchange.end_ktime_ns,
    )
    assert turn.end_ktime_ns == exchange.observed_ktime_ns
    assert turn.reused == exchange.reused
    assert Position(turn.kind, turn.offset) == exchange.position


def check_as_turns(story: Story, start: dict[str, Any], lesson: Story = (), **settings: Any) -> int:
    """Told as turns, by what was learned of `lesson` and the story; how many turns there were."""
    settings["body_limit"] = 0  # who keeps bodies takes no turns
    heads = HeadParser()
    turns = 0

    def met(turn: Turn) -> None:
        nonlocal turns
        turns += 1
        check_turn(turn)

    for _ in range(2):
        told(lesson or story, start, heads, on_turn=met, **settings)
    turns = 0
    turned = told(story, start, heads, on_turn=met, **settings)
    with patch.object(detection, "Turns", Http1):
        check_same(turned, told(story, start, **settings))
    return turns


starts = st.fixed_dictionaries(
    {"from_start": st.booleans(), "tls": st.sampled_from([TlsLibrary.NONE, TlsLibrary.OPENSSL])}
)
ends = st.lists(st.sampled_from(list(CloseReason)), max_size=3)
pauses = st.sampled_from([0, 0, 0, 0, SECOND, 2 * SECOND, 40 * SECOND])
takes = st.sampled_from([0, 0, 1000, 3_000_000])


@replaces
@given(conversations(), st.booleans(), starts, ends, st.sampled_from([0, 3, 1 << 20]), st.data())
@settings(deadline=None, max_examples=300)
def test_both_ways_agree_on_any_conversation_cut_and_lost_anyhow(
    batches, client, start, closes, body_limit, data
):
    draw = data.draw
    story: list[tuple[str, Any]] = []
    for batch in batches:
        sent = b"".join(pair[1] for pair in batch)
        got = b"".join(pair[2] for pair in batch)
        for verb, message in (("request", sent), ("response", got)):
            for piece in pieces(draw, message, draw(st.sampled_from([0, 0, 1, 3]))):
                fate = draw(st.sampled_from("kkkkkkkkcm"))
                kept = piece if fate == "k" else piece[: draw(st.integers(0, len(piece)))]
                facts = {
                    "took": draw(takes),
                    "lost": len(piece) - len(kept),
                    "tcp_position": draw(st.sampled_from([-1, 5])),
                }
                if fate == "m":
                    direction = Direction((verb == "request") == client)
                    story.append(("missed", {"args": (direction, len(piece))}))
                else:
                    story.append((verb, {"args": (kept,), "facts": facts}))
        story.append(("later", {"args": (draw(pauses),)}))
    story += [("closed", {"args": (reason,)}) for reason in closes]
    check_both_ways(story, start, client=client, body_limit=body_limit)


@replaces
@given(st.lists(steps, max_size=12), starts, pauses)
@settings(deadline=None, max_examples=300)
def test_both_ways_agree_on_any_bytes(moves, start, pause):
    story: list[tuple[str, Any]] = []
    for direction, payload, lost, _ in moves:
        story.append(("moved", {"args": (direction, payload), "facts": {"lost": lost}}))
        story.append(("later", {"args": (pause,)}))
    check_both_ways(story, start, body_limit=5)


heads = st.lists(
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"POST  / HTTP/1.1\r\n",
            b"CONNECT h:1 HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204\r\n",
            b"HTTP/1.1 103 Early\r\n", b"HTTP/1.1 101 Switching\r\n", b"HTTP/1.0 304 \n",
            b"Content-Length: 0\r\n", b"Content-Length: 2\r\n", b"content-length: 2, 2\r\n",
            b"Content-Length: +2\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\n",
            b"Name: \t value \r\n", b"Name : v\r\n", b" fold\r\n", b"no colon\r\n", b"\n", b"\r\n",
            b"ok", b"2\r\nok\r\n0\r\n",
        ]
    ),
    max_size=6,
).map(b"".join)  # fmt: skip


@replaces
@given(st.lists(st.tuples(st.sampled_from([GET, b""]), heads, heads), min_size=1, max_size=4))
@settings(deadline=None, max_examples=600)
def test_both_ways_agree_on_odd_heads_that_come_whole(turns):
    story: list[tuple[str, Any]] = []
    for before, sent, got in turns:
        for verb, payload in (("request", before), ("request", sent), ("response", got)):
            if payload:
                story.append((verb, {"args": (payload + b"\r\n",)}))
    check_both_ways([("request", {"args": (GET,)}), ("response", {"args": (OK,)}), *story], {})


requests = [
    GET, GET, GET, GET[:-2], GET + GET, b"\r\n" + GET, b"HEAD / HTTP/1.1\r\n\r\n",
    b"GET /u HTTP/1.1\r\nUpgrade: x\r\n\r\n", b"CONNECT h:1 HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", b"ok", b"\r\n", b"o",
]  # fmt: skip
responses = [
    OK, OK, OK, OK[:-1], OK[:-2], OK + OK, b"ok", b"k", b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
]  # fmt: skip
calls = st.tuples(
    st.one_of(
        st.tuples(st.just("request"), st.sampled_from(requests)),
        st.tuples(st.just("response"), st.sampled_from(responses)),
    ),
    st.sampled_from([0, 0, 0, 0, 0, 0, 2]),
    takes,
)


@replaces
@given(st.lists(calls, max_size=12), starts, st.booleans(), pauses, ends)
@settings(deadline=None, max_examples=800)
def test_both_ways_agree_on_any_order_of_whole_messages(moves, start, client, pause, closes):
    story: list[tuple[str, Any]] = []
    for (verb, payload), lost, took in moves:
        story.append((verb, {"args": (payload,), "facts": {"lost": lost, "took": took}}))
        story.append(("later", {"args": (pause,)}))
    story += [("closed", {"args": (reason,)}) for reason in closes]
    check_both_ways(story, start, client=client, body_limit=1)


POST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"
CODED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


@replaces
@pytest.mark.parametrize(
    "moves",
    [
        [("request", POST), ("response", b"ok")],
        [("request", POST), ("request", b"ok"), ("response", OK)],
        [("request", POST), ("request", b"o"), ("request", b"k"), ("response", OK)],
        [("request", POST), ("request", b"ok"), ("response", OK[:9]), ("response", OK[9:])],
        [("request", POST), ("response", OK), ("request", b"ok")],
        [("request", GET), ("response", OK[:-2]), ("request", b"ok"), ("response", b"ok")],
        [("request", GET), ("response", OK[:-2]), ("response", b"ok")],
        [("request", GET), ("response", OK[:-2]), ("request", GET), ("response", b"ok" + OK)],
        [("request", GET), ("response", CODED)],
        [("request", GET), ("response", CODED[:-1]), ("response", CODED[-1:])],
        [("request", GET), ("response", OK + b"more")],
        [("response", OK), ("request", GET), ("response", OK)],
    ],
)
@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("body_limit", [0, 1, 2])
def test_both_ways_agree_on_what_looks_like_a_turn(moves, client, body_limit):
    story = [(verb, {"args": (payload,)}) for verb, payload in moves]
    check_both_ways(story, {}, client=client, body_limit=body_limit)


@replaces
@pytest.mark.parametrize(
    ("request_bytes", "response_bytes"),
    [
        (GET, OK),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ],
)
def test_whole_messages_that_take_turns_never_go_the_long_way(request_bytes, response_bytes):
    with patch.object(Http1, "data", side_effect=AssertionError("the long way")):
        wire = Wire().opened().request(request_bytes).response(response_bytes)
    assert [exchange.error for exchange in wire.exchanges] == [None]


@replaces
def test_after_a_message_in_pieces_the_short_way_is_taken_again():
    wire = Wire().opened().request(GET[:9]).request(GET[9:]).response(OK[:9]).response(OK[9:])
    with patch.object(Http1, "data", side_effect=AssertionError("the long way")):
        wire.request(GET).response(OK)
    assert len(wire.exchanges) == 2


def test_a_request_that_waits_is_open_until_it_times_out():
    wire = Wire(idle_timeout_ns=30 * SECOND).opened().request(GET)
    wire.later(29 * SECOND)
    assert not wire.exchanges
    wire.later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.TIMEOUT
    assert exchange.request.target == b"/a"


def test_the_short_way_is_what_connections_begin_with():
    wire = Wire().opened().request(GET)
    (state,) = wire.connections._states.values()
    assert type(state.protocol) is Turns


@replaces
def test_a_connection_that_pipelines_and_lost_messages_is_not_paired_by_the_short_way_either():
    story: list[tuple[str, Any]] = [
        ("request", {"args": (GET + GET,)}),
        ("response", {"args": (OK + OK,)}),
        ("missed", {"args": (Direction.EGRESS, len(GET))}),
    ]
    story += [("request", {"args": (GET,)}), ("response", {"args": (OK,)})] * 3
    wire = check_both_ways(story, {})
    last = wire.exchanges[-1]
    assert last.request is None or last.response is None


def asks(data: bytes, **facts: int) -> tuple[str, Any]:
    return "request", {"args": (data,), "facts": facts}


def answers(data: bytes, **facts: int) -> tuple[str, Any]:
    return "response", {"args": (data,), "facts": facts}


def with_fields(start: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((start, *fields, b"", b""))


TURN = [asks(GET), answers(OK)]
HEAD = b"HEAD / HTTP/1.1\r\n\r\n"
IN_TWO = [asks(POST + b"ok"), answers(OK[:-2]), answers(b"ok")]
FORM = [b"Content-Type: a/b", b"Content-Length: 2"]
TYPED = [
    asks(with_fields(b"POST / HTTP/1.1", *FORM) + b"ok"),
    answers(with_fields(b"HTTP/1.1 200 OK", *FORM) + b"ok"),
]
CALL = [b"Content-Type: application/grpc-web", b"Content-Length: 2"]
STREAM = [b"Content-Type: text/event-stream", b"Content-Length: 2"]
REFUSED = [b"Forwarded: for=a", b"Upgrade: x", b"Transfer-Encoding: identity"]
HOPS = [b"X-Forwarded-For: a", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a"]


@replaces
@pytest.mark.parametrize(
    ("story", "turns"),
    [
        (TURN * 4, 4),
        (IN_TWO * 2, 2),
        (TYPED * 2, 2),
        ([asks(with_fields(b"GET / HTTP/1.1", *HOPS)), answers(OK)] * 2, 2),
        ([asks(POST), asks(b"ok"), answers(OK)] * 2, 2),
        ([asks(HEAD), answers(OK[:-2])] * 2, 2),
        ([asks(GET), answers(b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n")], 1),
        # What one of the two messages is too odd for, both are.
        ([asks(HEAD), answers(OK)], 0),
        ([asks(GET), answers(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")], 0),
        ([asks(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), answers(OK)], 0),
        ([asks(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), answers(OK)], 0),
        ([asks(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), answers(OK)], 0),
        *[([asks(with_fields(b"GET / HTTP/1.1", line)), answers(OK)], 0) for line in REFUSED],
        ([asks(with_fields(b"POST / HTTP/1.1", *CALL) + b"ok"), answers(OK)], 0),
        ([asks(GET), answers(with_fields(b"HTTP/1.1 200 OK", *STREAM) + b"ok")], 0),
        # An answer that began before the request ended is none to it.
        ([*TURN, asks(GET), answers(OK, took=3_000_000)], None),
        # Left amid a turn: the long way ends it.
        ([asks(GET), asks(GET), answers(OK), answers(OK)], 0),
        ([*IN_TWO[:2], answers(b"o"), answers(b"k")], 0),
        ([*IN_TWO[:2], ("missed", {"args": (Direction.INGRESS, 2)}), *TURN], 0),
        ([*IN_TWO[:2], ("closed", {"args": (CloseReason.RESET,)})], 0),
        ([asks(POST), ("closed", {"args": (CloseReason.CLOSED,)})], 0),
        ([*TURN, asks(GET), ("later", {"args": (90 * SECOND,)})], 1),
    ],
)
@pytest.mark.parametrize("client", [True, False])
def test_turns_are_told_by_outlines_and_whatever_comes_amid_them_by_the_long_way(
    story, turns, client
):
    if turns is None:
        turns = 2 if client else 1  # a client's read begins when it returns
    lesson = [*TURN, *IN_TWO, *TYPED, asks(HEAD), answers(OK[:-2]), *story]
    assert check_as_turns(story, {}, lesson, client=client) == turns


@replaces
def test_a_client_that_changes_what_it_sends_is_told_by_the_outlines_of_all_of_it():
    heads = [b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * count + b"\r\n" for count in range(4)]
    story = [move for head in heads for move in (asks(head), answers(OK))]
    assert check_as_turns(story * 3, {}) == 12


LONG_GET = (
    b"GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nUser-Agent: u/1\r\nAccept: */*\r\n"
    b"traceparent: 00-a-b-01\r\ntracestate: a=b\r\nContent-Length: 0\r\n\r\n"
)
LONG_OK = (
    b"HTTP/1.1 200 OK\r\nServer:n\r\nContent-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok"
)
ODD = [
    b"\n", b"\r", b"\r\n", b" ", b"\t", b":", b"x", b"0", b"\0", b"\nHost: b", b"Host: b\r\n",
    b"\xff", b"?", b"Content-Length: 2\r\n", b"\r\n\r\n",
]  # fmt: skip


def check_near(sent: bytes, got: bytes, heads: HeadParser, *, client: bool) -> None:
    """Two messages that are nearly of outlines that `heads` knows, between others that are."""
    told_turns: list[Turn] = []

    def met(turn: Turn) -> None:
        check_turn(turn)
        told_turns.append(turn)

    before = [asks(LONG_GET), answers(LONG_OK)]
    story = [*before, asks(sent), answers(got), *before]
    turned = told(story, {}, heads, on_turn=met, body_limit=0, client=client)
    assert told_turns
    with patch.object(detection, "Turns", Http1):
        check_same(turned, told(story, {}, body_limit=0, client=client))


def taught() -> HeadParser:
    heads = HeadParser()
    for _ in range(2):
        told([asks(LONG_GET), answers(LONG_OK)], {}, heads, on_turn=check_turn, body_limit=0)
    return heads


@replaces
@pytest.mark.parametrize("odd", ODD)
def test_what_is_one_step_from_an_outline_is_read_as_ever(odd):
    for at in range(len(LONG_GET) + 1):
        check_near(LONG_GET[:at] + odd + LONG_GET[at:], LONG_OK, taught(), client=at % 2 == 0)
        check_near(LONG_GET[:at] + odd + LONG_GET[at + 1 :], LONG_OK, taught(), client=at % 2 == 1)
    for at in range(len(LONG_OK) + 1):
        check_near(LONG_GET, LONG_OK[:at] + odd + LONG_OK[at:], taught(), client=at % 2 == 0)
        check_near(LONG_GET, LONG_OK[:at] + odd + LONG_OK[at + 1 :], taught(), client=at % 2 == 1)


def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in changes:
        data = data[:at] + new + data[at + length :]
    return data


edits = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from([b"", *ODD])), max_size=3
)


@replaces
@given(edits, edits, st.booleans())
@settings(deadline=None, max_examples=500)
def test_what_is_near_to_an_outline_is_read_as_ever(sent, got, client):
    check_near(edited(LONG_GET, sent), edited(LONG_OK, got), taught(), client=client)


def test_outlines_keep_no_value_and_are_bounded():
    heads = HeadParser()
    for number in range(3000):
        for _ in range(2):
            for outlines in (heads.requests, heads.responses):
                outlines.refresh()
            lines = [b"GET /s3cret HTTP/1.1\r", b"X-%d: s3cret\r" % number, b"Cookie: s3cret\r"]
            heads.requests.meet_request(lines, 3, b"GET", b"/s3cret", "1.1")
            lines = [b"HTTP/1.1 200 OK\r", b"X-%d:s3cret\r" % number, b"Set-Cookie: s3cret\r"]
            heads.responses.meet_response(lines, 200, "1.1")
    for outlines in (heads.requests, heads.responses):
        assert 0 < len(outlines._known) <= 256
        assert len(outlines._met) <= 256
        assert sum(map(len, outlines._similar.values())) == len(outlines._known)
        assert b"s3cret" not in b"".join([*outlines._known, *outlines._met])


def test_what_never_comes_again_is_looked_at_a_few_times_a_second_only():
    heads = HeadParser()
    wire = Wire(on_turn=lambda _turn: None)
    wire.connections._heads = heads
    wire.opened()
    for number in range(100):
        wire.request(b"GET / HTTP/1.1\r\nX-%d: y\r\n\r\n" % number).response(OK)
    assert len(wire.exchanges) == 100
    assert len(heads.requests._met) == 16
    assert not heads.requests._known
