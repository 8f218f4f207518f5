"""The short way reads what the long way reads: same exchanges, same times, same counts.

Everything is told twice, once with `Turns` and once with `Http1` alone.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.compiled import is_compiled
from otel_tap.events import CloseReason, Direction, TlsLibrary
from otel_tap.exchange import ExchangeError
from otel_tap.protocols import detection
from otel_tap.protocols.http1 import Http1
from otel_tap.protocols.http1.turns import Turns
from tests.unit.test_http1_properties import conversations, pieces, steps
from tests.unit.wire import SECOND, Wire

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# Where it is compiled, tests/fuzz/targets/http1_readers.py compares the two ways.
replaces = pytest.mark.skipif(
    is_compiled(), reason="calls between compiled modules cannot be replaced"
)

Story = list[tuple[str, Any]]


def told(story: Story, start: dict[str, Any], **settings: Any) -> Wire:
    wire = Wire(**settings).opened(**start)
    for verb, facts in story:
        getattr(wire, verb)(*facts.get("args", ()), **facts.get("facts", {}))
    wire.connections.flush(wire.now)
    return wire


def check_both_ways(story: Story, start: dict[str, Any], **settings: Any) -> Wire:
    short = told(story, start, **settings)
    with patch.object(detection, "Turns", Http1):
        long = told(story, start, **settings)
    assert short.exchanges == long.exchanges
    assert short.counters == long.counters
    assert short.opaque == long.opaque
    return short


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
    story: Story = []
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
    story: Story = []
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
    story: Story = []
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
    story: Story = []
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
    story: Story = [
        ("request", {"args": (GET + GET,)}),
        ("response", {"args": (OK + OK,)}),
        ("missed", {"args": (Direction.EGRESS, len(GET))}),
    ]
    story += [("request", {"args": (GET,)}), ("response", {"args": (OK,)})] * 3
    wire = check_both_ways(story, {})
    last = wire.exchanges[-1]
    assert last.request is None or last.response is None
