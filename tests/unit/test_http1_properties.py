"""Invariants of the HTTP/1 observer.

1. Any chunking of a valid conversation gives the same exchanges, at both ends.
2. With gaps, an exchange may lack parts, but never has a wrong method, status, field or partner.
3. Any bytes and gaps give no exception, and every captured byte is accounted for.
4. h11 reads the same messages out of valid conversations.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import h11
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_tap.events import CloseReason, Direction
from otel_tap.exchange import Exchange
from otel_tap.messages import Body, Request, Response
from tests.unit.wire import SECOND, Wire

any_bodies = st.binary(max_size=60) | st.sampled_from(
    [b"HTTP/1.1 500 No", b"0\r\n\r\n", b"a" * 300]
)
plain_bodies = st.binary(max_size=60).filter(lambda body: b"HTTP/1" not in body)
OVER = b"HTTP/1.1 204 Over\r\n\r\n"
values = st.from_regex(rb"[!-~]{0,12}", fullmatch=True)


@st.composite
def messages(draw, number, bodies):
    """(method, request bytes, response bytes, status, content of both) numbered for its pair."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"X-Odd", b"HEAD"]))
    field = b"X-Number: %d\r\nX-V: %s\r\n" % (number, draw(values))
    sent = draw(bodies) if method in (b"POST", b"PUT") else b""
    request = b"%s /%d HTTP/1.1\r\nHost: h\r\n%s" % (method, number, field)
    if sent:
        request += framed(draw, sent)
    else:
        request += b"\r\n"
    status = draw(st.sampled_from([200, 204, 304, 404, 500]))
    got = draw(bodies)
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"]))
    response = interim + b"HTTP/1.1 %d Reason\r\n%s" % (status, field)
    if status in (204, 304) or method == b"HEAD":
        response += b"Content-Length: 7\r\n\r\n" if status != 204 else b"\r\n"
        got = b""
    else:
        response += framed(draw, got)
    return method, request, response, status, sent, got


def framed(draw: Any, content: bytes) -> Any:
    if draw(st.booleans()):
        return b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
    cut = draw(st.integers(0, len(content)))
    chunks = b"".join(
        b"%X%s\r\n%s\r\n" % (len(part), draw(st.sampled_from([b"", b";e=1"])), part)
        for part in (content[:cut], content[cut:])
        if part
    )
    trailer = draw(st.sampled_from([b"", b"X-Trailer: t\r\n"]))
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


@st.composite
def conversations(draw, depths=(1, 2, 3), *, bodies=any_bodies):
    """Batches of exchanges; a batch of more than one is pipelined."""
    depth = draw(st.sampled_from(depths))
    count = depth * draw(st.integers(1, 4))
    pairs = [draw(messages(number, bodies)) for number in range(count)]
    return [pairs[at : at + depth] for at in range(0, count, depth)]


def pieces(draw: Any, data: bytes, limit: int = 6, bounds: tuple[int, ...] = ()) -> list[bytes]:
    """Cut anywhere, and more often than by chance at `bounds`."""
    places = st.integers(0, len(data))
    if bounds:
        places = st.sampled_from(bounds) | places
    cuts = sorted(draw(st.lists(places, max_size=limit)))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if b > a]


def seen(exchange: Exchange) -> tuple[object, ...]:
    """All but the times."""
    return exchange.request, exchange.response, exchange.error, exchange.position, exchange.reused


@given(conversations(), st.booleans(), st.data())
@settings(deadline=None, max_examples=150)
def test_any_chunking_at_either_end_gives_the_same_exchanges(batches, client, data):
    whole, cut = Wire(client=client).opened(), Wire(client=client).opened()
    for batch in batches:
        sent = b"".join(pair[1] for pair in batch)
        got = b"".join(pair[2] for pair in batch)
        whole.request(sent).response(got)
        for piece in pieces(data.draw, sent):
            cut.request(piece)
        for piece in pieces(data.draw, got):
            cut.response(piece)
    flat = [pair for batch in batches for pair in batch]
    assert len(whole.exchanges) == len(flat)
    for exchange, (method, request, _, status, sent, got) in zip(
        whole.exchanges, flat, strict=True
    ):
        assert exchange.request.method == method
        assert exchange.request.wire_size == len(request)
        assert exchange.request.body.content == sent
        assert exchange.response.status == status
        assert exchange.response.body.content == got
        assert exchange.error is None
    assert [seen(one) for one in cut.exchanges] == [seen(one) for one in whole.exchanges]
    assert not cut.opaque


