"""HTTP/1 as an observer reads it, message by message."""

from __future__ import annotations

from typing import Any

import pytest

from otel_tap.events import CloseReason, Direction
from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import Body, field_value
from otel_tap.protocols.http1.head import HeadParser
from tests.unit.wire import SECOND, Wire

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def summary(exchange: Exchange) -> tuple[Any, Any, ExchangeError | None]:
    request, response = exchange.request, exchange.response
    return (
        request and (request.method, request.target),
        response and response.status,
        exchange.error,
    )


@pytest.mark.parametrize("client", [True, False])
def test_a_request_and_its_response_are_one_exchange_at_either_end(client):
    wire = Wire(client=client).opened().request(GET).response(OK)
    (exchange,) = wire.exchanges
    assert exchange.role == (Role.CLIENT if client else Role.SERVER)
    assert exchange.request.method == b"GET"
    assert exchange.request.target == b"/a"
    assert exchange.request.version == "1.1"
    assert exchange.request.fields == ((b"host", b"h"),)
    assert exchange.request.wire_size == len(GET)
    assert exchange.request.complete
    assert exchange.response.status == 200
    assert exchange.response.reason == b"OK"
    assert exchange.response.body == Body(b"ok", 2, False)
    assert exchange.response.wire_size == len(OK)
    assert exchange.response.complete
    assert exchange.error is None
    assert exchange.position.kind == "tcp"
    assert exchange.position.offset == 0
    assert not exchange.reused
    assert wire.counters.exchanges_complete == 1


def test_both_ends_agree_on_the_position_of_a_later_exchange():
    positions = []
    for client in (True, False):
        wire = Wire(client=client).opened().request(GET).response(OK).request(GET).response(OK)
        assert [exchange.reused for exchange in wire.exchanges] == [False, True]
        positions.append(wire.exchanges[1].position)
    assert positions[0] == positions[1]
    assert positions[0].offset == len(GET)


def test_times_are_those_of_the_calls_that_moved_first_and_last_bytes():
    wire = Wire().opened()
    wire.request(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab", took=500_000)
    start = wire.now - 500_000
    wire.request(b"cd", took=400_000)
    request_end = wire.now
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    response_start = wire.now
    wire.response(b"k")
    (exchange,) = wire.exchanges
    assert exchange.start_ktime_ns == start
    assert exchange.request_end_ktime_ns == request_end
    assert exchange.response_start_ktime_ns == response_start
    assert exchange.end_ktime_ns == exchange.observed_ktime_ns == wire.now
    assert exchange.tid == 11


def test_content_beyond_the_limit_is_counted_and_not_kept():
    wire = Wire(body_limit=3).opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab").response(b"cdef")
    assert wire.exchanges[0].response.body == Body(b"abc", 6, True)


def test_a_limit_of_zero_keeps_no_content_and_counts_exactly():
    wire = Wire(body_limit=0).opened().request(GET).response(OK)
    assert wire.exchanges[0].response.body == Body(b"", 2, True)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b'3;name="v"\r\nabc\r\n0A \r\n0123456789\r\n00\r\nX-Sum: 7\r\n\r\n'
)


def test_chunks_with_extensions_and_trailers_give_content_without_framing():
    wire = Wire().opened().request(GET).response(CHUNKED)
    response = wire.exchanges[0].response
    assert response.body == Body(b"abc0123456789", 13, False)
    assert response.trailers == ((b"x-sum", b"7"),)
    assert response.wire_size == len(CHUNKED)


@pytest.mark.parametrize("cut", range(1, len(CHUNKED)))
def test_a_response_cut_anywhere_is_the_same_response(cut):
    whole = Wire().opened().request(GET).response(CHUNKED)
    split = Wire().opened().request(GET).response(CHUNKED[:cut]).response(CHUNKED[cut:])
    assert split.exchanges[0].response == whole.exchanges[0].response


