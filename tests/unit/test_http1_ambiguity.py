"""What two readers may read differently: every such thing has its word and its reading.

The table is that of RFC 9112: what a message looks like, the words for it, and what is read.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings

from otel_tap.exchange import ExchangeError
from otel_tap.protocols.http1 import ambiguity
from otel_tap.protocols.http1.ambiguity import ambiguity_of
from tests.unit.test_http1 import GET, OK
from tests.unit.test_http1_properties import conversations
from tests.unit.wire import Wire

SOURCE = Path(__file__).parents[2] / "otel_tap" / "protocols" / "http1" / "ambiguity.py"
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
CHUNKS = b"2\r\nab\r\n0\r\n\r\n"
TAIL = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"

READ = [
    # What is sent behind "POST / HTTP/1.1, Host: h", the words, the content that is read.
    (b"Content-Length: 2\r\n\r\nab", (), b"ab"),
    (b"Content-Length: 0\r\n\r\n", (), b""),
    (b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, (), b"ab"),
    (b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, (), b"ab"),
    (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        ("content_length_and_transfer_encoding",),
        b"ab",
    ),
    (
        b"Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n" + CHUNKS,
        ("bad_content_length", "content_length_and_transfer_encoding"),
        b"ab",
    ),
    (b"Content-Length: 2, 2\r\n\r\nab", ("repeated_content_length",), b"ab"),
    (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", ("repeated_content_length",), b"ab"),
    (
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        ("repeated_transfer_encoding",),
        b"ab",
    ),
    (
        b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab",
        ("bad_transfer_encoding", "content_length_and_transfer_encoding"),
        b"ab",
    ),
    (b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\nab", ("bad_transfer_encoding",), b"ab"),
    (b"X-A: 1\r\n 2\r\n\r\n", ("obs_fold",), b""),
    (b"X-A : 1\r\n\r\n", ("space_before_colon",), b""),
    (b"Host: other\r\n\r\n", ("repeated_host",), b""),
    (b"X-A: 1\nX-B: 2\r\n\r\n", ("bare_lf",), b""),
    (b"X-A: 1\r\n\n", ("bare_lf",), b""),
    (b"X-A: 1\rContent-Length: 2\r\n\r\n", ("bare_cr",), b""),
    (
        b"Transfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\n\r\n",
        ("space_in_chunk_size",),
        b"ab",
    ),
    (b"Transfer-Encoding: chunked\r\n\r\n 2\r\nab\r\n0\r\n\r\n", ("space_in_chunk_size",), b"ab"),
    (
        b"Transfer-Encoding: chunked\r\n\r\n2 ;e=1\r\nab\r\n0\r\n\r\n",
        ("space_in_chunk_size",),
        b"ab",
    ),
    (b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 30 + b"2\r\nab\r\n0\r\n\r\n", (), b"ab"),
    (b"Transfer-Encoding: chunked\r\n\r\n2;e=1\r\nab\r\n0;e\r\n\r\n", (), b"ab"),
    (b"Transfer-Encoding: chunked\r\n\r\n2;a\rb\r\nab\r\n0\r\n\r\n", ("bare_cr",), b"ab"),
    (b"Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n", ("bare_lf",), b"ab"),
    (b"Transfer-Encoding: chunked\r\n\r\n2;e\nab\r\n0\r\n\r\n", ("bare_lf",), b"ab"),
    (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\n0\r\n\r\n", ("bare_lf",), b"ab"),
    (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\n", ("bare_lf",), b"ab"),
    (
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nContent-Length: 9\r\n"
        b"Content-Length: 8\r\n\r\n",
        ("framing_in_trailers",),
        b"ab",
    ),
    (
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA : b\r\n\r\n",
        ("space_before_colon",),
        b"ab",
    ),
]

REFUSED = [
    (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", ("conflicting_content_length",)),
    (b"Content-Length: 1, 2\r\n\r\nab", ("conflicting_content_length",)),
    (b"Content-Length: +2\r\n\r\nab", ("bad_content_length",)),
    (b"Content-Length: \r\n\r\nab", ("bad_content_length",)),
    (b"Content-Length: 2,\r\n\r\nab", ("bad_content_length",)),
    (b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS, ("bad_transfer_encoding",)),
    (b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, ("bad_transfer_encoding",)),
    (b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS, ("bad_transfer_encoding",)),
    (b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS, ("bad_transfer_encoding",)),
    (b"Content-Length : 2\r\n\r\nab", ("space_before_colon",)),
    (b"Transfer-Encoding\t: chunked\r\n\r\n" + CHUNKS, ("space_before_colon",)),
    (b"Content-Length: 1\r\n 2\r\n\r\nab", ("obs_fold",)),
    (b"no colon\r\n\r\n", ("bad_field_line",)),
    (b"Host\r\n\r\n", ("bad_field_line",)),
    (b": b\r\n\r\n", ("bad_field_line",)),
    (b"a b: c\r\n X: y\r\n\r\n", ("bad_field_line", "obs_fold")),
    (b"Transfer-Encoding: chunked\r\n\r\nx\r\n", ("bad_chunk",)),
    (b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n", ("bad_chunk",)),
    (b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", ("bad_chunk",)),
    (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\r\n", ("bad_chunk",)),
    (b"Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n", ("bad_field_line",)),
]


def told(sent: bytes, size: int) -> Wire:
    """The request in calls of that many bytes; behind it, whole, one more request."""
    wire = Wire().opened()
    for at in range(0, len(sent), size):
        wire.request(sent[at : at + size])
    return wire.request(TAIL).response(OK).response(OK)


@pytest.mark.parametrize("size", [1000, 1])
@pytest.mark.parametrize(("behind", "words", "content"), READ)
def test_what_can_be_read_is_read_in_one_way_and_marked(behind, words, content, size):
    wire = told(POST + behind, size)
    first, second = wire.exchanges
    assert ambiguity_of(first) == words
    assert first.error is None
    assert first.request.body.content == content
    assert first.request.complete
    # Whoever reads another end finds another request behind it.
    assert second.request.target == b"/next"
    assert ambiguity_of(second) == ()
    assert not wire.opaque


@pytest.mark.parametrize("size", [1000, 1])
@pytest.mark.parametrize(("behind", "words"), REFUSED)
def test_what_nobody_can_say_the_end_of_is_malformed_and_marked(behind, words, size):
    wire = told(POST + behind, size)
    (exchange,) = wire.exchanges[:1]
    assert ambiguity_of(exchange) == words
    assert exchange.error is ExchangeError.MALFORMED
    assert not exchange.request.complete
    assert exchange.request.fields[0] == (b"host", b"h")
    assert exchange.response.status == 200  # what the peer made of it
    assert wire.opaque == [1]
    assert b"/next" not in [one.request.target for one in wire.exchanges if one.request]


def test_white_space_before_the_first_field_is_refused():
    wire = told(b"POST / HTTP/1.1\r\n Host: h\r\n\r\n", 1000)
    assert ambiguity_of(wire.exchanges[0]) == ("space_before_field",)
    assert wire.exchanges[0].error is ExchangeError.MALFORMED


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"GET /a b HTTP/1.1\r\n", ("space_in_target",)),
        (b"GET  /a HTTP/1.1\r\n", ("space_in_target",)),
        (b"GET /a HTTP/1.1\n", ("bare_lf",)),
        (b"GET /a\rb HTTP/1.1\r\n", ("bare_cr",)),
    ],
)
def test_an_odd_request_line_is_read_and_marked(line, words):
    wire = Wire().opened().request(GET).response(OK).request(line + b"Host: h\r\n\r\n").response(OK)
    assert ambiguity_of(wire.exchanges[1]) == words
    assert wire.exchanges[1].request.target == line[4 : line.index(b" HTTP")].strip()


@pytest.mark.parametrize(
    ("got", "words", "content"),
    [
        (b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", ("bare_lf",), b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", ("bare_lf",), b"ok"),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", ("obs_fold",), b"ok"),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
            ("transfer_encoding_in_http_1_0",),
            b"ab",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
            ("content_length_and_transfer_encoding",),
            b"ab",
        ),
    ],
)
def test_responses_are_marked_as_well(got, words, content):
    wire = Wire().opened().request(GET).response(got).request(GET).response(OK)
    first, second = wire.exchanges
    assert first.response.ambiguity == ambiguity_of(first) == words
    assert first.response.body.content == content
    assert (first.error, second.error, ambiguity_of(second)) == (None, None, ())


def test_a_response_whose_last_coding_is_not_chunked_lasts_until_the_end():
    wire = Wire().opened().request(GET)
    wire.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\nab")
    assert not wire.exchanges
    wire.closed().later(2_000_000_000)
    (exchange,) = wire.exchanges
    assert exchange.response.body.content == b"2\r\nab"
    assert ambiguity_of(exchange) == ("bad_transfer_encoding",)
    assert exchange.error is None


def test_nothing_of_an_odd_head_is_kept_for_the_heads_behind_it():
    wire = Wire().opened()
    for _ in range(3):
        wire.request(b"GET / HTTP/1.1\r\nX-A : 1\r\nX-B: 2\nX-C: 3\r\n\r\n")
        wire.response(b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n")
        wire.request(b"GET / HTTP/1.1\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n\r\n").response(OK)
    odd, clean = wire.exchanges[::2], wire.exchanges[1::2]
    assert {one.request.ambiguity for one in odd} == {("space_before_colon", "bare_lf")}
    assert {one.response.ambiguity for one in odd} == {("bare_lf",)}
    assert {one.request.fields for one in wire.exchanges} == {clean[0].request.fields}
    assert {ambiguity_of(one) for one in clean} == {()}


def test_a_secret_name_with_a_space_behind_it_is_still_a_secret_name():
    wire = Wire().opened().request(b"GET / HTTP/1.1\r\nAuthorization : s3cret\r\n\r\n").response(OK)
    assert wire.exchanges[0].request.fields == ((b"authorization", b"s3cret"),)
    assert not wire.connections._heads._lines


def test_requests_behind_a_declined_upgrade_are_read_wherever_calls_cut_them():
    upgrade = b"GET /up HTTP/1.1\r\nUpgrade: x\r\n\r\n"
    wire = Wire().opened().request(upgrade + TAIL).response(OK).response(OK)
    assert [one.request.target for one in wire.exchanges] == [b"/up", b"/next"]
    wire = Wire().opened().request(upgrade + TAIL[:5]).request(TAIL[5:]).response(OK)
    wire.request(GET).response(OK).response(b"HTTP/1.1 204 N\r\n\r\n").later(2_000_000_000)
    pairs = [(one.request.target, one.response.status) for one in wire.exchanges]
    assert pairs == [(b"/up", 200), (b"/next", 200), (b"/a", 204)]


@given(conversations(depths=(1, 2)))
@settings(deadline=None, max_examples=60)
def test_messages_in_good_order_are_not_ambiguous(batches):
    wire = Wire().opened()
    for batch in batches:
        wire.request(b"".join(pair[1] for pair in batch))
        wire.response(b"".join(pair[2] for pair in batch))
    assert {ambiguity_of(one) for one in wire.exchanges} == {()}


def test_every_word_has_its_reading_in_the_documentation():
    words = [
        value
        for name, value in vars(ambiguity).items()
        if name.isupper() and isinstance(value, str)
    ]
    assert len(words) == len(set(words)) == 18
    # Of the source: a compiled module has none.
    documentation = ast.get_docstring(ast.parse(SOURCE.read_text()))
    assert documentation is not None
    for word in words:
        assert f"\n{word} " in documentation