def number_of(message: Request | Response) -> int | None:
    for name, value in message.fields:
        if name == b"x-number":
            return int(value)
    return None


def check_truth(wire: Wire, flat: list[Any]) -> None:
    for exchange in wire.exchanges:
        request, response = exchange.request, exchange.response
        numbers = set()
        if request is not None:
            number = int(request.target[1:])
            numbers.add(number)
            assert request.method == flat[number][0]
            assert number_of(request) in (None, number)
            assert flat[number][4].startswith(request.body.content)
        if response is not None:
            answered = number_of(response)
            if answered is not None:
                numbers.add(answered)
                assert response.status == flat[answered][3]
                assert flat[answered][5].startswith(response.body.content)
        assert len(numbers) <= 1, (exchange, flat)


def play(wire: Wire, batches: Any, draw: Any, losing: Any) -> None:
    """Speak with some calls captured in part or not at all; a call is a piece of a batch."""
    for batch in batches:
        for direction, at in ((Direction.EGRESS, 1), (Direction.INGRESS, 2)):
            data = b"".join(pair[at] for pair in batch)
            bounds = tuple(itertools.accumulate(len(pair[at]) for pair in batch))
            for piece in pieces(draw, data, 3, bounds):
                if draw(st.integers(0, 15)) == 15:
                    wire.later(2 * SECOND)
                fate = draw(st.sampled_from("kkkkcm")) if direction in losing else "k"
                if fate == "m":
                    wire.missed(direction, len(piece))
                    continue
                kept = draw(st.integers(0, len(piece))) if fate == "c" else len(piece)
                wire.moved(direction, piece[:kept], lost=len(piece) - kept)


@given(conversations(depths=(1,), bodies=plain_bodies), st.data())
@settings(deadline=None, max_examples=300)
def test_gaps_in_both_directions_never_make_a_wrong_exchange_of_turns(batches, data):
    wire = Wire().opened()
    play(wire, batches, data.draw, (Direction.EGRESS, Direction.INGRESS))
    wire.later(2 * SECOND).closed(CloseReason.INGRESS_END).closed()
    flat = [pair for batch in batches for pair in batch]
    check_truth(wire, flat)
    requests = [int(one.request.target[1:]) for one in wire.exchanges if one.request]
    assert len(requests) == len(set(requests))


@given(
    conversations(depths=(2, 3), bodies=plain_bodies),
    st.sampled_from([(Direction.EGRESS,), (Direction.INGRESS,)]),
    st.data(),
)
@settings(deadline=None, max_examples=300)
def test_gaps_in_one_direction_never_make_a_wrong_exchange_of_pipelines(batches, losing, data):
    wire = Wire().opened()
    play(wire, batches, data.draw, losing)
    wire.later(2 * SECOND).closed(CloseReason.INGRESS_END).closed()
    check_truth(wire, [pair for batch in batches for pair in batch])


@given(conversations(depths=(1,), bodies=plain_bodies), st.sampled_from([1, 2]), st.data())
@settings(deadline=None, max_examples=200)
def test_a_gap_that_begins_in_a_content_of_known_length_costs_only_what_it_covers(
    batches, way, data
):
    """All before it is as without it; its message lacks just those bytes, wherever it ends."""
    flat = [pair for batch in batches for pair in batch]
    contents = {1: 4, 2: 5}
    hit = [
        number
        for number, pair in enumerate(flat)
        if pair[contents[way]] and b"Content-Length" in pair[way]
    ]
    assume(hit)
    number = data.draw(st.sampled_from(hit))
    message, content = flat[number][way], flat[number][contents[way]]
    begin = data.draw(st.integers(len(message) - len(content), len(message) - 1))
    # The last pair is hit in its first line at most, so that something tells of every gap.
    flat.append((b"GET", b"GET /%d HTTP/1.1\r\n\r\n" % len(flat), OVER, 204, b"", b""))
    gap = data.draw(st.integers(1, len(message) - begin + 9))
    covered = min(gap, len(message) - begin)
    more = gap - covered
    whole, torn = Wire().opened(), Wire().opened()
    for place, pair in enumerate(flat):
        whole.request(pair[1]).response(pair[2])
        for direction, at in ((Direction.EGRESS, 1), (Direction.INGRESS, 2)):
            part, lost = pair[at], 0
            if at == way and place == number:
                # Either an event says what its call moved besides, or no event comes of that call.
                told = data.draw(st.booleans())
                torn.moved(direction, part[:begin], lost=covered if told else 0)
                if not told:
                    torn.missed(direction, covered)
                part = part[begin + covered :]
            elif at == way and place > number and more:
                lost = min(more, len(part))  # what moved with the end of that content
                more -= lost
                torn.missed(direction, lost)
            if part[lost:]:
                torn.moved(direction, part[lost:])
    torn.closed(CloseReason.INGRESS_END).closed().later(2 * SECOND)
    assert [seen(one) for one in torn.exchanges[:number]] == [
        seen(one) for one in whole.exchanges[:number]
    ]
    cut, exact = torn.exchanges[number], whole.exchanges[number]
    assert cut.error is None
    assert (cut.position, cut.reused) == (exact.position, exact.reused)
    for lacking, full, hurt in (
        (cut.request, exact.request, way == 1),
        (cut.response, exact.response, way == 2),
    ):
        if not hurt:
            assert lacking == full
            continue
        known = content[: begin - len(message)]
        assert lacking.body == Body(known, len(content), truncated=True)
        assert lacking.lost_bytes == covered
        assert replace(lacking, body=full.body, lost_bytes=0) == full
    check_truth(torn, flat)