@pytest.mark.parametrize("status", [b"200 OK", b"304 Not Modified"])
def test_the_response_to_head_has_no_body_whatever_its_length_says(status):
    head = b"HTTP/1.1 " + status + b"\r\nContent-Length: 99\r\n\r\n"
    wire = Wire().opened().request(b"HEAD / HTTP/1.1\r\n\r\n").response(head)
    wire.request(GET).response(OK)
    assert [exchange.response.body.size for exchange in wire.exchanges] == [0, 2]
    assert wire.exchanges[1].request.method == b"GET"


def test_interim_responses_leave_their_status_only():
    wire = Wire().opened().request(b"PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
    wire.response(b"HTTP/1.1 100 Continue\r\n\r\n").request(b"x")
    wire.response(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    wire.response(OK)
    started = wire.now
    (exchange,) = wire.exchanges
    assert exchange.response.interim == (100, 103)
    assert exchange.response.wire_size == len(OK)
    assert exchange.response_start_ktime_ns == started


def test_pipelined_requests_are_paired_in_order():
    wire = Wire().opened()
    wire.request(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HT").request(
        b"TP/1.1\r\n\r\n"
    )
    wire.response(OK + EMPTY + b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    assert [summary(exchange) for exchange in wire.exchanges] == [
        ((b"GET", b"/1"), 200, None),
        ((b"GET", b"/2"), 204, None),
        ((b"GET", b"/3"), 404, None),
    ]


def test_an_early_response_waits_for_the_rest_of_its_request():
    wire = Wire().opened().request(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab")
    wire.response(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert not wire.exchanges
    wire.request(b"cd")
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"POST", b"/"), 413, None)
    assert exchange.end_ktime_ns == wire.now


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("lost", [0, 5])
def test_fields_may_be_missing_from_a_head_that_was_cut(client, lost):
    wire = Wire(client=client).opened()
    wire.request(b"GET /a HTTP/1.1\r\nAccept: x\r\nHos", lost=lost).closed(CloseReason.RESET)
    wire.later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.request.fields == ((b"accept", b"x"),)
    assert exchange.request.headers_incomplete
    wire = Wire(client=client).opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Le", lost=lost)
    wire.closed(CloseReason.RESET).later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.response.fields == ((b"server", b"x"),)
    assert exchange.response.headers_incomplete
    assert not exchange.request.headers_incomplete


def test_an_early_response_and_a_close_are_emitted_once():
    wire = Wire().opened().request(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab")
    wire.response(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    wire.closed(CloseReason.INGRESS_END).closed()
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"POST", b"/"), 413, ExchangeError.CONNECTION_CLOSED)
    assert not exchange.request.complete
    assert exchange.response.complete
    assert wire.connections.open_connections == 0


def test_a_response_reported_before_its_requests_write_returned_is_paired():
    wire = Wire().opened().response(OK)
    assert not wire.exchanges
    wire.request(GET, took=5_000_000).request(GET).response(EMPTY)
    assert [summary(exchange) for exchange in wire.exchanges] == [
        ((b"GET", b"/a"), 200, None),
        ((b"GET", b"/a"), 204, None),
    ]


def test_a_response_that_no_request_explains_is_emitted_alone():
    wire = Wire()
    wire.offsets = {Direction.EGRESS: 500, Direction.INGRESS: 900}
    wire.opened(from_start=False)
    wire.response(OK).request(GET).response(EMPTY).later(2_000_000_000)
    assert [summary(exchange) for exchange in wire.exchanges] == [
        (None, 200, None),
        ((b"GET", b"/a"), 204, None),
    ]
    assert wire.exchanges[0].reused
    assert wire.exchanges[0].position.offset is None


def test_a_body_delimited_by_the_close_ends_with_the_stream():
    wire = Wire().opened().request(GET).response(b"HTTP/1.0 200 OK\r\n\r\nab").response(b"cd")
    assert not wire.exchanges
    wire.closed(CloseReason.INGRESS_END)
    (exchange,) = wire.exchanges
    assert exchange.response.body.content == b"abcd"
    assert exchange.response.version == "1.0"
    assert exchange.response.complete
    assert exchange.error is None


def test_a_reset_leaves_a_body_delimited_by_the_close_incomplete():
    wire = Wire().opened().request(GET).response(b"HTTP/1.0 200 OK\r\n\r\nab")
    wire.closed(CloseReason.RESET).later(2_000_000_000)
    (exchange,) = wire.exchanges
    assert exchange.response.body.content == b"ab"
    assert not exchange.response.complete
    assert exchange.error == ExchangeError.CONNECTION_RESET


def test_an_accepted_connect_turns_the_connection_opaque():
    wire = Wire().opened().request(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n")
    wire.response(b"HTTP/1.1 200 Connection established\r\n\r\n").request(b"\x16\x03\x01")
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"CONNECT", b"h:443"), 200, None)
    assert wire.opaque == [1]
    assert wire.counters.opaque_tunnel == 1
    assert wire.counters.opaque_bytes == 3


def test_a_refused_connect_leaves_http_going_on():
    wire = Wire().opened().request(b"CONNECT h:443 HTTP/1.1\r\n\r\n")
    wire.response(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno").request(GET).response(OK)
    assert [exchange.response.status for exchange in wire.exchanges] == [407, 200]
    assert not wire.opaque


def test_a_granted_upgrade_to_an_unknown_protocol_ends_reading():
    wire = Wire().opened()
    wire.request(b"GET /x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    wire.response(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n")
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"GET", b"/x"), 101, None)
    assert wire.opaque == [1]
    assert wire.counters.opaque_tunnel == 1
    assert wire.counters.opaque_bytes == len(b"HTTP/1.1 200 OK\r\n")


def test_a_request_that_came_with_a_declined_upgrade_is_read_too():
    wire = Wire().opened()
    wire.request(b"GET /x HTTP/1.1\r\nUpgrade: x\r\n\r\n" + GET + GET[:5]).request(GET[5:])
    wire.response(OK).response(EMPTY).response(OK)
    assert [summary(exchange)[:2] for exchange in wire.exchanges] == [
        ((b"GET", b"/x"), 200),
        ((b"GET", b"/a"), 204),
        ((b"GET", b"/a"), 200),
    ]


@pytest.mark.parametrize("client", [True, False])
def test_http_inside_a_tunnel_is_read(client):
    wire = Wire(client=client).opened()
    wire.request(b"CONNECT h:80 HTTP/1.1\r\n\r\n" + GET)
    wire.response(b"HTTP/1.1 200 Connection established\r\n\r\n" + OK)
    wire.request(GET).response(EMPTY)
    assert [summary(exchange) for exchange in wire.exchanges] == [
        ((b"CONNECT", b"h:80"), 200, None),
        ((b"GET", b"/a"), 200, None),
        ((b"GET", b"/a"), 204, None),
    ]
    assert [exchange.reused for exchange in wire.exchanges] == [False, True, True]
    assert wire.opaque == []


def test_tunnels_in_tunnels_are_followed_to_a_bound():
    wire = Wire().opened()
    wire.request(b"CONNECT h:80 HTTP/1.1\r\n\r\n" * 2000)
    wire.response(b"HTTP/1.1 200 OK\r\n\r\n" * 2000)
    assert [exchange.response.status for exchange in wire.exchanges] == [200] * 5
    assert wire.opaque == [1]


def test_behind_a_gap_at_the_switch_a_tunnel_is_met_midway():
    wire = Wire().opened().request(b"CONNECT h:80 HTTP/1.1\r\n\r\n")
    wire.missed(Direction.EGRESS, 10)
    wire.request(b"rest of something").response(b"HTTP/1.1 200 OK\r\n\r\n")
    wire.request(b"more of it").request(GET).response(OK)
    # What was lost may have been a request, and this its response.
    assert [summary(exchange) for exchange in wire.exchanges] == [
        ((b"CONNECT", b"h:80"), 200, None),
        ((b"GET", b"/a"), None, ExchangeError.TRUNCATED),
        (None, 200, None),
    ]


def test_an_upgrade_that_is_ignored_changes_nothing():
    wire = Wire().opened()
    wire.request(b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n").response(OK).request(GET).response(OK)
    assert [summary(exchange)[1:] for exchange in wire.exchanges] == [(200, None), (200, None)]
    assert not wire.opaque


@pytest.mark.parametrize(
    "target", [b"http://h/a?b", b"*", b"/%20%zz", b"/\xc3\xa9", b"//x//", b"/a b"]
)
def test_every_form_of_target_is_kept_as_sent(target):
    wire = Wire().opened().request(GET).response(OK)
    wire.request(b"OPTIONS " + target + b" HTTP/1.1\r\n\r\n").response(OK)
    assert wire.exchanges[1].request.target == target


def test_empty_lines_before_a_request_are_not_part_of_it():
    wire = Wire().opened().request(b"\r\n\r\n" + GET).response(OK).request(b"\r\n").request(GET)
    wire.response(OK)
    assert [exchange.request.wire_size for exchange in wire.exchanges] == [len(GET), len(GET)]
    assert wire.exchanges[0].position.offset == 4


def test_names_of_any_case_bare_line_feeds_and_folded_lines_are_read():
    wire = Wire().opened().request(b"GET / HTTP/1.1\nX-A: 1\n 2\r\n\t3 \nHOST:\n\n")
    wire.response(b"HTTP/1.1 200\nCONTENT-LENGTH:2\n\nok")
    (exchange,) = wire.exchanges
    assert exchange.request.fields == ((b"x-a", b"1 2 3"), (b"host", b""))
    assert exchange.response.reason == b""
    assert exchange.response.body.content == b"ok"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: -1",
        b"Content-Length: +1",
        b"Content-Length: 1 1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 99999999999999999999",
        b"Content-Length:",
        b"Content-Length: 1\r\n 0",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, gzip",
        b"Content-Length : 1",
        b"no colon",
        b": no name",
    ],
)
def test_a_head_whose_framing_readers_would_dispute_is_malformed(fields):
    wire = Wire().opened().request(b"POST / HTTP/1.1\r\nA: b\r\n" + fields + b"\r\n\r\nx")
    assert not wire.exchanges
    wire.response(OK + OK)
    assert wire.opaque == [1]
    assert wire.counters.messages_malformed == 1
    exchange = wire.exchanges[0]
    assert summary(exchange) == ((b"POST", b"/"), 200, ExchangeError.MALFORMED)
    assert exchange.request.fields[0] == (b"a", b"b")
    assert exchange.request.ambiguity


