"""HTTP/2 as an observer reads it: what frames and losses make of exchanges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_tap.events import CloseReason, DataEvent, Direction, PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, ExchangeError, Role
from otel_tap.messages import EMPTY_BODY, UNKNOWN, UNKNOWN_FIELD, UNKNOWN_STATUS, Request
from otel_tap.privacy import Redactor
from otel_tap.protocols import Carrier, Opaque
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http2 import Http2, Upgraded
from otel_tap.protocols.http2.streams import OPEN_LIMIT, SILENT_NS
from tests.unit.http2_talk import REQUEST, Talk, frame, play
from tests.unit.test_telemetry_records import attributes_of
from tests.unit.wire import SECOND, Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = frame(4, 0, 0)
GET = b"\x82\x84\x87\x41\x01h"  # GET / https, authority h: inserted
OK = b"\x88"


def begun(*, client: bool = True, **facts) -> Wire:
    wire = Wire(client=client, **facts).opened()
    return wire.request(PREFACE + SETTINGS).response(SETTINGS)


def heads(stream: int, *, ends: bool = True) -> bytes:
    return frame(1, 5 if ends else 4, stream, GET)


def test_an_exchange_has_the_facts_of_its_stream():
    talk = Talk().begun()
    talk.request(1, [*REQUEST, (b"x-a", b"b")], b"sent", [(b"x-t", b"u")])
    talk.response(1, [(b":status", b"201"), (b"content-type", b"text/plain")], b"got")
    wire = play(talk, Wire().opened())
    (exchange,) = wire.exchanges
    request, response = exchange.request, exchange.response
    assert (request.method, request.target, request.version) == (b"GET", b"/a?b=c", "2")
    assert request.fields == ((b"host", b"h.example"), (b"x-a", b"b"))
    assert request.trailers == ((b"x-t", b"u"),)
    assert request.body.content == b"sent"
    assert (response.status, response.version, response.body.content) == (201, "2", b"got")
    assert (exchange.position.kind, exchange.position.offset) == ("h2", 1)
    assert exchange.role is Role.CLIENT
    steps = [data for _, data in talk.script]
    assert request.wire_size == sum(map(len, steps[-5:-2]))
    assert response.wire_size == sum(map(len, steps[-2:]))


def test_both_ends_give_the_same_position_and_messages():
    talk = Talk().begun()
    for stream in (1, 3, 5):
        talk.request(stream).response(stream)
    ends = [play(talk, Wire(client=client).opened()).exchanges for client in (True, False)]
    assert [(one.position, one.request, one.response) for one in ends[0]] == [
        (one.position, one.request, one.response) for one in ends[1]
    ]


def test_times_are_those_of_the_calls():
    wire = begun()
    wire.request(heads(1), took=500)
    sent = wire.now
    wire.response(frame(1, 4, 1, OK))
    began = wire.now
    wire.response(frame(0, 0, 1, b"a")).response(frame(0, 1, 1, b"b"))
    (exchange,) = wire.exchanges
    assert exchange.start_ktime_ns == sent - 500
    assert exchange.request_end_ktime_ns == sent
    assert exchange.response_start_ktime_ns == began
    assert exchange.end_ktime_ns == exchange.observed_ktime_ns == wire.now
    assert not exchange.reused


def test_a_server_may_speak_before_the_client():
    talk = Talk().begun(early_server=True)
    talk.request(1).response(1)
    assert talk.script[0][0] is False
    for size in (1, 3, 9, 1000):
        wire = Wire(client=False).opened(tls=TlsLibrary.OPENSSL)
        for by_client, data in talk.script:
            for at in range(0, len(data), size):
                (wire.request if by_client else wire.response)(data[at : at + size])
        assert len(wire.exchanges) == 1


def test_streams_end_in_any_order():
    wire = begun().request(heads(1) + heads(3) + heads(5))
    wire.response(frame(1, 5, 5, OK) + frame(1, 4, 1, OK) + frame(1, 5, 3, OK))
    wire.response(frame(0, 1, 1, b"x"))
    assert [one.position.offset for one in wire.exchanges] == [5, 3, 1]


def test_padding_and_priority_are_no_content():
    padded = frame(1, 0x2C, 1, b"\x03" + b"\x00\x00\x00\x00\x10" + GET + b"\x00" * 3)
    wire = begun().request(padded + frame(0, 9, 1, b"\x04body" + b"\x00" * 4))
    wire.response(frame(1, 5, 1, OK))
    (exchange,) = wire.exchanges
    assert exchange.request.body.content == b"body"
    assert exchange.request.wire_size == len(padded) + 9 + 9


def test_interim_responses_leave_their_status_only():
    wire = begun().request(heads(1))
    wire.response(frame(1, 4, 1, b"\x08\x03103" + b"\x00\x04link\x01x"))
    wire.response(frame(1, 5, 1, OK))
    (exchange,) = wire.exchanges
    assert (exchange.response.status, exchange.response.interim) == (200, (103,))
    assert exchange.response.fields == ()
    assert exchange.response.wire_size == 10


def test_unknown_frame_types_are_read_over():
    wire = begun().request(frame(0x42, 0xFF, 7, b"?" * 30) + heads(1))
    wire.response(frame(0xA, 0, 0, b"alt") + frame(1, 5, 1, OK))
    assert len(wire.exchanges) == 1


def test_connect_has_its_authority_as_target():
    wire = begun().request(frame(1, 4, 1, b"\x02\x07CONNECT\x01\x04db:1"))
    wire.response(frame(1, 4, 1, OK)).request(frame(0, 0, 1, b"tunnelled"))
    wire.response(frame(0, 1, 1, b"x")).request(frame(0, 1, 1, b""))
    (exchange,) = wire.exchanges
    assert (exchange.request.method, exchange.request.target) == (b"CONNECT", b"db:1")
    assert exchange.request.body.size == len(b"tunnelled")


def test_a_push_is_an_exchange_of_its_own():
    wire = begun().request(heads(1))
    wire.response(frame(5, 4, 1, b"\x00\x00\x00\x02" + b"\x82\x85\x87\x41\x01p"))
    wire.response(frame(1, 5, 1, OK) + frame(1, 4, 2, OK) + frame(0, 1, 2, b"pushed"))
    asked, pushed = wire.exchanges
    assert (asked.position.offset, pushed.position.offset) == (1, 2)
    assert pushed.request.target == b"/index.html"
    assert pushed.response.body.content == b"pushed"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (8, ExchangeError.CANCELLED),
        (7, ExchangeError.REFUSED),
        (2, ExchangeError.STREAM_RESET),
        (0, ExchangeError.STREAM_RESET),
    ],
)
@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_ends_the_exchange_by_its_code(code, error, by_client):
    wire = begun().request(heads(1))
    (wire.request if by_client else wire.response)(frame(3, 0, 1, code.to_bytes(4, "big")))
    (exchange,) = wire.exchanges
    assert exchange.error is error
    assert exchange.response is None
    wire.response(frame(1, 5, 1, OK)).closed().later(2 * SECOND)
    assert len(wire.exchanges) == 1
    assert wire.counters.messages_late == 1


def test_no_error_after_a_whole_response_ends_an_upload_without_fault():
    wire = begun().request(heads(1, ends=False) + frame(0, 0, 1, b"part"))
    wire.response(frame(1, 5, 1, OK) + frame(3, 0, 1, b"\x00" * 4))
    (exchange,) = wire.exchanges
    assert exchange.error is None
    assert exchange.response.complete
    assert not exchange.request.complete


def test_no_error_in_the_midst_of_a_frame_waits_for_the_rest_of_it():
    content = frame(0, 1, 1, b"x" * 1234)
    released = frame(1, 5, 1, OK) + frame(3, 0, 1, b"\x00" * 4)
    wire = begun().request(heads(1, ends=False) + content[:1000]).response(released)
    assert not wire.exchanges
    wire.request(content[1000:])
    (exchange,) = wire.exchanges
    assert exchange.error is None
    assert exchange.request.complete
    assert exchange.request.body.size == 1234


def test_what_was_released_in_a_frame_is_not_waited_for_longer_than_news_take():
    content = frame(0, 0, 1, b"x" * 1234)
    released = frame(1, 5, 1, OK) + frame(3, 0, 1, b"\x00" * 4)
    wire = begun().request(heads(1, ends=False) + content[:1000]).response(released)
    wire.request(content[1000:])
    assert not wire.exchanges
    wire.later(2 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.error is None
    assert exchange.request.body.size == 1234
    assert not exchange.request.complete


def test_what_was_released_in_a_frame_feels_no_end_of_the_connection():
    content = frame(0, 1, 1, b"x" * 1234)
    released = frame(1, 5, 1, OK) + frame(3, 0, 1, b"\x00" * 4)
    for client in (True, False):
        wire = begun(client=client).request(heads(1, ends=False) + content[:1000])
        wire.response(released).closed().later(2 * SECOND)
        (exchange,) = wire.exchanges
        assert exchange.error is None
        assert not exchange.request.complete


def test_what_the_server_did_not_begin_with_is_refused_when_it_goes_away():
    wire = begun().request(heads(1) + heads(3))
    wire.response(frame(7, 0, 0, b"\x00\x00\x00\x01" + b"\x00" * 4))
    (refused,) = wire.exchanges
    assert (refused.position.offset, refused.error) == (3, ExchangeError.REFUSED)
    assert refused.end_ktime_ns == wire.now  # the frame that refused it is its last
    wire.response(frame(1, 5, 1, OK))
    assert wire.exchanges[1].error is None


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (CloseReason.RESET, ExchangeError.CONNECTION_RESET),
        (CloseReason.CLOSED, ExchangeError.CONNECTION_CLOSED),
    ],
)
def test_the_end_of_the_connection_ends_what_is_open(reason, error):
    wire = begun().request(heads(1) + heads(3)).response(frame(1, 4, 3, OK))
    wire.closed(reason).later(2 * SECOND)
    assert [(one.position.offset, one.error) for one in wire.exchanges] == [(1, error), (3, error)]
    assert wire.exchanges[1].response.status == 200


def test_a_response_that_is_reported_before_its_request_waits_for_it():
    wire = begun().response(frame(1, 5, 1, OK))
    assert not wire.exchanges
    wire.request(heads(1))
    (exchange,) = wire.exchanges
    assert exchange.request.method == b"GET"
    assert exchange.error is None


def test_a_response_without_a_request_is_emitted_after_a_second():
    wire = begun().response(frame(1, 5, 1, OK)).later(3 * SECOND)
    (exchange,) = wire.exchanges
    assert exchange.request is None
    assert exchange.error is ExchangeError.TRUNCATED


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_a_gap_inside_content_costs_its_bytes_only(cut):
    wire = begun().request(heads(1))
    content = frame(0, 1, 1, b"123456789")
    wire.response(frame(1, 4, 1, OK))
    wire.response(content[: 9 + cut], lost=len(content) - 9 - cut)
    wire.request(heads(3)).response(frame(1, 5, 3, OK))
    lame, whole = wire.exchanges
    assert lame.response.body.size == 9
    assert lame.response.body.content == b"123456789"[:cut]
    assert lame.response.lost_bytes == 9 - cut
    assert lame.response.complete
    assert whole.response.lost_bytes == 0


def test_behind_a_gap_frames_are_found_where_an_event_begins_with_them():
    wire = begun().request(heads(1) + heads(3) + heads(5)).response(frame(1, 4, 1, OK))
    wire.missed(Direction.INGRESS, 40)
    wire.response(frame(0, 0, 3, b"amid")[5:])
    assert wire.counters.skipped_bytes > 0
    wire.response(frame(1, 4, 5, OK) + frame(0, 1, 5, b"whole"))
    (exchange,) = wire.exchanges
    assert exchange.position.offset == 5
    assert exchange.response.body.content == b"whole"
    assert exchange.error is None
    wire.response(frame(0, 1, 1, b"rest"))
    assert wire.exchanges[1].error is ExchangeError.TRUNCATED
    assert not wire.exchanges[1].response.complete


def test_content_that_is_as_long_as_announced_is_whole_whatever_passed_unseen():
    wire = begun().request(heads(1)).response(frame(1, 4, 1, OK + b"\x5c\x014"))
    wire.missed(Direction.INGRESS, 13).response(frame(0, 1, 1, b"rest"))
    (exchange,) = wire.exchanges
    assert exchange.response.complete
    assert exchange.error is None


def test_fields_that_a_gap_made_unknown_are_stated():
    talk = Talk().begun()
    fields = [*REQUEST, (b"x-a", b"b")]
    for stream in (1, 3, 5):
        talk.request(stream, fields).response(stream)
    wire = play(talk, Wire().opened(), since=len(talk.script))
    for by_client, data in talk.script:
        lost = by_client and data[:1] != b"P" and not wire.exchanges and len(data) > 25
        if lost:
            wire.missed(Direction.EGRESS, len(data))
        else:
            (wire.request if by_client else wire.response)(data)
        wire.later(2 * SECOND)
    first, second, third = wire.exchanges
    assert first.request is None
    for exchange in (second, third):
        assert exchange.request.headers_incomplete
        assert exchange.request.method == b"GET"
        assert exchange.request.target == UNKNOWN
        # Authority and path among them: what an unknown field was is unknown as well.
        assert exchange.request.fields == (UNKNOWN_FIELD,) * 3
        assert exchange.request.complete
        assert exchange.error is None


def test_a_connection_met_in_the_middle_is_recognised_by_its_frames():
    for client in (True, False):
        wire = Wire(client=client).opened(from_start=False, tls=TlsLibrary.OPENSSL)
        wire.response(frame(0, 0, 21, b"amid"))
        wire.request(frame(1, 5, 23, b"\x82\xc0\x87\x84"))
        wire.response(frame(1, 4, 23, OK) + frame(0, 1, 23, b"x"))
        (exchange,) = wire.exchanges
        assert exchange.role is (Role.CLIENT if client else Role.SERVER)
        assert exchange.request.method == b"GET"
        assert exchange.request.headers_incomplete
        assert exchange.response.complete
        assert exchange.reused


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01" * 2,  # no field section
        b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\xbe",  # nothing that only a head has
        b"\x00\x00\x02\x01\x05\x00\x00\x00\x01\x82",  # alone, and longer than what is there
        b"\x00" * 64,
        b"\x16\x03\x03\x00\x50" + b"\x00" * 30,
    ],
)
def test_other_bytes_in_the_middle_are_not_taken_for_frames(payload):
    wire = Wire().opened(from_start=False, tls=TlsLibrary.OPENSSL)
    for _ in range(40):
        wire.request(payload).response(payload)
    assert wire.opaque == [1]
    assert not wire.exchanges


@pytest.mark.parametrize(
    "broken",
    [
        frame(1, 5, 0, GET),
        frame(0, 1, 0, b"x"),
        frame(4, 0, 0, b"12345"),
        frame(9, 4, 1, GET),
        frame(1, 1, 1, GET) + frame(0, 1, 1, b"x"),
        frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        frame(1, 5, 3, b"\xbf"),
        frame(0, 8, 1, b"\x09x"),
        frame(5, 4, 1, b"\x00\x00\x00\x02" + GET),
        frame(3, 0, 1, b"x"),
    ],
)
def test_what_breaks_the_rules_ends_the_reading_and_not_the_agent(broken):
    wire = begun().request(heads(1)).request(broken)
    assert wire.opaque == [1]
    assert wire.exchanges[0].error is ExchangeError.MALFORMED
    assert wire.counters.opaque_malformed == 1


def test_a_stream_that_begins_like_the_preface_only_is_no_http2():
    wire = Wire().opened().request(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    assert wire.opaque == [1]


def test_a_flood_of_continuations_is_not_kept():
    wire = begun().request(frame(1, 1, 1, GET))
    for _ in range(60):
        wire.request(frame(9, 0, 1, (b"\x00\x01a\x7f\x81\x7e" + b"v" * 16_256)))
    wire.request(frame(9, 4, 1, b"\x00\x01b\x01c")).response(frame(1, 5, 1, OK))
    (exchange,) = wire.exchanges
    assert exchange.request.headers_incomplete
    assert exchange.request.target == b"/"
    assert sum(len(value) for _, value in exchange.request.fields) <= 256 * 1024


def test_open_streams_are_bounded():
    wire = begun()
    for number in range(OPEN_LIMIT + 10):
        wire.request(heads(2 * number + 1))
    assert len(wire.exchanges) == 10
    assert {one.error for one in wire.exchanges} == {ExchangeError.TRUNCATED}


def test_a_stream_whose_end_may_have_passed_unseen_does_not_stay_open():
    wire = begun(idle_timeout_ns=10 * SILENT_NS).request(heads(1) + heads(3))
    wire.missed(Direction.INGRESS, 100).response(frame(1, 5, 3, OK)).later(SECOND)
    assert len(wire.exchanges) == 1
    wire.later(SILENT_NS)
    assert wire.exchanges[1].position.offset == 1
    assert wire.exchanges[1].error is ExchangeError.TRUNCATED


def test_content_is_kept_up_to_the_limit_and_counted_beyond():
    wire = begun(body_limit=4).request(heads(1)).response(frame(1, 4, 1, OK))
    wire.response(frame(0, 0, 1, b"abc")).response(frame(0, 1, 1, b"def"))
    body = wire.exchanges[0].response.body
    assert (body.content, body.size, body.truncated) == (b"abcd", 6, True)


def test_an_upgraded_connection_goes_on_with_the_request_it_began_with():
    counters = Counters()
    emitted: list[Exchange] = []
    known = Connection(1, 10, TlsLibrary.NONE, PeerEvidence.SOCKET, None, None, 0, 0, True)
    carrier = Carrier(known, counters, 100, emitted.append, Opaque(counters))
    carrier.exchange_count = 1  # as the reader of HTTP/1 leaves it
    fields = ((b"host", b"h"), (b"upgrade", b"h2c"))
    request = Request(b"GET", b"/up", "1.1", fields, (), EMPTY_BODY, 70, 0, True)
    http2 = Http2(carrier, Direction.EGRESS, Upgraded(request, 5, 100, 110, reused=False))
    for direction, payload in (
        (Direction.INGRESS, SETTINGS),
        (Direction.EGRESS, PREFACE + SETTINGS),
        (Direction.INGRESS, frame(1, 5, 1, OK)),
        (Direction.EGRESS, heads(3)),
        (Direction.INGRESS, frame(1, 5, 3, OK)),
    ):
        http2.data(DataEvent(200, 200, 1, 10, 11, direction, 90, len(payload), payload, -1))
    first, second = emitted
    assert first.request is request
    assert first.response is not None
    assert (first.response.status, first.response.interim) == (200, (101,))
    assert not first.reused
    assert (first.position.kind, first.position.offset) == ("h2", 1)
    assert (first.start_ktime_ns, first.request_end_ktime_ns, first.tid) == (100, 110, 5)
    assert second.error is None
    assert second.reused


def test_what_is_unknown_is_absent_from_telemetry_rather_than_a_value():
    wire = Wire().opened(from_start=False, tls=TlsLibrary.OPENSSL)
    wire.request(frame(1, 5, 23, b"\xc0\x87\xc1")).response(frame(1, 4, 23, b"\xc0"))
    wire.response(frame(0, 1, 23, b"x"))
    (exchange,) = wire.exchanges
    assert exchange.request.method == exchange.request.target == UNKNOWN
    assert exchange.response.status == UNKNOWN_STATUS
    told = attributes_of(exchange)
    assert told["network.protocol.version"] == "2"
    for name in (
        "http.request.method",
        "http.request.method_original",
        "http.response.status_code",
        "url.full",
        "error.type",
    ):
        assert name not in told


def test_redaction_keeps_what_is_said_of_incomplete_headers_and_of_the_call():
    talk = Talk().begun()
    fields = [*REQUEST, (b"authorization", b"Bearer x"), (b"content-type", b"application/grpc")]
    talk.request(1, fields).response(1, [(b":status", b"200"), (b"set-cookie", b"a=b")])
    (exchange,) = play(talk, Wire().opened()).exchanges
    request = replace(exchange.request, headers_incomplete=True)
    response = replace(exchange.response, headers_incomplete=True)
    redacted: Any = Redactor().redact(replace(exchange, request=request, response=response))
    assert redacted.request.fields != request.fields
    assert redacted.request.headers_incomplete
    assert redacted.response.headers_incomplete
    assert redacted.rpc == exchange.rpc
    assert redacted.rpc.method == b"a"


def test_a_section_that_is_no_hpack_and_is_cut_by_a_gap_ends_nothing_else():
    talk = Talk().begun()
    wire = Wire().opened()
    for from_client, data in talk.script:
        wire.moved(Direction.EGRESS if from_client else Direction.INGRESS, data)
    # An index beyond a table of which nothing was lost; the rest of the section is.
    wire.request(frame(1, 0, 1, b"\xfe"), lost=20)
    assert wire.counters.messages_malformed == 1
    whole = frame(1, 5, 3, b"\x82\x84\x87\x41\x01h")
    wire.request(whole).response(frame(1, 5, 3, b"\x88"))
    (exchange,) = wire.exchanges
    assert exchange.request.method == b"GET"
    assert exchange.response.status == 200
    assert not wire.opaque


def blocks(wire: Wire) -> tuple[int, int]:
    return wire.counters.field_blocks, wire.counters.field_blocks_incomplete


def test_every_field_block_is_counted_whatever_frames_it_came_in():
    talk = Talk().begun().request(1, None, b"sent", [(b"x-t", b"u")]).response(1)
    wire = play(talk, Wire().opened())
    assert blocks(wire) == (3, 0)
    wire.request(frame(1, 1, 3, GET[:2]) + frame(9, 4, 3, GET[2:]))  # in two frames
    wire.response(frame(5, 4, 3, b"\x00\x00\x00\x02" + GET))  # a promise
    wire.response(frame(1, 0x2D, 3, b"\x01" + b"\x00" * 5 + OK + b"\x00"))  # padded
    assert blocks(wire) == (6, 0)


def test_blocks_with_fields_of_before_the_attachment_are_counted_until_none_comes():
    talk = Talk().begun()
    fields = [*REQUEST, (b"x-a", b"b")]
    talk.request(1, fields).response(1, [(b":status", b"200"), (b"x-b", b"c")])
    met = len(talk.script)
    for stream in (3, 5):
        talk.request(stream, fields).response(stream)
    talk.request(7, [*REQUEST[:3], (b":path", b"/new")]).response(7)
    talk.request(9, [*REQUEST[:2], (b":authority", b"other"), (b":path", b"/new")]).response(9)
    wire = play(talk, Wire().opened(from_start=False, tls=TlsLibrary.OPENSSL), since=met)
    marked = [one.request.headers_incomplete for one in wire.exchanges]
    assert marked == [True, True, True, False]
    assert not any(one.response.headers_incomplete for one in wire.exchanges)
    assert blocks(wire) == (8, 3)


def test_a_block_with_a_gap_in_it_is_an_incomplete_one():
    wire = begun()
    head = frame(1, 5, 1, GET)
    wire.request(head[:12], lost=len(head) - 12)
    assert blocks(wire) == (1, 1)
    # Its table is lost: what refers to it is incomplete, what does not is not.
    wire.request(frame(1, 5, 3, b"\x82\x84\x87\xbe") + frame(1, 5, 5, b"\x82\x84\x87"))
    assert blocks(wire) == (3, 2)


def test_a_block_that_is_no_hpack_is_not_counted():
    wire = begun().request(frame(1, 5, 1, b"\xfe"))
    assert wire.counters.opaque_malformed == 1
    assert blocks(wire) == (0, 0)
