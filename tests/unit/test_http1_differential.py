"""Our reading of HTTP/1 against those of h11 and llhttp: the same, or the difference is listed.

Each request stands between two plain ones on one connection: readers that differ about its end
differ about the one behind it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from tests.unit.http1_readers import (
    REFUSED,
    Reading,
    h11_reads_requests,
    h11_reads_responses,
    llhttp_reads_requests,
    llhttp_reads_responses,
    we_read_requests,
    we_read_responses,
)
from tests.unit.test_http1_ambiguity import CHUNKS, READ
from tests.unit.test_http1_ambiguity import REFUSED as UNREADABLE
from tests.unit.test_http1_properties import conversations

FIRST = b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OLD = b"POST / HTTP/1.0\r\nHost: h\r\n"


def verdict(ours: Reading, theirs: Reading) -> str:
    """What another reader does with what we read."""
    if theirs == ours:
        return "same"
    if theirs[-1:] == [REFUSED]:
        return "takes" if len(theirs) > len(ours) else "refuses" if len(theirs) == 2 else "stops"
    if ours[-1:] == [REFUSED]:
        return "takes"
    if len(theirs) < len(ours) and theirs == ours[: len(theirs)]:
        return "stops"
    if [(start, body) for start, _, body, _ in theirs] == [(one[0], one[2]) for one in ours]:
        return "normalises"
    return "other"


MESSAGES = [
    *(POST + behind for behind, *_ in READ),
    *(POST + behind for behind, _ in UNREADABLE),
    b"POST / HTTP/1.1\r\n Host: h\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: h\r\n\r\n",
    b"GET /a\rb HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
    b"GET /\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\n\r\n" + GET + b"\r\n",
    GET + b"X: \x00\r\n\r\n",
    GET + b"X: \xff\r\n\r\n",
    GET + b"X\x00: a\r\n\r\n",
    GET + b"X:\r\n\r\n",
    GET + b"X:\t a \t\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    GET + b"Content-Length: 2\r\n\r\nab",
    GET + b"Connection: close\r\n\r\n",
    GET + b"Upgrade: x\r\n\r\n",
    GET + b"Upgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab",
    OLD + b"Content-Length: 2\r\n\r\nab",
    OLD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    POST + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKS,
    POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + CHUNKS,
    POST + b"Transfer-Encoding: chunked,\r\n\r\n" + CHUNKS,
    CHUNKED + b"fffffffffffffffff\r\n",
]

# (ours, h11, llhttp), why, and the messages of which it is so. `read` or `refused` says what we do;
# `same` that another reader does just that. What is in no row all three read, or refuse, alike.
DIFFERENCES: list[tuple[tuple[str, str, str], str, list[bytes]]] = [
    (
        ("read", "refuses", "refuses"),
        "framing that two readers may see differently: servers should refuse it, some do not; "
        "read by the letter of RFC 9112 and marked",
        [
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n" + CHUNKS,
            POST + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab",
            POST + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\nab",
            POST + b"Transfer-Encoding: chunked,\r\n\r\n" + CHUNKS,
            CHUNKED + b"2\r\nab\r\n0\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n",
        ],
    ),
    (
        ("read", "refuses", "refuses"),
        "white space and line ends that a server should refuse; read leniently and marked",
        [
            POST + b"X-A : 1\r\n\r\n",
            POST + b"X-A: 1\rContent-Length: 2\r\n\r\n",
            CHUNKED + b" 2\r\nab\r\n0\r\n\r\n",
            CHUNKED + b"2 ;e=1\r\nab\r\n0\r\n\r\n",
            CHUNKED + b"2\nab\r\n0\r\n\r\n",
            CHUNKED + b"2;e\nab\r\n0\r\n\r\n",
            CHUNKED + b"2\r\nab\n0\r\n\r\n",
            CHUNKED + b"2\r\nab\r\n0\r\nA : b\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a\rb HTTP/1.1\r\nHost: h\r\n\r\n",
        ],
    ),
    (
        ("read", "refuses", "refuses"),
        "characters that no name, value or target may have; they frame nothing, and are shown",
        [GET + b"X: \x00\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"],
    ),
    (
        ("read", "same", "refuses"),
        "llhttp bears neither folds, bare LF, spaces around sizes nor two kinds of framing; marked",
        [
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
            POST + b"X-A: 1\r\n 2\r\n\r\n",
            POST + b"X-A: 1\nX-B: 2\r\n\r\n",
            POST + b"X-A: 1\r\n\n",
            CHUNKED + b"2 \r\nab\r\n0\r\n\r\n",
            CHUNKED + b"2;a\rb\r\nab\r\n0\r\n\r\n",
            CHUNKED + b"2\r\nab\r\n0\r\n\n",
            b"GET /a HTTP/1.1\nHost: h\r\n\r\n",
        ],
    ),
    (
        ("read", "same", "refuses"),
        "llhttp has a list of methods",
        [b"get / HTTP/1.1\r\nHost: h\r\n\r\n", b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n"],
    ),
    (
        ("read", "refuses", "same"),
        "h11 knows one coding only, one Host and 20 digits, and no empty lines",
        [
            POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
            POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
            POST + b"Host: other\r\n\r\n",
            CHUNKED + b"0" * 30 + b"2\r\nab\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\r\n\r\n" + GET + b"\r\n",
        ],
    ),
    (
        ("read", "refuses", "same"),
        "h11 wants one space; RFC 9112 3 bears more, marked",
        [b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n"],
    ),
    (
        ("read", "normalises", "refuses"),
        "h11 gives one length where there were equal ones; kept as sent, and marked",
        [
            POST + b"Content-Length: 2, 2\r\n\r\nab",
            POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        ],
    ),
    (
        ("read", "normalises", "same"),
        "h11 gives the coding in lower case; kept as sent",
        [POST + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKS],
    ),
    (
        ("read", "stops", "stops"),
        "what follows a last request is nobody's: an observer still says that it was sent",
        [
            b"GET / HTTP/1.0\r\n\r\n",
            GET + b"Connection: close\r\n\r\n",
            OLD + b"Content-Length: 2\r\n\r\nab",
            OLD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        ],
    ),
    (
        ("read", "stops", "same"),
        "h11 does not keep connections of HTTP/1.0 alive",
        [b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"],
    ),
    (
        ("read", "same", "stops"),
        "llhttp takes every request to switch protocols as granted; the response decides",
        [
            GET + b"Upgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        ],
    ),
    (
        ("read", "other", "stops"),
        "h11 reads a content of CONNECT, which has none (RFC 9110 9.3.6)",
        [b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"],
    ),
    (
        ("refused", "takes", "same"),
        "h11 takes any 1.x, and chunks of 2**64 and more",
        [b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", CHUNKED + b"fffffffffffffffff\r\n"],
    ),
    (
        ("refused", "same", "takes"),
        "llhttp reads HTTP/0.9",
        [b"GET /\r\n\r\n"],
    ),
]
_LISTED = {message: said for said, _, messages in DIFFERENCES for message in messages}


def test_every_listed_difference_is_tried():
    assert set(_LISTED) <= set(MESSAGES)
    assert len(_LISTED) == sum(len(messages) for *_, messages in DIFFERENCES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_request_is_read_alike_or_the_difference_is_listed(message):
    data = FIRST + message + NEXT
    ours = we_read_requests(data)
    we = "refused" if ours[-1] == REFUSED else "read"
    theirs = [verdict(ours, read(data)) for read in (h11_reads_requests, llhttp_reads_requests)]
    assert (we, *theirs) == _LISTED.get(message, (we, "same", "same"))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESPONSES = [
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "same", "same"),
    (b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "same", "same"),
    (b"GET", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "same", "same"),
    (b"GET", b"HTTP/1.1 204 No\r\n\r\n", "same", "same"),
    (b"GET", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "same", "same"),
    (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "same", "same"),
    (b"GET", b"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", "same", "same"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "same", None),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "same", None),
    (b"GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "same", "same"),
    (b"GET", b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK, "same", "same"),
    (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, "same", "same"),
    # A content up to the end of the connection takes in what would be the next response.
    (b"GET", b"HTTP/1.1 200 OK\r\n\r\nuntil", "same", "stops"),  # llhttp is not told of the end
    (b"GET", b"HTTP/1.0 200 OK\r\n\r\nuntil", "same", "stops"),
    (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "refuses", "stops"),
    (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nx", "refuses", "stops"),
    # h11 ends after HTTP/1.0 and `close`, as a client does; a server that goes on is shown.
    (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "stops", "stops"),
    (
        b"GET",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        "stops",
        "same",
    ),
    (b"GET", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "same", "refuses"),
    (b"GET", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "same", "refuses"),
    (
        b"GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "same",
        "same",
    ),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok", "same", "same"),
    (b"GET", b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok", "refuses", "refuses"),
    (b"GET", b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\nok", "same", "same"),
]


@pytest.mark.parametrize(("method", "message", "h11", "llhttp"), RESPONSES)
def test_a_response_is_read_alike_or_the_difference_is_listed(method, message, h11, llhttp):
    data = OK + message + OK
    methods = [b"GET", method, b"GET"]
    ours = we_read_responses(data, methods)
    assert verdict(ours, h11_reads_responses(data, methods)) == h11
    if llhttp is not None:
        assert verdict(ours, llhttp_reads_responses(data)) == llhttp


def _known_to_llhttp(data: bytes) -> bytes:
    return data.replace(b"X-Odd /", b"PATCH /")


@given(conversations())
@settings(deadline=None, max_examples=150)
def test_llhttp_reads_the_same_messages_of_any_conversation(batches):
    flat = [pair for batch in batches for pair in batch]
    sent = _known_to_llhttp(b"".join(pair[1] for pair in flat))
    assert llhttp_reads_requests(sent) == we_read_requests(sent)
    answered = [pair for pair in flat if pair[0] != b"HEAD"]
    got = b"".join(pair[2] for pair in answered)
    methods: list[Any] = [b"GET"] * len(answered)
    assert llhttp_reads_responses(got) == we_read_responses(got, methods)