def test_what_the_peer_made_of_a_refused_request_is_waited_for_no_longer_than_the_connection():
    refused = b"GET /a HTTP/1.1\r\nContent-Length: x\r\n\r\n"
    for end in (
        lambda wire: wire.closed(CloseReason.INGRESS_END),
        lambda wire: wire.closed(CloseReason.RESET).later(2 * SECOND),
        lambda wire: wire.response(b"\x00 no HTTP/1.1 at all\r\n\r\n"),
        lambda wire: wire.response(b"", lost=10).later(61 * SECOND).response(b"x"),
    ):
        wire = Wire().opened().request(GET).response(OK).request(refused)
        assert len(wire.exchanges) == 1
        end(wire)
        assert summary(wire.exchanges[1]) == ((b"GET", b"/a"), None, ExchangeError.MALFORMED)
        assert len(wire.exchanges) == 2


def test_bytes_that_are_no_request_at_all_are_not_waited_with():
    wire = Wire().opened().request(GET).response(OK).request(b"\x00\x01\r\n\r\n")
    assert wire.opaque == [1]


@pytest.mark.parametrize("line", [b"x", b"-1", b"0x1", b"1_0", b"", b"f" * 16, b"1 1"])
def test_a_broken_chunk_size_is_malformed_and_what_is_known_is_emitted(line):
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + line + b"\r\n")
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"GET", b"/a"), 200, ExchangeError.MALFORMED)
    assert wire.opaque == [1]


