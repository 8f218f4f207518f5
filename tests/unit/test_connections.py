"""Events in, exchanges out: streams, facts, closes and time-outs."""

from __future__ import annotations

import pytest

from otel_tap import connections as subject
from otel_tap.events import (
    Address,
    CloseReason,
    DataEvent,
    Direction,
    PeerEvidence,
    ProcessExited,
    TlsLibrary,
)
from otel_tap.exchange import ExchangeError, Position, Role
from tests.unit.wire import SECOND, Wire

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PEER = Address("192.0.2.1", 443)


def test_data_of_an_unknown_connection_says_that_its_peer_is_unknown():
    (exchange,) = Wire().request(GET).response(OK).exchanges
    assert exchange.connection.peer is None
    assert exchange.connection.evidence == PeerEvidence.NONE
    assert exchange.connection.tgid == 10
    assert exchange.reused  # nobody knows that it was the first


def test_facts_learned_later_are_in_the_exchanges_emitted_from_then_on():
    wire = Wire().opened().request(GET).response(OK).request(GET)
    wire.opened(from_start=False, evidence=PeerEvidence.CIPHERTEXT, peer=PEER, socket_id=7)
    wire.response(OK)
    first, second = wire.exchanges
    assert first.connection.peer is None
    assert second.connection.peer == PEER
    assert second.connection.from_start


def test_a_later_event_without_a_fact_does_not_take_it_back():
    wire = Wire().opened(evidence=PeerEvidence.SOCKET, peer=PEER, iss=1, irs=2, socket_id=7)
    wire.opened().request(GET).response(OK)
    connection = wire.exchanges[0].connection
    assert (connection.peer, connection.evidence) == (PEER, PeerEvidence.SOCKET)
    assert (connection.iss, connection.irs) == (1, 2)


def test_facts_of_a_former_socket_do_not_stay_with_a_new_one():
    wire = Wire().opened(evidence=PeerEvidence.SOCKET, peer=PEER, iss=1, irs=2, socket_id=7)
    wire.opened(socket_id=8, evidence=PeerEvidence.NONE).request(GET).response(OK)
    connection = wire.exchanges[0].connection
    assert (connection.peer, connection.evidence) == (None, PeerEvidence.NONE)


def test_the_role_comes_from_who_sends_requests_even_when_a_response_is_met_first():
    wire = Wire(client=False).opened(from_start=False)
    wire.offsets = {Direction.EGRESS: 500, Direction.INGRESS: 900}
    wire.response(OK)
    assert wire.exchanges[0].role == Role.SERVER
    assert wire.exchanges[0].position.offset is None


def test_bytes_that_are_not_http_at_the_beginning_turn_the_connection_opaque():
    wire = Wire().opened().request(b"\x16\x03\x01\x02\x00").response(b"\x16\x03\x03")
    assert wire.opaque == [1]
    assert wire.counters.opaque_not_http == 1
    assert wire.counters.opaque_bytes == 8


@pytest.mark.parametrize(
    "first",
    [b"PING\r\n", b"get key\r\n", b"OPTIONS sip:h SIP/2.0\r\n", b"220 mail\r\n", b"\x00\x01"],
)
def test_other_protocols_are_told_from_http(first):
    assert Wire().opened().request(first).opaque == [1]


def test_a_start_line_may_arrive_byte_by_byte():
    wire = Wire().opened()
    for at in range(len(GET)):
        wire.request(GET[at : at + 1])
    for at in range(len(OK)):
        wire.response(OK[at : at + 1])
    (exchange,) = wire.exchanges
    assert exchange.request.wire_size == len(GET)
    assert exchange.start_ktime_ns == SECOND + 1_000_000
    assert exchange.response.body.content == b"ok"


