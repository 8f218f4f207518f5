"""Invariants of the HTTP/2 observer. Two real peers of the h2 library speak, and say what is true.

1. Any chunking of a conversation gives the same exchanges, at both ends: those that were meant.
2. With gaps, and met in the middle, an exchange may lack parts or have a stated placeholder, but
   never has a wrong method, target, status, field or content.
3. Any bytes and gaps give no exception; every exchange comes once, and memory is bounded.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.events import CloseReason, Direction, TlsLibrary
from otel_tap.exchange import ExchangeError
from otel_tap.messages import UNKNOWN, UNKNOWN_FIELD, UNKNOWN_STATUS
from tests.unit.http2_talk import Talk, direction_of, frame, secret
from tests.unit.wire import SECOND, Wire

names = st.sampled_from([b"x-a", b"x-b", b"accept", b"user-agent", b"cookie", b"x-long-name"])
values = st.sampled_from([b"", b"v", b"1", b"value one", b"\xff\x00?", b"w" * 70, b"z" * 600])
plain_fields = st.builds(lambda name, value: (name, value), names, values)
secret_fields = st.builds(secret, names, values)
some_fields = st.lists(plain_fields | secret_fields, max_size=4)
contents = st.lists(st.sampled_from([b"", b"a", b"body", b"q" * 90, b"\x00" * 12]), max_size=3)


@st.composite
def plans(draw: Any, stream: int) -> dict[str, Any]:
    """What one stream will say."""
    plan: dict[str, Any] = {
        "method": draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE"])),
        "target": b"/%d?%s" % (stream, draw(st.sampled_from([b"", b"q=1", b"same"]))),
        "authority": draw(st.sampled_from([b"h.example", b"other:8443"])),
        "fields": draw(some_fields),
        "sent": draw(contents),
        "sent_trailers": draw(st.none() | st.just([(b"x-checksum", b"%d" % stream)])),
        "interim": draw(st.lists(st.sampled_from([103, 102]), max_size=2)),
        "status": draw(st.sampled_from([200, 201, 204, 404, 500, 503])),
        "response_fields": draw(some_fields),
        "got": draw(contents),
        "got_trailers": draw(st.none() | st.just([(b"grpc-status", b"%d" % (stream % 16))])),
        "pad": draw(st.none() | st.integers(0, 9)),
        "reset": draw(st.sampled_from([None] * 6 + ["client", "server"])),
    }
    if draw(st.integers(0, 15)) == 0:
        plan["fields"].append((b"x-huge", b"h" * 20_000))  # does not fit into one frame
    return plan


def steps_of(talk: Talk, stream: int, plan: dict[str, Any]) -> list[Any]:
    """What makes the peers say it, in order; each step is one call or more of one peer."""
    client, server = talk.client, talk.server

    def body(peer: Any, parts: list[bytes], trailers: Any) -> list[Any]:
        out: list[Any] = []
        for at, part in enumerate(parts):
            last = at == len(parts) - 1 and trailers is None

            def step(part: bytes = part, last: bool = last) -> None:
                peer.send_data(stream, part, end_stream=last, pad_length=plan["pad"])

            out.append(step)
        if trailers is not None:
            out.append(lambda: peer.send_headers(stream, trailers, end_stream=True))
        return out

    head = [
        (b":method", plan["method"]),
        (b":scheme", b"https"),
        (b":authority", plan["authority"]),
        (b":path", plan["target"]),
        *plan["fields"],
    ]
    bare = not plan["sent"] and plan["sent_trailers"] is None
    steps: list[Any] = [lambda: client.send_headers(stream, head, end_stream=bare)]
    steps += body(client, plan["sent"], plan["sent_trailers"])
    if plan["reset"] == "client":
        return [*steps, lambda: client.reset_stream(stream, 8)]
    if plan["reset"] == "server":
        return [*steps, lambda: server.reset_stream(stream, 2)]
    for status in plan["interim"]:
        interim = [(b":status", b"%d" % status), (b"link", b"early")]
        steps.append(functools.partial(server.send_headers, stream, interim))
    final = [(b":status", b"%d" % plan["status"]), *plan["response_fields"]]
    alone = not plan["got"] and plan["got_trailers"] is None
    steps.append(lambda: server.send_headers(stream, final, end_stream=alone))
    return steps + body(server, plan["got"], plan["got_trailers"])


@st.composite
def conversations(draw: Any) -> tuple[dict[int, dict[str, Any]], Talk]:
    """Plans by stream, and a talk that has said them, streams interleaved as they like."""
    talk = Talk().begun(early_server=draw(st.booleans()))
    count = draw(st.integers(1, 6))
    said = {2 * n + 1: draw(plans(2 * n + 1)) for n in range(count)}
    waiting = [steps_of(talk, stream, plan) for stream, plan in said.items()]
    under_way: list[list[Any]] = []
    # Once each: after a second change h2 signals the first one as well, and calls it an error.
    changeable = [talk.client, talk.server]
    while waiting or under_way:
        choice = draw(st.integers(0, len(under_way) + 1))
        if choice == len(under_way) + 1 and changeable and draw(st.booleans()):
            peer = changeable.pop(draw(st.integers(0, len(changeable) - 1)))
            peer.update_settings({1: draw(st.sampled_from([0, 64, 300, 9000]))})
            talk.settle()
        elif choice >= len(under_way):
            if not waiting:
                choice = 0
            else:
                under_way.append(waiting.pop(0))
                choice = len(under_way) - 1
        if choice < len(under_way):
            under_way[choice].pop(0)()
            for peer in (talk.client, talk.server):
                talk.flush(peer)
            if not under_way[choice]:
                under_way.pop(choice)
    talk.settle()
    return said, talk


def cut(draw: Any, data: bytes, limit: int = 4) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=limit)))
    return [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)]) if b > a]


def seen(exchange: Any) -> tuple[object, ...]:
    """All but the times."""
    return (
        exchange.request,
        exchange.response,
        exchange.error,
        exchange.position,
        exchange.reused,
        exchange.rpc,
    )


def fields_meant(plan: dict[str, Any]) -> list[Any]:
    meant = [(b"host", plan["authority"]), *plan["fields"]]
    return [(bytes(name), bytes(value)) for name, value in meant]


def response_fields_meant(plan: dict[str, Any]) -> list[Any]:
    return [(bytes(name), bytes(value)) for name, value in plan["response_fields"]]


@given(conversations(), st.booleans(), st.data())
@settings(deadline=None, max_examples=120)
def test_any_chunking_at_either_end_gives_what_was_meant(conversation, client, data):
    said, talk = conversation
    whole, pieces = Wire(client=client).opened(), Wire(client=client).opened()
    for by_client, step in talk.script:
        (whole.request if by_client else whole.response)(step)
        for piece in cut(data.draw, step):
            (pieces.request if by_client else pieces.response)(piece)
    assert len(whole.exchanges) == len(said)
    for exchange in whole.exchanges:
        plan = said[exchange.position.offset]
        request, response = exchange.request, exchange.response
        assert (request.method, request.target) == (plan["method"], plan["target"])
        assert list(request.fields) == fields_meant(plan)
        assert not request.headers_incomplete
        if plan["reset"] is not None:
            reason = "CANCELLED" if plan["reset"] == "client" else "STREAM_RESET"
            assert exchange.error is ExchangeError[reason]
            assert response is None
            continue
        assert exchange.error is None
        assert request.complete
        assert response.complete
        assert request.body.content == b"".join(plan["sent"])
        assert list(request.trailers) == (plan["sent_trailers"] or [])
        assert response.status == plan["status"]
        assert response.interim == tuple(plan["interim"])
        assert list(response.fields) == response_fields_meant(plan)
        assert list(response.trailers) == (plan["got_trailers"] or [])
        assert response.body.content == b"".join(plan["got"])
    assert [seen(one) for one in pieces.exchanges] == [seen(one) for one in whole.exchanges]
    assert not pieces.opaque


def is_part(known: Any, meant: list[Any]) -> bool:
    """Whether these fields are those, some of them replaced or cut off at the end."""
    return len(known) <= len(meant) and all(
        one in (true, UNKNOWN_FIELD) for one, true in zip(known, meant, strict=False)
    )


def may_be_part(known: Any, meant: list[Any]) -> bool:
    """The same where unknown pseudo-header fields may stand in front, the authority among them."""
    known = list(known)
    if meant and meant[0][0] == b"host":
        host, *meant = meant
        if known and known[0] == host:
            known.pop(0)
    while not is_part(known, meant):
        if not known or known.pop(0) != UNKNOWN_FIELD:
            return False
    return True


def check_truth(wire: Wire, said: dict[int, dict[str, Any]]) -> None:
    """Nothing in any exchange is wrong; what says that it lacks nothing lacks nothing."""
    for exchange in wire.exchanges:
        plan = said[exchange.position.offset]
        request, response = exchange.request, exchange.response
        if request is not None:
            assert request.method in (plan["method"], UNKNOWN)
            assert request.target in (plan["target"], UNKNOWN)
            assert may_be_part(request.fields, fields_meant(plan)), (request, plan)
            assert is_part(request.trailers, plan["sent_trailers"] or [])
            assert b"".join(plan["sent"]).startswith(request.body.content)
            assert request.body.size <= sum(map(len, plan["sent"]))
            if request.complete:
                assert request.body.size == sum(map(len, plan["sent"]))
                if not request.headers_incomplete:
                    assert list(request.fields) == fields_meant(plan)
                    assert list(request.trailers) == (plan["sent_trailers"] or [])
        if response is not None:
            assert response.status in (plan["status"], UNKNOWN_STATUS)
            assert may_be_part(response.fields, response_fields_meant(plan)), (response, plan)
            assert is_part(response.trailers, plan["got_trailers"] or [])
            assert b"".join(plan["got"]).startswith(response.body.content)
            assert response.body.size <= sum(map(len, plan["got"]))
            assert set(response.interim) <= set(plan["interim"])
            if response.complete:
                assert response.body.size == sum(map(len, plan["got"]))
                if not response.headers_incomplete:
                    assert list(response.fields) == response_fields_meant(plan)
                    assert list(response.trailers) == (plan["got_trailers"] or [])
    numbers = [exchange.position.offset for exchange in wire.exchanges]
    assert len(numbers) == len(set(numbers))


@given(conversations(), st.booleans(), st.data())
@settings(deadline=None, max_examples=300)
def test_gaps_never_make_a_wrong_value(conversation, client, data):
    said, talk = conversation
    wire = Wire(client=client).opened()
    for by_client, step in talk.script:
        direction = direction_of(wire, by_client)
        for piece in cut(data.draw, step, 2):
            fate = data.draw(st.sampled_from("kkkkkkcm"))
            if fate == "m":
                wire.missed(direction, len(piece))
                continue
            kept = data.draw(st.integers(0, len(piece))) if fate == "c" else len(piece)
            wire.moved(direction, piece[:kept], lost=len(piece) - kept)
    wire.later(2 * SECOND).closed(CloseReason.INGRESS_END).closed()
    check_truth(wire, said)


@given(conversations(), st.booleans(), st.booleans(), st.data())
@settings(deadline=None, max_examples=200)
def test_met_in_the_middle_nothing_is_guessed(conversation, client, tls, data):
    said, talk = conversation
    wire = Wire(client=client)
    wire.opened(from_start=False, tls=TlsLibrary.OPENSSL if tls else TlsLibrary.NONE)
    first = data.draw(st.integers(0, len(talk.script) - 1))
    for at, (by_client, step) in enumerate(talk.script):
        if at < first:
            wire.missed(direction_of(wire, by_client), len(step))
        else:
            (wire.request if by_client else wire.response)(step)
    wire.later(2 * SECOND).closed(CloseReason.INGRESS_END).closed()
    check_truth(wire, said)


fragments = st.sampled_from(
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(4, 0, 0),
        frame(4, 0, 0, b"\x00\x01\x00\x00\x00\x00"),
        frame(4, 1, 0),
        frame(1, 5, 1, b"\x82\x84\x86\x41\x01h"),
        frame(1, 4, 1, b"\x82\x84\x86\x41\x01h"),
        frame(1, 5, 3, b"\x82\x84\x86\xbe"),
        frame(1, 4, 1, b"\x88"),
        frame(1, 0, 5, b"\x82\x84"),
        frame(9, 4, 5, b"\x86"),
        frame(1, 0x2D, 7, b"\x01\x00\x00\x00\x00\x00\x82\x84\x86\x00"),
        frame(0, 1, 1, b"data"),
        frame(0, 8, 1, b"\x02data\x00\x00"),
        frame(0, 8, 1, b"\x09data"),
        frame(3, 0, 1, b"\x00\x00\x00\x08"),
        frame(5, 4, 1, b"\x00\x00\x00\x02\x82\x84\x86"),
        frame(7, 0, 0, b"\x00\x00\x00\x00\x00\x00\x00\x00"),
        frame(8, 0, 0, b"\x00\x00\x00\x01"),
        frame(77, 255, 9, b"unknown"),
        frame(1, 5, 9, b"\xff\xff\xff\xff\xff\xff"),
        frame(1, 5, 9, b"\x40\x81\xff\x81\xff"),
    ]
)
steps = st.tuples(
    st.sampled_from([Direction.EGRESS, Direction.INGRESS]),
    st.lists(fragments, max_size=5).map(b"".join) | st.binary(max_size=30),
    st.sampled_from([0, 0, 0, 1, 7]),
    st.sampled_from([0, 0, 0, 2, -3, 50]),
)


@given(
    st.lists(steps, max_size=14),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 40 * SECOND]),
)
@settings(deadline=None, max_examples=500)
def test_any_bytes_and_gaps_raise_nothing_and_every_exchange_comes_once(
    moves, prefaced, start, pause
):
    wire = Wire(body_limit=5, idle_timeout_ns=30 * SECOND).opened(from_start=start)
    if prefaced:
        wire.request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    for direction, payload, lost, shift in moves:
        at = max(0, wire.offsets[direction] + shift)
        wire.moved(direction, payload, lost=lost, at=at)
        if pause is not None:
            wire.later(pause)
    wire.closed().later(2 * SECOND)
    wire.connections.flush(wire.now)
    assert wire.connections.open_connections == 0
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