def test_equal_lengths_in_a_list_are_one_length():
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok")
    assert wire.exchanges[0].response.body.content == b"ok"


@pytest.mark.parametrize("pieces", [1, 70])
def test_a_head_beyond_its_bound_is_malformed(pieces):
    wire = Wire().opened().request(b"GET / HTTP/1.1\r\n")
    for _ in range(pieces):
        wire.request(b"X-A: " + b"a" * (70_000 // pieces) + b"\r\n")
    wire.response(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert wire.opaque == [1]
    assert summary(wire.exchanges[0]) == ((b"GET", b"/"), 431, ExchangeError.MALFORMED)


def test_garbage_behind_a_response_is_malformed_and_ends_the_reading():
    wire = Wire().opened().request(GET).response(OK + b"\x00garbage\r\n\r\n")
    assert summary(wire.exchanges[0])[1:] == (200, None)
    assert wire.counters.opaque_malformed == 1


# Gaps.


def test_a_gap_inside_a_body_of_known_length_costs_only_its_bytes():
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", lost=3).response(b"fghij")
    wire.request(GET).response(OK)
    first, second = wire.exchanges
    assert first.response.body == Body(b"ab", 10, True)
    assert first.lost_bytes == 3
    assert first.response.complete
    assert first.error is None
    assert summary(second) == ((b"GET", b"/a"), 200, None)
    assert wire.counters.gap_bytes == 3


def test_a_gap_inside_one_chunk_costs_only_its_bytes():
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nab", lost=6)
    wire.response(b"\r\n1\r\nx\r\n0\r\n\r\n").request(GET).response(OK)
    assert wire.exchanges[0].response.body == Body(b"ab", 9, True)
    assert wire.exchanges[0].lost_bytes == 6
    assert summary(wire.exchanges[1]) == ((b"GET", b"/a"), 200, None)


def test_a_gap_that_ends_a_body_exactly_completes_it():
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", lost=8)
    (exchange,) = wire.exchanges
    assert exchange.response.complete
    assert exchange.end_ktime_ns == wire.now


def test_a_gap_in_chunk_framing_truncates_and_reading_goes_on_at_the_next_start_line():
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nab", lost=7)
    wire.response(b"more HTTP/1.1 200 OK\r\n\r\n").request(b"GET /b HTTP/1.1\r\n\r\n").response(OK)
    first, second = wire.exchanges
    assert summary(first) == ((b"GET", b"/a"), 200, ExchangeError.TRUNCATED)
    assert not first.response.complete
    assert summary(second) == ((b"GET", b"/b"), 200, None)


def test_a_gap_in_a_request_head_keeps_what_stood_before_it():
    wire = Wire().opened().request(b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b", lost=9)
    wire.response(OK)
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"GET", b"/a"), 200, ExchangeError.TRUNCATED)
    assert exchange.request.fields == ((b"host", b"h"),)
    assert not exchange.request.complete


def test_a_lost_exchange_does_not_shift_the_pairs_behind_it():
    wire = Wire().opened().request(GET).response(OK)
    wire.missed(Direction.EGRESS, 50).missed(Direction.INGRESS, 60)
    wire.request(b"GET /c HTTP/1.1\r\n\r\n").response(EMPTY)
    wire.request(b"GET /d HTTP/1.1\r\n\r\n").response(OK)
    # Whether 204 answers /c or one more lost request cannot be told from here.
    assert [summary(exchange) for exchange in wire.exchanges[1:]] == [
        ((b"GET", b"/c"), None, ExchangeError.TRUNCATED),
        (None, 204, None),
        ((b"GET", b"/d"), 200, None),
    ]


def test_a_lost_request_leaves_its_response_alone():
    wire = Wire().opened().request(GET).response(OK).missed(Direction.EGRESS, 50).response(EMPTY)
    wire.request(b"GET /c HTTP/1.1\r\n\r\n").response(OK).later(2_000_000_000)
    # One more response, however late, would say that more than one request was lost.
    assert [summary(exchange) for exchange in wire.exchanges[1:]] == [(None, 204, None)]
    wire.request(GET)
    assert [summary(exchange) for exchange in wire.exchanges[2:]] == [((b"GET", b"/c"), 200, None)]


def test_a_late_response_that_nobody_waits_for_refutes_a_pair_behind_a_loss():
    wire = Wire().opened().request(GET).response(OK).missed(Direction.EGRESS, 90).response(EMPTY)
    wire.request(b"GET /c HTTP/1.1\r\n\r\n").response(OK).later(20 * SECOND).response(OK)
    assert [summary(exchange) for exchange in wire.exchanges[1:3]] == [
        (None, 204, None),
        (None, 200, None),
    ]
    assert summary(wire.exchanges[3]) == ((b"GET", b"/c"), None, ExchangeError.TRUNCATED)


def test_a_pair_whose_request_was_cut_behind_a_loss_is_refuted_too():
    wire = Wire().opened().missed(Direction.EGRESS, 50).response(EMPTY)
    wire.missed(Direction.EGRESS, 50).request(b"GET /c HTTP/1.1\r\n").missed(Direction.EGRESS, 2)
    wire.response(OK).response(EMPTY).closed(CloseReason.INGRESS_END).closed().later(2 * SECOND)
    assert sorted(str(summary(exchange)[:2]) for exchange in wire.exchanges) == sorted(
        map(str, [(None, 204), (None, 200), ((b"GET", b"/c"), None), (None, 204)])
    )


def test_a_doubtful_pair_is_refuted_by_a_response_that_nobody_waits_for():
    wire = Wire().opened().missed(Direction.EGRESS, 90)
    wire.request(b"GET /c HTTP/1.1\r\n\r\n").response(EMPTY).response(OK)
    wire.later(2_000_000_000)
    assert sorted(map(repr, map(summary, wire.exchanges))) == sorted(
        map(
            repr,
            [
                (None, 204, None),
                ((b"GET", b"/c"), None, ExchangeError.TRUNCATED),
                (None, 200, None),
            ],
        )
    )


def test_answers_before_skipped_requests_are_no_answers_to_them():
    wire = Wire().opened().missed(Direction.EGRESS, 50).response(OK).response(OK)
    wire.request(b"G").request(b"ET /c HTTP/1.1\r\n\r\n").request(b"HEAD /d HTTP/1.1\r\n\r\n")
    wire.response(OK + HEAD_OK).request(GET).response(OK).later(2 * SECOND)
    assert [summary(exchange)[:2] for exchange in wire.exchanges if exchange.request] == [
        ((b"HEAD", b"/d"), None),
        ((b"GET", b"/a"), None),
    ]
    assert sum(1 for exchange in wire.exchanges if exchange.response) == 5


HEAD_D = b"HEAD /d HTTP/1.1\r\n\r\n"
HEAD_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("content", [(b"hello",), (b"h", b"ello"), (b"H", b"ello")])
@pytest.mark.parametrize("between", ["nothing", "request", "time"])
def test_a_doubtful_pair_with_head_is_none_when_content_follows(between, content):
    wire = Wire().opened().missed(Direction.EGRESS, 50).response(EMPTY)
    wire.request(HEAD_D).response(HEAD_OK)
    if between == "request":
        wire.request(GET)
    if between == "time":
        wire.later(2 * SECOND)
    assert len(wire.exchanges) == 1
    for part in content:
        wire.response(part)
    wire.closed().later(2 * SECOND)
    assert summary(wire.exchanges[1]) == (None, 200, None)
    assert summary(wire.exchanges[2]) == ((b"HEAD", b"/d"), None, ExchangeError.TRUNCATED)
    assert not [one for one in wire.exchanges if one.request and one.response]


@pytest.mark.parametrize("later", ["turn", "close"])
def test_a_doubtful_pair_with_head_is_one_when_no_content_follows(later):
    wire = Wire().opened().missed(Direction.EGRESS, 50).response(EMPTY)
    wire.request(HEAD_D).response(HEAD_OK)
    if later == "turn":
        wire.request(GET).response(OK)
    else:
        wire.closed(CloseReason.INGRESS_END).closed()
    assert summary(wire.exchanges[1]) == ((b"HEAD", b"/d"), 200, None)


def test_a_doubtful_pair_with_head_is_none_when_content_may_have_been_lost():
    wire = Wire().opened().missed(Direction.EGRESS, 50).response(EMPTY)
    wire.request(HEAD_D).response(HEAD_OK)
    wire.missed(Direction.INGRESS, 5).response(OK).closed(CloseReason.INGRESS_END).closed()
    assert [summary(exchange) for exchange in wire.exchanges[1:]] == [
        (None, 200, None),
        ((b"HEAD", b"/d"), None, ExchangeError.TRUNCATED),
        (None, 200, None),
    ]


def test_a_doubtful_response_with_content_grants_no_tunnel():
    wire = Wire().opened().missed(Direction.EGRESS, 50).response(EMPTY)
    wire.request(b"CONNECT h:1 HTTP/1.1\r\n\r\n").response(OK)
    assert [summary(exchange) for exchange in wire.exchanges[1:]] == [
        (None, 200, None),
        ((b"CONNECT", b"h:1"), None, ExchangeError.TRUNCATED),
    ]
    assert wire.opaque


def test_a_request_that_begins_after_a_noticed_loss_is_paired():
    wire = Wire().opened().request(b"GET /b HTTP/1.1\r\n\r\n").response(b"", lost=50)
    wire.request(b"GET /c HTTP/1.1\r\n\r\n").response(EMPTY)
    assert [summary(exchange) for exchange in wire.exchanges] == [
        ((b"GET", b"/b"), None, ExchangeError.TRUNCATED),
        ((b"GET", b"/c"), 204, None),
    ]


def test_a_response_never_answers_a_request_behind_an_unanswered_hidden_one():
    wire = Wire().opened().request(GET).response(OK).missed(Direction.EGRESS, 50)
    wire.request(b"GET /c HTTP/1.1\r\n\r\n").response(EMPTY).response(OK)
    wire.later(2 * SECOND)
    assert [summary(exchange) for exchange in wire.exchanges[1:]] == [
        ((b"GET", b"/c"), None, ExchangeError.TRUNCATED),
        (None, 204, None),
        (None, 200, None),
    ]


def test_a_gap_in_a_content_up_to_the_close_costs_only_its_bytes():
    wire = Wire().opened().request(GET).response(b"HTTP/1.1 200 OK\r\n\r\nab", lost=7)
    wire.response(b"cd").closed().later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"GET", b"/a"), 200, None)
    assert exchange.response.body == Body(b"ab", 11, True)
    assert exchange.lost_bytes == 7


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 999\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_midway_a_framing_followed_by_a_status_line_was_an_answer_to_head(framing):
    wire = Wire()
    wire.offsets = {Direction.EGRESS: 500, Direction.INGRESS: 900}
    wire.opened(from_start=False)
    wire.response(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
    ended = wire.now
    wire.response(OK).later(2 * SECOND)
    assert [exchange.response.body.size for exchange in wire.exchanges] == [0, 2]
    assert wire.exchanges[0].end_ktime_ns == ended


def test_midway_bytes_are_skipped_until_an_event_begins_with_a_start_line():
    wire = Wire()
    wire.offsets = {Direction.EGRESS: 500, Direction.INGRESS: 900}
    wire.opened(from_start=False)
    wire.response(b"tail of a body" + OK).request(b"GET /a HTT").request(GET).response(OK)
    wire.later(2_000_000_000)
    (exchange,) = wire.exchanges
    assert summary(exchange) == ((b"GET", b"/a"), 200, None)
    assert wire.counters.skipped_bytes == len(b"tail of a body" + OK) + len(b"GET /a HTT")


def test_lines_of_sensitive_fields_and_queries_are_in_no_table():
    heads = HeadParser()
    names = [b"Authorization", b"cookie", b"X-My-Token", b"x-SESSION-id", b"Api-Key", b"X-Api_Key"]
    lines = [name + b": s3cret\r" for name in names]
    lines += [b"Referer: /?code=s3cret\r", b"Accept: */*\r"]
    for _ in range(2):
        fields, *_ = heads.section(lines, 0, len(lines))
    assert field_value(fields, b"authorization") == b"s3cret"
    assert list(heads._lines) == [b"Accept: */*\r"]
    assert b"s3cret" not in b"".join(heads._names)
    for name in heads._names.values():
        assert b"s3cret" not in name.prefix + name.line + name.field[1]


def test_what_is_expected_of_a_line_changes_nothing_of_what_it_says():
    heads = HeadParser()
    sections = [
        [b"Host: a\r", b"Accept: x\r", b"Content-Length: 3\r"],
        [b"Host: a\r", b"Accept: y\r", b"Content-Length: 4\r"],
        [b"Host:a\r", b"Host: b \r", b"Accept: x\r"],
        [b"Accept: x\r", b"Accept: \r", b"Accept:x\r", b"Accept-Language: x\r"],
        [b"Content-Length: 5\r", b"Host : a\r", b"Accept: x\r", b" y\r", b"Accept\r"],
        [b"Host: a\r", b"Accept: x\r", b"Content-Length: 3\r", b"Content-Length: 4\r"],
    ]
    for lines in sections * 3 + sections[::-1]:
        heads.status_line(b"HTTP/1.1 200 OK\r")
        fresh = HeadParser()
        expected = fresh.section(lines, 0, len(lines)), fresh.doubts
        assert (heads.section(lines, 0, len(lines)), heads.doubts) == expected


def test_names_that_were_forgotten_are_not_reachable():
    heads = HeadParser()
    for number in range(5_000):
        heads.section([b"Host: a\r", b"X-%d: a\r" % number, b"Accept: a\r"], 0, 3)
    reached, name = set(), heads._request
    while name not in reached:
        reached.add(name)
        name = name.next
    assert len(reached) <= 4
    assert len(heads._names) <= 1024


def test_the_tables_of_lines_and_names_are_bounded():
    heads = HeadParser()
    for number in range(10_000):
        heads.section([b"X-%d: %d" % (number % 3000, number), b"Date: %d" % number], 0, 2)
    assert len(heads._lines) <= 4096
    assert len(heads._names) <= 1024
    dates = [line for line in heads._lines if line.startswith(b"Date")]
    assert len(dates) <= 64 * 12


def test_a_line_that_stays_for_a_while_is_met_again_though_its_name_varies():
    heads = HeadParser()
    for number in range(200):
        heads.section([b"Date: %d\r" % number], 0, 1)
    assert b"Date: 200\r" not in heads._lines
    heads.refresh()
    first, *_ = heads.section([b"Date: 200\r"], 0, 1)
    again, *_ = heads.section([b"Date: 200\r"], 0, 1)
    assert again[0][1] is first[0][1]
    for number in range(300, 400):
        heads.section([b"Date: %d\r" % number], 0, 1)
    assert len(heads._lines) <= 64 + 4


def test_a_refresh_lets_no_sensitive_line_into_the_table():
    heads = HeadParser()
    for _ in range(3):
        heads.section([b"Cookie: s3cret\r"], 0, 1)
        heads.refresh()
    assert not heads._lines