@pytest.mark.parametrize("cut", [3, 14, 30])
def test_an_http2_preface_begins_http2_however_it_arrives(cut):
    talk = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + (
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        + b"\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x84\x86"
    )
    wire = Wire().opened().request(talk[:cut]).request(talk[cut:])
    wire.response(b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88")
    assert not wire.opaque
    assert wire.exchanges[0].request.version == "2"


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("tls", [TlsLibrary.NONE, TlsLibrary.OPENSSL])
def test_one_byte_lost_at_the_beginning_is_a_gap(client, tls):
    wire = Wire(client=client).opened(tls=tls)
    requests = Direction.EGRESS if client else Direction.INGRESS
    wire.missed(requests, 1).request(GET[1:]).response(OK).closed().later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.request is None
    assert exchange.response.status == 200
    assert wire.counters.gap_bytes == 1


def test_midway_a_response_lost_before_the_first_one_seen_is_a_loss():
    wire = Wire()
    wire.offsets = {Direction.EGRESS: 500, Direction.INGRESS: 900}
    wire.opened(from_start=False).request(GET)
    wire.missed(Direction.INGRESS, 90).missed(Direction.EGRESS, 70).response(OK)
    wire.closed().later(2 * SECOND)
    assert [(one.request is None, one.response is None) for one in wire.exchanges] == [
        (False, True),
        (True, False),
    ]
    assert wire.counters.gap_bytes == 90


def test_midway_a_request_whose_connection_nobody_told_of_is_not_paired():
    """What told of it was lost, and so may be the response to the first request."""
    wire = Wire()
    wire.offsets = {Direction.EGRESS: 500, Direction.INGRESS: 900}
    wire.request(GET).response(OK).request(GET).response(OK).closed().later(2 * SECOND)
    assert [(one.request is None, one.response is None) for one in wire.exchanges] == [
        (False, True),
        (True, False),
        (False, False),
    ]


def test_midway_a_talk_that_never_is_http_is_given_up_but_a_long_transfer_is_not():
    talk = Wire().opened(from_start=False, tls=TlsLibrary.OPENSSL)
    transfer = Wire().opened(from_start=False, tls=TlsLibrary.OPENSSL)
    for _ in range(40):
        talk.request(b"\x01\x02").response(b"\x03")
        transfer.response(b"\x01" * 1000)
    assert talk.opaque == [1]
    assert not transfer.opaque
    transfer.request(GET).response(OK).later(2 * SECOND)
    assert len(transfer.exchanges) == 1


def test_a_tls_session_met_midway_may_begin_inside_a_body_though_numbered_from_zero():
    wire = Wire().opened(from_start=False, tls=TlsLibrary.OPENSSL)
    wire.response(b"\x00\x01\x02").request(GET).response(OK).later(2 * SECOND)
    assert wire.exchanges[0].response.status == 200
    assert not wire.opaque


def test_a_tls_session_seen_from_its_start_is_numbered_in_plaintext():
    wire = Wire().opened(tls=TlsLibrary.OPENSSL).request(GET).response(OK).request(GET).response(OK)
    assert [exchange.position for exchange in wire.exchanges] == [
        Position("tls", 0),
        Position("tls", len(GET)),
    ]


def test_a_tls_session_met_midway_is_placed_by_its_records_alike_at_both_ends():
    positions = []
    for client in (True, False):
        wire = Wire(client=client).opened(from_start=False, tls=TlsLibrary.OPENSSL)
        opener = 1 if client else 0
        wire.request(GET, tcp_position=5000 + opener).response(OK)
        wire.request(b"\r\n" + GET, tcp_position=6000 + opener).response(OK)
        wire.request(GET).response(OK)
        positions.append([exchange.position for exchange in wire.exchanges])
    assert positions[0] == positions[1]
    first, second, third = positions[0]
    assert first == Position("tcp", 5000 << 20)
    assert second == Position("tcp", (6000 << 20) + 2)
    assert third == Position("tcp", None)


def test_a_range_that_was_read_before_is_dropped_and_counted():
    wire = Wire().opened().request(GET)
    wire.response(OK[:20]).response(OK[10:], at=10)
    wire.response(OK[:5], at=0)
    assert wire.exchanges[0].response.body.content == b"ok"
    assert wire.counters.events_out_of_order == 2
    assert wire.counters.overlap_bytes == 10 + 5


def test_bytes_missing_before_the_first_event_are_a_gap_when_the_start_was_watched():
    wire = Wire().opened().missed(Direction.EGRESS, 40).missed(Direction.INGRESS, 30)
    wire.request(GET).response(OK)
    assert wire.counters.gap_bytes == 70
    assert wire.exchanges[0].request.method == b"GET"


def test_a_close_waits_a_second_for_reads_of_what_was_buffered():
    wire = Wire().opened().request(GET).closed()
    assert not wire.exchanges
    wire.response(OK).later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error is None
    assert wire.connections.open_connections == 0
    assert wire.counters.connections_closed == 1


def test_a_close_behind_the_end_of_ingress_needs_no_wait():
    wire = Wire().opened().request(GET).closed(CloseReason.INGRESS_END).closed()
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.CONNECTION_CLOSED
    assert exchange.response is None
    assert wire.connections.open_connections == 0


def test_the_servers_end_of_egress_completes_a_response_delimited_by_it():
    wire = Wire(client=False).opened().request(GET).response(b"HTTP/1.1 200 OK\r\n\r\nab")
    wire.closed(CloseReason.EGRESS_END)
    assert wire.exchanges[0].error is None
    assert wire.exchanges[0].response.body.content == b"ab"


def test_a_half_closed_client_still_gets_its_response():
    wire = Wire().opened().request(GET).closed(CloseReason.EGRESS_END).response(OK)
    assert wire.exchanges[0].error is None


def test_a_reset_ends_what_is_open_and_says_so():
    wire = Wire().opened().request(b"GET /a HTTP/1.1\r\nHost: h\r\nX-").closed(CloseReason.RESET)
    wire.later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.CONNECTION_RESET
    assert (exchange.request.target, exchange.request.complete) == (b"/a", False)
    assert exchange.request.fields == ((b"host", b"h"),)


def test_bytes_that_were_buffered_before_a_reset_still_count():
    wire = Wire().opened().request(GET).closed(CloseReason.RESET)
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.CONNECTION_RESET
    assert (exchange.response.status, exchange.response.body.size) == (200, 2)


def test_a_reset_behind_a_freed_session_is_still_the_reason():
    wire = Wire(client=False).opened(socket_id=77)
    wire.request(GET).response(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    wire.closed().closed(CloseReason.RESET, connection_id=0, socket_id=77)
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.CONNECTION_RESET
    assert wire.connections.open_connections == 0


def test_the_close_of_a_socket_ends_every_connection_bound_to_it():
    wire = Wire().opened(socket_id=77).request(GET)
    wire.closed(CloseReason.RESET, connection_id=0, socket_id=78).later(2 * SECOND)
    assert not wire.exchanges
    wire.closed(CloseReason.RESET, connection_id=0, socket_id=77).later(2 * SECOND)
    assert len(wire.exchanges) == 1


def test_an_exit_completes_what_the_close_delimits_and_ends_the_rest():
    done = Wire().opened().request(GET).response(b"HTTP/1.0 200 OK\r\n\r\nab")
    cut = Wire().opened().request(GET).response(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nab")
    for wire in (done, cut):
        wire.connections.handle(ProcessExited(wire.now, 99))
        assert not wire.exchanges
        wire.connections.handle(ProcessExited(wire.now, 10))
        assert wire.connections.open_connections == 0
    assert done.exchanges[0].error is None
    assert cut.exchanges[0].error == ExchangeError.PROCESS_EXITED


def test_silence_ends_an_exchange_once_and_the_connection_goes_on():
    wire = Wire(idle_timeout_ns=30 * SECOND).opened().request(GET)
    wire.later(29 * SECOND)
    assert not wire.exchanges
    wire.later(2 * SECOND).later(60 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.TIMEOUT
    assert exchange.request.complete
    wire.response(b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n").request(GET).response(OK)
    assert len(wire.exchanges) == 2
    assert wire.exchanges[1].response.status == 200
    assert wire.counters.messages_late == 1


def test_a_time_out_amid_a_body_emits_what_is_known_and_keeps_the_framing():
    wire = Wire(idle_timeout_ns=30 * SECOND).opened().request(GET).response(OK[:-1])
    moved = wire.now
    wire.later(40 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error == ExchangeError.TIMEOUT
    assert (exchange.response.body.size, exchange.response.complete) == (1, False)
    assert exchange.end_ktime_ns == moved
    wire.response(b"k").request(GET).response(OK)
    assert [one.response.complete for one in wire.exchanges] == [False, True]


def test_at_the_stop_of_the_agent_everything_open_is_emitted():
    wire = Wire().opened().request(GET + GET)
    wire.connections.flush(wire.now)
    assert [one.error for one in wire.exchanges] == [ExchangeError.AGENT_STOPPED] * 2
    assert wire.connections.open_connections == 0
    wire.connections.flush(wire.now)
    assert len(wire.exchanges) == 2


def test_a_long_idle_connection_is_forgotten():
    wire = Wire().opened(socket_id=5).request(GET).response(OK)
    wire.later(subject.FORGET_NS - 10 * SECOND)
    assert wire.connections.open_connections == 1
    wire.later(20 * SECOND)
    assert wire.connections.open_connections == 0
    assert wire.counters.connections_expired == 1
    assert not wire.connections._by_tgid
    assert not wire.connections._by_socket


def test_the_table_of_connections_is_bounded(monkeypatch):
    monkeypatch.setattr(subject, "CONNECTION_LIMIT", 3)
    wire = Wire()
    for number in range(5):
        wire.connections.handle(
            DataEvent(number, number, 100 + number, 10, 10, Direction.EGRESS, 1, len(GET), GET, -1)
        )
    assert wire.connections.open_connections == 3
    assert wire.counters.connections_evicted == 2
    assert [one.connection.connection_id for one in wire.exchanges] == [100, 101]


def test_requests_without_answer_are_bounded():
    wire = Wire(body_limit=0).opened()
    for _ in range(3000):
        wire.request(GET)
    assert len(wire.exchanges) >= 3000 - 1024
    wire.connections.flush(wire.now)
    assert len(wire.exchanges) == 3000


def memory_bio(wire: Wire) -> Wire:
    wire.opened(tls=TlsLibrary.OPENSSL, evidence=PeerEvidence.NONE)
    return wire.request(GET).response(OK)


def test_an_exchange_waits_for_the_socket_of_its_session():
    wire = memory_bio(Wire(client=False))
    assert not wire.exchanges
    peer = Address("10.0.0.9", 5000)
    offsets = dict(wire.offsets)
    wire.opened(
        tls=TlsLibrary.OPENSSL, socket_id=7, evidence=PeerEvidence.CIPHERTEXT, peer=peer, iss=3
    )
    wire.offsets = offsets
    (exchange,) = wire.exchanges
    assert exchange.connection.peer == peer
    assert exchange.connection.iss == 3
    assert wire.request(GET).response(OK).exchanges[1].connection.peer == peer


def test_an_exchange_whose_socket_never_shows_is_emitted_with_an_unknown_peer():
    wire = memory_bio(Wire())
    wire.later(SECOND)
    (exchange,) = wire.exchanges
    assert exchange.connection.peer is None
    assert len(wire.request(GET).response(OK).exchanges) == 2


def test_waiting_exchanges_are_emitted_when_their_connection_or_the_agent_ends():
    closed = memory_bio(Wire()).closed(CloseReason.INGRESS_END).closed()
    stopped = memory_bio(Wire())
    stopped.connections.flush(stopped.now)
    assert len(closed.exchanges) == len(stopped.exchanges) == 1
