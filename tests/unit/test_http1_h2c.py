"""HTTP/1.1 that goes on as HTTP/2 (RFC 7540 3.2), spoken by two peers of the h2 library."""

from __future__ import annotations

import pytest

from otel_tap.events import Direction
from otel_tap.exchange import ExchangeError
from tests.unit.http2_talk import REQUEST, Talk, frame
from tests.unit.wire import Wire

GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def asked(settings: bytes, *, method: bytes = b"GET", more: bytes = b"") -> bytes:
    return (
        method + b" /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: " + settings + b"\r\n" + more + b"\r\n"
    )


class Upgrade(Talk):
    """A talk whose first request moved before."""

    def begun(self, **_: bool) -> Upgrade:
        self.settings = self.client.initiate_upgrade_connection() or b""
        self.server.initiate_upgrade_connection(self.settings)
        return self


def told(talk: Upgrade, wire: Wire, *, together: bool) -> Wire:
    """What the tap makes of it. `together`: the server's first bytes come with its 101."""
    wire.request(asked(talk.settings))
    script = list(talk.script)
    first = b""
    if together:
        place = next(i for i, (client, _) in enumerate(script) if not client)
        first = script.pop(place)[1]
    wire.response(GRANTED + first)
    for by_client, data in script:
        (wire.request if by_client else wire.response)(data)
    return wire


def talk_of_three() -> Upgrade:
    talk = Upgrade().begun()
    talk.flush(talk.server)
    talk.settle()
    talk.response(1, [(b":status", b"201")], b"first")
    talk.request(3, REQUEST, b"second").response(3)
    talk.request(5).response(5)
    return talk


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("client", [True, False])
def test_the_request_that_asked_is_answered_on_stream_1(client, together):
    wire = told(talk_of_three(), Wire(client=client).opened(), together=together)
    first, second, third = wire.exchanges
    assert (first.request.method, first.request.target, first.request.version) == (
        b"GET",
        b"/up",
        "1.1",
    )
    response = first.response
    assert (response.status, response.version, response.body.content) == (201, "2", b"first")
    assert response.interim == (101,)
    assert [one.position.offset for one in wire.exchanges] == [1, 3, 5]
    assert [one.reused for one in wire.exchanges] == [False, True, True]
    assert {one.error for one in wire.exchanges} == {None}
    assert (second.request.target, third.request.version) == (b"/a?b=c", "2")
    counters = wire.connections.counters
    assert counters.exchanges_complete == 3
    assert counters.opaque_tunnel == counters.opaque_malformed == 0


def test_the_first_exchange_begins_with_its_request_and_ends_with_stream_1():
    wire = Wire().opened()
    began = wire.now
    told(talk_of_three(), wire, together=False)
    first, second, _ = wire.exchanges
    assert first.start_ktime_ns == first.request_end_ktime_ns == began + 1_000_000
    assert first.response_start_ktime_ns > first.request_end_ktime_ns + 1_000_000
    assert first.end_ktime_ns < second.start_ktime_ns


def test_a_request_with_content_keeps_it():
    talk = Upgrade().begun()
    talk.flush(talk.server)
    talk.settle()
    talk.response(1)
    wire = Wire().opened()
    wire.request(asked(talk.settings, method=b"POST", more=b"Content-Length: 4\r\n") + b"sent")
    wire.response(GRANTED)
    for by_client, data in talk.script:
        (wire.request if by_client else wire.response)(data)
    (exchange,) = wire.exchanges
    assert exchange.request.body.content == b"sent"
    assert (exchange.error, exchange.response.status) == (None, 200)


def test_frames_of_the_client_that_are_reported_before_the_101_are_kept():
    talk = talk_of_three()
    wire = Wire(client=False).opened()
    wire.request(asked(talk.settings))
    script = list(talk.script)
    place = next(i for i, (client, _) in enumerate(script) if client)
    wire.request(script.pop(place)[1])
    wire.response(GRANTED)
    for by_client, data in script:
        (wire.request if by_client else wire.response)(data)
    assert [one.response.status for one in wire.exchanges] == [201, 200, 200]
    assert {one.error for one in wire.exchanges} == {None}


def test_an_upgrade_that_is_not_granted_is_an_exchange_of_http_1():
    wire = Wire().opened().request(asked(b"AAMAAABk"))
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    wire.request(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
    wire.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [one.response.status for one in wire.exchanges] == [200, 204]
    assert {one.response.version for one in wire.exchanges} == {"1.1"}


def test_a_connection_that_ends_before_stream_1_is_answered_tells_the_request():
    wire = Wire().opened().request(asked(b"AAMAAABk")).response(GRANTED).closed()
    wire.later(2_000_000_000)
    (exchange,) = wire.exchanges
    assert exchange.request.target == b"/up"
    assert exchange.response is None
    assert exchange.error is ExchangeError.CONNECTION_CLOSED


def test_a_server_that_breaks_http_2_after_it_granted_it_is_malformed():
    wire = Wire().opened().request(asked(b"AAMAAABk")).response(GRANTED)
    wire.request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
    wire.response(frame(4, 0, 0, b"12345"))
    (exchange,) = wire.exchanges
    assert exchange.error is ExchangeError.MALFORMED
    assert wire.connections.counters.opaque_malformed == 1


def test_a_gap_behind_the_switch_costs_no_wrong_value():
    talk = talk_of_three()
    wire = Wire().opened().request(asked(talk.settings)).response(GRANTED)
    wire.missed(Direction.INGRESS, 40)
    for by_client, data in talk.script[-4:]:
        (wire.request if by_client else wire.response)(data)
    wire.closed().later(2_000_000_000)
    for one in wire.exchanges:
        assert one.response is None or one.response.status in (200, -1)
    assert wire.exchanges[0].request.target == b"/up"
    assert wire.exchanges[0].error is not None