fragments = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 S\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n",
        b"Upgrade: x\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: x\r\n",
        b"\r\n",
        b"\n",
        b" fold\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"abc",
    ]
)
steps = st.tuples(
    st.sampled_from([Direction.EGRESS, Direction.INGRESS]),
    st.lists(fragments, max_size=5).map(b"".join) | st.binary(max_size=30),
    st.sampled_from([0, 0, 0, 1, 7]),
    st.sampled_from([0, 0, 0, 2, -3, 50]),
)


@given(st.lists(steps, max_size=12), st.booleans(), st.sampled_from([None, 0, 40 * SECOND]))
@settings(deadline=None, max_examples=400)
def test_any_bytes_and_gaps_raise_nothing_and_every_exchange_comes_once(moves, start, pause):
    wire = Wire(body_limit=5, idle_timeout_ns=30 * SECOND).opened(from_start=start)
    for direction, payload, lost, shift in moves:
        at = max(0, wire.offsets[direction] + shift)
        wire.moved(direction, payload, lost=lost, at=at)
        if pause is not None:
            wire.later(pause)
    wire.closed().later(2 * SECOND)
    wire.connections.flush(wire.now)
    assert wire.connections.open_connections == 0
    assert len({id(one) for one in wire.exchanges}) == len(wire.exchanges)
    counted = wire.counters
    assert len(wire.exchanges) == (
        counted.exchanges_complete
        + counted.exchanges_incomplete
        + counted.exchanges_without_request
        + counted.exchanges_without_response
    )
    for one in wire.exchanges:
        assert one.request or one.response
        assert one.duration_ns >= 0
        for message in (one.request, one.response):
            if message is not None:
                assert len(message.body.content) <= min(5, message.body.size)
                assert message.body.truncated == (len(message.body.content) < message.body.size)


def h11_reads(role: Any, data: bytes, methods: list[bytes]) -> list[Any]:
    """Events of one direction as h11 sees them, the other direction being told."""
    connection = h11.Connection(role)
    connection.receive_data(data)
    out = []
    for method in methods:
        body = b""
        if role is h11.CLIENT:
            connection.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
            connection.send(h11.EndOfMessage())
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request | h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                trailers = tuple(event.headers)
                break
        out.append((head, body, trailers))
        if role is h11.SERVER:
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
    return out


@given(conversations(depths=(1,)))
@settings(deadline=None, max_examples=100)
def test_h11_reads_the_same_messages(batches):
    flat = [pair for batch in batches for pair in batch]
    wire = Wire().opened()
    for pair in flat:
        wire.request(pair[1]).response(pair[2])
    methods = [pair[0] for pair in flat]
    requests = h11_reads(h11.SERVER, b"".join(pair[1] for pair in flat), methods)
    responses = h11_reads(h11.CLIENT, b"".join(pair[2] for pair in flat), methods)
    for exchange, request, response in zip(wire.exchanges, requests, responses, strict=True):
        head, body, trailers = request
        assert (exchange.request.method, exchange.request.target) == (head.method, head.target)
        assert exchange.request.fields == tuple(head.headers)
        assert (exchange.request.body.content, exchange.request.trailers) == (body, trailers)
        head, body, trailers = response
        assert (exchange.response.status, exchange.response.reason) == (
            head.status_code,
            head.reason,
        )
        assert exchange.response.fields == tuple(head.headers)
        assert (exchange.response.body.content, exchange.response.trailers) == (body, trailers)
