"""What a reader sees of one exchange, and what never reaches their terminal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.cli import exchange_view
from otel_tap.cli.exchange_view import ExchangeView
from otel_tap.cli.terminal_text import safe, safe_bytes, short_duration, short_size
from otel_tap.content_coding import encoded
from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, ExchangeError, Position, Role, Rpc
from otel_tap.messages import UNKNOWN, UNKNOWN_FIELD, Body, Request, Response
from otel_tap.origin import Container, Host, Origin

HOST = Host("box", None, "boot", "amd64", "linux", "6.1")
ORIGIN = Origin(
    4242, 1, 1, 1, "curl", "/usr/bin/curl", "curl", None, "root", None, "shop", (), HOST
)
CONNECTION = Connection(
    1,
    4242,
    TlsLibrary.OPENSSL,
    PeerEvidence.SOCKET,
    Address("10.0.0.2", 50000),
    Address("2001:db8::1", 443),
    0,
    0,
    True,
)
REQUEST = Request(
    b"GET", b"/x", "1.1", ((b"host", b"example.org"),), (), Body(b"", 0, False), 50, 0, True
)
RESPONSE = Response(
    200,
    b"OK",
    "1.1",
    ((b"content-type", b"text/plain"),),
    (),
    Body(b"hi\n", 512, True),
    600,
    7,
    True,
)
EXCHANGE = Exchange(
    Role.CLIENT,
    CONNECTION,
    1,
    REQUEST,
    RESPONSE,
    1_000_000_000,
    1_000_000_000,
    1_010_000_000,
    1_012_000_000,
    1_012_000_000,
    True,
    Position("tcp", 0),
    None,
)
OFFSET_NS = 1_700_000_000_123_456_789


def view(exchange=EXCHANGE, origin=ORIGIN):
    return ExchangeView(exchange, origin, OFFSET_NS)


def test_a_line_has_time_process_arrow_method_url_status_duration_size_and_notes():
    time, rest = view().line().split(" ", 1)
    assert time.endswith(".123")
    assert rest == (
        "curl[4242] -> GET https://example.org/x 200 12 ms 512 B peer=[2001:db8::1]:443 lost=7B"
    )


def test_the_server_end_has_the_other_arrow_and_containers_are_named():
    origin = replace(ORIGIN, container=Container("ab" * 32, "docker", "pod-uid"))
    line = view(replace(EXCHANGE, role=Role.SERVER), origin).line()
    assert " <- GET " in line
    assert "container=abababababab pod=pod-uid" in line


def test_what_is_not_known_is_said():
    no_request = replace(EXCHANGE, request=None)
    assert " -> ? ? 200 " in view(no_request).line()
    broken = replace(EXCHANGE, response=None, error=ExchangeError.CONNECTION_RESET)
    assert " https://example.org/x - 12 ms - " in view(broken).line()
    assert "error=connection_reset" in view(broken).line()
    no_peer = replace(EXCHANGE, connection=replace(CONNECTION, peer=None))
    assert "peer" not in view(no_peer).line()
    assert ("peer", "unknown") in view(no_peer).details()


@pytest.mark.parametrize(
    ("target", "fields", "tls", "url"),
    [
        (b"/a?b=c", ((b"host", b"h:8080"),), TlsLibrary.NONE, "http://h:8080/a?b=c"),
        (b"http://other/a", ((b"host", b"h"),), TlsLibrary.NONE, "http://other/a"),
        (b"/a", (), TlsLibrary.OPENSSL, "/a"),
        (b"*", ((b"host", b"h"),), TlsLibrary.NONE, "*"),
        (b"h:443", ((b"host", b"h:443"),), TlsLibrary.NONE, "h:443"),
    ],
)
def test_the_url_is_built_only_from_what_was_sent(target, fields, tls, url):
    exchange = replace(
        EXCHANGE,
        request=replace(REQUEST, target=target, fields=fields),
        connection=replace(CONNECTION, tls=tls),
    )
    assert view(exchange).url == url


def test_the_json_object_has_the_documented_keys_and_no_other():
    shown = json.loads(view().json_line())
    for key in shown:
        assert key in exchange_view.__doc__
    assert shown["time"] == "2023-11-14T22:13:21.123456Z"
    assert shown["url"] == "https://example.org/x"
    assert shown["duration_ns"] == 12_000_000
    assert shown["peer"] == "[2001:db8::1]:443"
    assert shown["response_body"] == "hi\n"
    assert shown["request_body"] is None
    assert shown["truncated"] is True
    assert shown["request_headers"] == [["host", "example.org"]]
    empty = json.loads(view(replace(EXCHANGE, request=None, response=None)).json_line())
    assert empty["status"] is None
    assert empty.keys() == shown.keys()


def test_details_show_fields_and_the_content_line_by_line():
    details = view().details()
    assert ("host", "example.org") in details
    assert ("content-type", "text/plain") in details
    assert ("content", "512 B, not all captured") in details
    assert ("|", "hi") in details


def test_what_readers_may_differ_about_is_in_line_details_and_json():
    odd = replace(EXCHANGE, request=replace(REQUEST, ambiguity=("bare_lf", "obs_fold")))
    assert "ambiguity=bare_lf ambiguity=obs_fold" in view(odd).line()
    assert ("ambiguity", "bare_lf obs_fold") in view(odd).details()
    assert json.loads(view(odd).json_line())["ambiguity"] == ["bare_lf", "obs_fold"]
    assert json.loads(view().json_line())["ambiguity"] == []
    assert "ambiguity" not in view().line()
    assert "ambiguity" not in dict(view().details())


HOSTILE = b"\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\xc2\x9b1m\x00\x7f\xe2\x80\xae\xff"


def hostile():
    text = HOSTILE.decode("utf-8", "surrogateescape")
    exchange = replace(
        EXCHANGE,
        request=replace(
            REQUEST,
            method=HOSTILE,
            target=b"/" + HOSTILE,
            fields=((HOSTILE, HOSTILE), (b"host", HOSTILE)),
            trailers=((HOSTILE, HOSTILE),),
            body=Body(HOSTILE, 99, True),
        ),
        response=replace(RESPONSE, reason=HOSTILE),
    )
    origin = replace(
        ORIGIN,
        executable_name=text,
        executable_path=text,
        user=text,
        service_name=text,
        container=Container(text, text, text),
        host=replace(HOST, name=text),
    )
    return view(exchange, origin)


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd"])
def test_coded_content_is_shown_as_the_text_that_it_is(coding):
    content = encoded("grüße\n".encode("iso-8859-1"), (coding,))
    fields = (
        (b"content-type", b"text/plain; charset=iso-8859-1"),
        (b"content-encoding", coding),
    )
    response = replace(RESPONSE, fields=fields, body=Body(content, len(content), False))
    one = view(replace(EXCHANGE, response=response))
    assert json.loads(one.json_line())["response_body"] == "grüße\n"
    assert ("|", "grüße") in one.details()


def test_content_that_cannot_be_decoded_is_shown_as_it_moved():
    fields = ((b"content-encoding", b"gzip"),)
    response = replace(RESPONSE, fields=fields, body=Body(b"\xffx", 2, False))
    assert (
        json.loads(view(replace(EXCHANGE, response=response)).json_line())["response_body"]
        == "\\xffx"
    )


def test_no_control_character_of_a_watched_process_reaches_the_terminal():
    shown = hostile()
    assert shown.line().isprintable()
    assert all(name.isprintable() and value.isprintable() for name, value in shown.details())
    raw = shown.json_line()
    assert raw.isascii()
    assert raw.isprintable()
    assert r"\x1b]0;owned\x07" in shown.line()


@given(st.binary())
def test_any_bytes_become_printable_text(raw):
    assert safe_bytes(raw).isprintable()


@given(st.text())
def test_any_text_becomes_printable_and_printable_text_stays(text):
    assert safe(text).isprintable()
    assert safe(safe(text)) == safe(text)


def test_a_filter_wants_every_word_in_the_line():
    assert view().matches("")
    assert view().matches("curl example.org")
    assert view().matches("200")
    assert not view().matches("curl wget")


def test_durations_and_sizes_are_short():
    assert [short_duration(n) for n in (0, 350_000, 1_250_000, 12_000_000, 1_250_000_000)] == [
        "0 µs", "350 µs", "1.2 ms", "12 ms", "1.25 s",
    ]  # fmt: skip
    assert [short_size(n) for n in (0, 1023, 1536, 5 << 20, 3 << 30, 2 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB", "2.0 TiB",
    ]  # fmt: skip


def test_a_call_is_shown_by_its_status():
    called = replace(
        EXCHANGE,
        request=replace(REQUEST, method=b"POST", target=b"/pkg.S/M"),
        rpc=Rpc(b"pkg.S/M", False, 4, 1_500_000_000, 1, 2, None, None),
    )
    shown = view(called)
    assert " -> GRPC https://example.org/pkg.S/M DEADLINE_EXCEEDED 12 ms " in shown.line()
    assert json.loads(shown.json_line())["rpc"] == {
        "method": "pkg.S/M",
        "status": "DEADLINE_EXCEEDED",
        "web": False,
        "timeout_ns": 1_500_000_000,
        "request_messages": 1,
        "request_message_bytes": 2,
        "response_messages": None,
        "response_message_bytes": None,
    }
    details = shown.details()
    for row in (
        ("call", "pkg.S/M"),
        ("call status", "DEADLINE_EXCEEDED"),
        ("deadline", "1.5 s"),
        ("sent", "1 messages, 2 B"),
        ("", "POST https://example.org/pkg.S/M HTTP/1.1"),
        ("", "HTTP/1.1 200 OK"),
    ):
        assert row in details
    assert "answered" not in dict(details)
    assert called.rpc is not None
    unfinished = view(replace(called, rpc=replace(called.rpc, status=None)))
    assert " 200 12 ms " in unfinished.line()
    assert json.loads(unfinished.json_line())["rpc"]["status"] is None


def test_what_stands_for_the_unknown_is_no_value():
    fields = ((b"host", b"h"), UNKNOWN_FIELD)
    asked = replace(REQUEST, method=UNKNOWN, target=UNKNOWN, fields=fields, headers_incomplete=True)
    called = replace(EXCHANGE, request=asked, rpc=Rpc(b"/a?t=s", False, 0, *[None] * 5))
    shown = json.loads(view(called).json_line())
    assert shown["method"] is shown["url"] is shown["rpc"]["method"] is None
    assert shown["request_headers"] == [["host", "h"]]
    assert shown["headers_incomplete"] is True
