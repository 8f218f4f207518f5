"""Server-Sent Events, as a stream and in the protocols that carry it."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.compiled import is_compiled
from otel_tap.messages import EventStream
from otel_tap.protocols.content import ContentSink
from otel_tap.protocols.reading import ContentReader, response_reader
from otel_tap.protocols.sse import EventCounter
from tests.unit.http2_talk import REQUEST, Talk, play
from tests.unit.wire import SECOND, Wire


def pieces_of(content: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    edges = [0, *cuts, len(content)]
    return [content[a:b] for a, b in pairwise(edges)]


def by_the_book(content: bytes) -> list[bytes]:
    """WHATWG HTML 9.2.6, step by step: the data of every event that is dispatched."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, _ = text.split(b"\n")
    events: list[bytes] = []
    data = b""
    for line in lines:
        if not line:
            if data:
                events.append(data.removesuffix(b"\n"))
            data = b""
            continue
        name, colon, value = line.partition(b":")
        if colon:
            value = value.removeprefix(b" ")
        if name == b"data":
            data += value + b"\n"
    return events


streams = st.lists(
    st.sampled_from(
        [b"data", b"data:", b"data: x", b"data:x", b"dat", b"datax: y", b": data: z", b"id: 1",
         b"event: a", b"retry", b"", b" data: x", b"Data: x", b"data : x", b"\xef\xbb\xbf",
         b"\n", b"\r", b"\r\n", b"\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"d", b"a", b"t", b" "]
    )
).map(b"".join)  # fmt: skip


@given(streams, st.data())
def test_events_are_those_of_the_standard_however_they_are_cut(content, data):
    counter = EventCounter()
    for now, piece in enumerate(pieces_of(content, data), start=1):
        counter.text(piece, now)
    expected = by_the_book(content)
    assert counter.count == len(expected)
    assert bool(counter.first_ktime_ns) == bool(expected)


@pytest.mark.skipif(is_compiled(), reason="a compiled class has no interpreted subclasses")
@given(streams, st.data())
def test_the_data_of_events_is_passed_on_however_it_is_cut(content, data):
    class Kept(ContentSink):
        def __init__(self) -> None:
            self.documents: list[bytes] = []
            self.now = b""

        def text(self, data: bytes, ktime_ns: int) -> None:
            self.now += data

        def document_ends(self) -> None:
            self.documents.append(self.now.removesuffix(b"\n"))
            self.now = b""

    kept = Kept()
    counter = EventCounter(kept)
    for piece in pieces_of(content, data):
        counter.text(piece, 1)
    assert kept.documents == by_the_book(content)


@given(st.binary(max_size=200), st.data())
def test_any_bytes_are_counted_the_same_in_pieces(content, data):
    counter = EventCounter()
    for piece in pieces_of(content, data):
        counter.text(piece, 1)
    assert counter.count == len(by_the_book(content))


def test_what_is_held_of_an_endless_line_is_nothing():
    counter = EventCounter()
    for _ in range(100):
        counter.text(b"x" * 100_000, 1)
        assert len(counter._head) < 10


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def events_of(wire: Wire) -> Any:
    (exchange,) = wire.exchanges
    return exchange.response.events


@pytest.mark.parametrize("body_limit", [0, 5, 1 << 20])
@pytest.mark.parametrize("client", [True, False])
def test_events_are_counted_as_they_flow_whatever_is_kept(client, body_limit):
    wire = Wire(client=client, body_limit=body_limit).opened().request(GET)
    wire.response(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    times = []
    for event in (b": hello\n\n", b"data: 1\n\n", b"data: 2\n", b"\n", b"data: 3\r\n\r\n"):
        wire.response(chunk(event))
        times.append(wire.now)
    wire.response(b"0\r\n\r\n")
    events = events_of(wire)
    assert events.count == 3
    assert events.unknown == ""
    assert times[0] < events.first_ktime_ns <= times[1] < times[3] < events.last_ktime_ns
    assert events.last_ktime_ns <= times[4]


def test_an_event_stream_of_known_length_in_one_call_is_counted_too():
    content = b"data: 1\n\ndata: 2\n\n"
    wire = Wire().opened().request(GET)
    wire.response(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    assert events_of(wire).count == 2


def test_any_other_response_has_none():
    content = b"data: 1\n\n"
    wire = Wire().opened().request(GET)
    head = HEAD.replace(b"text/event-stream", b"text/plain")
    wire.response(head + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    assert events_of(wire) is None


def test_a_gap_makes_the_count_unknown_and_keeps_the_first_event():
    content = b"data: 1\n\n"
    wire = Wire().opened().request(GET)
    wire.response(HEAD + b"Content-Length: 100\r\n\r\n" + content)
    wire.response(content, lost=82 - len(content))
    wire.response(content)
    events = events_of(wire)
    assert (events.count, events.unknown, events.last_ktime_ns) == (None, "lost", 0)
    assert events.first_ktime_ns


def test_a_stream_that_the_peer_ends_has_its_events():
    wire = Wire().opened().request(GET)
    wire.response(HEAD + b"\r\n").response(b"data: 1\n\ndata: 2\n\ndata: unfinished")
    wire.closed().later(2 * SECOND)
    assert events_of(wire).count == 2


def test_of_an_event_stream_nothing_is_spared():
    def spared(kind: bytes, coding: bytes = b"") -> bool:
        wire = Wire(body_limit=10).opened()
        head = HEAD.replace(b"text/event-stream", kind) + coding
        wire.request(GET).response(head + b"Content-Length: 10000000\r\n\r\n" + b"x" * 1000)
        wire.response(b"x" * 1000)
        return bool(wire.spared)

    assert spared(b"text/plain")
    assert not spared(b"text/event-stream")
    # What cannot be read needs no bytes either.
    assert spared(b"text/event-stream", b"Content-Encoding: compress\r\n")


def gzip_pieces(events: list[bytes]) -> list[bytes]:
    deflate = zlib.compressobj(wbits=31)
    pieces = [deflate.compress(event) + deflate.flush(zlib.Z_SYNC_FLUSH) for event in events]
    return [*pieces, deflate.flush()]


def brotli_pieces(events: list[bytes]) -> list[bytes]:
    compressor = brotli.Compressor()
    pieces = [compressor.process(event) + compressor.flush() for event in events]
    return [*pieces, compressor.finish()]


@pytest.mark.parametrize(
    ("coding", "coder"), [(b"gzip", gzip_pieces), (b"br", brotli_pieces)], ids=["gzip", "br"]
)
def test_coded_events_are_counted_when_they_move(coding, coder):
    wire = Wire().opened().request(GET)
    wire.response(HEAD + b"Content-Encoding: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % coding)
    times = []
    for piece in coder([b"data: %d\n\n" % number for number in range(5)]):
        wire.response(chunk(piece))
        times.append(wire.now)
    wire.response(b"0\r\n\r\n")
    events = events_of(wire)
    assert events.count == 5
    assert events.first_ktime_ns <= times[0] < times[3] < events.last_ktime_ns <= times[4]


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        (b"compress", b"data: 1\n\n"),
        (b"gzip", b"data: 1\n\n"),
        (b"gzip", gzip.compress(b"data: 1\n\n" * 2_000_000)),  # packs beyond what text packs to
    ],
)
def test_events_that_cannot_be_decoded_are_unknown(coding, content):
    fields = ((b"content-type", b"text/event-stream"), (b"content-encoding", coding))
    reader = response_reader(fields, None)
    assert isinstance(reader, ContentReader)
    reader.moved(content, 0, len(content), 1)
    events = reader.events()
    assert isinstance(events, EventStream)
    assert (events.count, events.unknown) == (None, "coding")


def test_events_of_an_http2_stream_are_counted():
    talk = Talk().begun()
    talk.client.send_headers(1, REQUEST, end_stream=True)
    talk.flush(talk.client)
    talk.server.send_headers(1, [(b":status", b"200"), (b"content-type", b"text/event-stream")])
    talk.flush(talk.server)
    for number in range(7):
        talk.server.send_data(1, b"data: %d\n\n" % number, end_stream=number == 6)
        talk.flush(talk.server)
    wire = play(talk, Wire(body_limit=0).opened())
    (exchange,) = wire.exchanges
    events = exchange.response.events
    assert events.count == 7
    assert exchange.start_ktime_ns < events.first_ktime_ns < events.last_ktime_ns
    assert events.last_ktime_ns <= exchange.end_ktime_ns


def test_an_empty_piece_between_cr_and_lf_is_no_line_end():
    counter = EventCounter()
    for piece in (b"data:x\r", b"", b"\n"):
        counter.text(piece, 1)
    assert counter.count == 0
    counter.text(b"\r\n", 2)
    assert counter.count == 1
