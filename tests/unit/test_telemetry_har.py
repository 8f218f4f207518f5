"""HAR entries: what the specification demands, what a panel shows, nothing that is not known."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, ExchangeError, Position, Role, Rpc
from otel_tap.messages import EMPTY_BODY, UNKNOWN, Body, Request, Response
from otel_tap.privacy import Redactor
from otel_tap.telemetry.har import har_entry
from tests.unit.recordings import origin_of

SCHEMA = json.loads((Path(__file__).parent / "har-1.2.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
MS = 1_000_000
OFFSET = 1_700_000_000_000_000_000


def connection(**facts: Any) -> Connection:
    known: dict[str, Any] = {
        "connection_id": 77, "tgid": 7, "tls": TlsLibrary.OPENSSL,
        "evidence": PeerEvidence.NESTED_CALL, "local": Address("10.0.0.1", 5000),
        "peer": Address("192.0.2.9", 443), "iss": 0, "irs": 0, "from_start": True,
    }  # fmt: skip
    return Connection(**(known | facts))


def request(**facts: Any) -> Request:
    known: dict[str, Any] = {
        "method": b"GET", "target": b"/a?x=1&y=a%20b&z", "version": "1.1",
        "fields": ((b"host", b"example.org"),), "trailers": (), "body": EMPTY_BODY,
        "wire_size": 50, "lost_bytes": 0, "complete": True,
    }  # fmt: skip
    return Request(**(known | facts))


def response(**facts: Any) -> Response:
    known: dict[str, Any] = {
        "status": 200, "reason": b"OK", "version": "1.1",
        "fields": ((b"content-type", b"text/plain"),), "trailers": (),
        "body": Body(b"hello", 5, False), "wire_size": 60, "lost_bytes": 0, "complete": True,
    }  # fmt: skip
    return Response(**(known | facts))


def exchange(**facts: Any) -> Exchange:
    known: dict[str, Any] = {
        "role": Role.CLIENT, "connection": connection(), "tid": 8, "request": request(),
        "response": response(), "start_ktime_ns": 10 * MS, "request_end_ktime_ns": 12 * MS,
        "response_start_ktime_ns": 15 * MS, "end_ktime_ns": 20 * MS, "observed_ktime_ns": 20 * MS,
        "reused": False, "position": Position("tls", 0), "error": None,
    }  # fmt: skip
    return Exchange(**(known | facts))


def validated(one: Exchange, limit: int = 1000) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(json.dumps(har_entry(one, origin_of(7), OFFSET, limit)))
    archive = {
        "log": {"version": "1.2", "creator": {"name": "x", "version": "1"}, "entries": [entry]}
    }
    VALIDATOR.validate(archive)
    timings = entry["timings"]
    parts = [timings[name] for name in ("send", "wait", "receive")]
    assert entry["time"] == pytest.approx(sum(parts))
    return entry


def test_the_schema_refuses_what_is_no_archive():
    entry = har_entry(exchange(), origin_of(7), OFFSET, 1000)
    damages: list[dict[str, Any]] = [
        {"time": -5},
        {"request": {}},
        {"unknown": 1},
        {"startedDateTime": "now"},
    ]
    for damage in damages:
        log = {"version": "1.2", "creator": {"name": "x", "version": "1"}}
        assert not VALIDATOR.is_valid({"log": {**log, "entries": [{**entry, **damage}]}})


def test_an_entry_has_what_a_panel_shows():
    entry = validated(exchange())
    assert entry["startedDateTime"] == "2023-11-14T22:13:20.010000Z"
    assert entry["time"] == 10
    assert entry["timings"] == {
        "blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": 2, "wait": 3, "receive": 5,
    }  # fmt: skip
    assert entry["request"] == {
        "method": "GET",
        "url": "https://example.org/a?x=1&y=a%20b&z",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [{"name": "host", "value": "example.org"}],
        "queryString": [
            {"name": "x", "value": "1"},
            {"name": "y", "value": "a b"},
            {"name": "z", "value": ""},
        ],
        "headersSize": -1,
        "bodySize": 0,
    }
    assert entry["response"]["content"] == {"size": 5, "mimeType": "text/plain", "text": "hello"}
    assert entry["response"]["status"] == 200
    assert entry["serverIPAddress"] == "192.0.2.9"
    assert entry["connection"] == "77"
    assert entry["_otelTap"] == {
        "role": "client", "pid": 7, "process": "curl", "executable": "/usr/bin/curl",
        "user": "alice", "service": "unknown_service:curl", "host": "web-1",
        "container": "c" * 64, "local": "10.0.0.1:5000", "peer": "192.0.2.9:443",
        "peerEvidence": "nested_call", "tls": "openssl",
    }  # fmt: skip
    assert "comment" not in entry


def test_at_the_server_the_own_address_is_the_servers():
    entry = validated(exchange(role=Role.SERVER))
    assert entry["serverIPAddress"] == "10.0.0.1"
    assert entry["request"]["url"].startswith("https://example.org/a?")
    without_host = exchange(role=Role.SERVER, request=request(fields=()))
    assert validated(without_host)["request"]["url"].startswith("https://10.0.0.1:5000/a?")


def test_what_was_not_seen_is_said_and_not_made_up():
    entry = validated(exchange(response=None, error=ExchangeError.CONNECTION_RESET))
    assert entry["response"]["status"] == 0
    assert entry["_error"] == "connection_reset"
    assert entry["comment"] == "no response was seen"
    entry = validated(exchange(request=None, connection=connection(peer=None, local=None)))
    assert (entry["request"]["method"], entry["request"]["url"]) == ("?", "about:blank")
    assert entry["comment"] == "the request was not seen"
    assert "serverIPAddress" not in entry
    unknown = request(target=UNKNOWN, method=UNKNOWN, complete=False, lost_bytes=9)
    entry = validated(exchange(request=unknown))
    assert entry["request"]["url"] == "about:blank"
    assert entry["comment"] == "the end of the request was not seen; 9 bytes were not captured"


def test_a_body_that_was_not_kept_is_not_empty():
    content = validated(exchange(response=response(body=Body(b"", 70, True))))["response"]
    assert content["bodySize"] == content["content"]["size"] == 70
    assert "text" not in content["content"]
    assert content["content"]["comment"] == "70 bytes of content were not kept"


def test_binary_content_is_base64_and_what_is_cut_says_so():
    picture = bytes(range(256))
    fields = ((b"content-type", b"image/png"),)
    entry = validated(exchange(response=response(fields=fields, body=Body(picture, 256, False))))
    content = entry["response"]["content"]
    assert content["encoding"] == "base64"
    assert base64.b64decode(content["text"]) == picture
    entry = validated(
        exchange(response=response(fields=fields, body=Body(picture, 256, False))), limit=100
    )
    content = entry["response"]["content"]
    assert base64.b64decode(content["text"]) == picture[:100]
    assert content["comment"] == "truncated: 100 bytes are here"
    assert content["size"] == 256


def test_content_codings_are_removed_and_counted():
    packed = gzip.compress(b"0123456789" * 50)
    fields = ((b"content-type", b"text/plain"), (b"content-encoding", b"gzip"))
    whole = response(fields=fields, body=Body(packed, len(packed), False))
    content = validated(exchange(response=whole))["response"]["content"]
    assert content["text"] == "0123456789" * 50
    assert content["size"] == 500
    assert content["compression"] == 500 - len(packed)
    other = ((b"content-type", b"text/plain"), (b"content-encoding", b"x-own"))
    kept = response(fields=other, body=Body(packed, len(packed), False))
    content = validated(exchange(response=kept))["response"]["content"]
    assert base64.b64decode(content["text"]) == packed
    assert content["comment"] == "still in its content coding x-own"


def test_what_was_sent_is_post_data():
    form = ((b"host", b"example.org"), (b"content-type", b"application/x-www-form-urlencoded"))
    sent = request(method=b"POST", fields=form, body=Body(b"q=3", 3, False))
    assert validated(exchange(request=sent))["request"]["postData"] == {
        "mimeType": "application/x-www-form-urlencoded",
        "params": [],
        "text": "q=3",
    }
    sent = request(method=b"PUT", body=Body(b"\xff\x00", 2, False))
    data = validated(exchange(request=sent))["request"]["postData"]
    assert (data["text"], data["_encoding"]) == ("/wA=", "base64")


def test_cookies_are_taken_apart_unless_they_were_redacted():
    fields = ((b"host", b"example.org"), (b"cookie", b"a=1; b=2=3; ; c"))
    set_cookies = (
        (b"set-cookie", b"id=7; Path=/; Domain=example.org; Secure; HttpOnly; "
                        b"Expires=Wed, 21 Oct 2026 07:28:00 GMT; SameSite=Lax"),
        (b"set-cookie", b"x; Expires=never"),
        (b"set-cookie", b"REDACTED"),
    )  # fmt: skip
    entry = validated(
        exchange(request=request(fields=fields), response=response(fields=set_cookies))
    )
    assert [(c["name"], c["value"]) for c in entry["request"]["cookies"]] == [
        ("a", "1"), ("b", "2=3"), ("c", ""),
    ]  # fmt: skip
    assert entry["response"]["cookies"] == [
        {
            "name": "id", "value": "7", "path": "/", "domain": "example.org", "secure": True,
            "httpOnly": True, "expires": "2026-10-21T07:28:00+00:00",
        },
        {"name": "x", "value": ""},
    ]  # fmt: skip
    redacted = Redactor().redact(exchange(request=request(fields=fields)))
    assert validated(redacted)["request"]["cookies"] == []


def test_rpcs_and_versions_have_their_names():
    rpc = Rpc(b"shop.Orders/Get", False, 5, None, 1, 2, 1, 2)
    entry = validated(exchange(rpc=rpc, request=request(version="2")))
    assert entry["request"]["httpVersion"] == "HTTP/2"
    assert entry["_otelTap"]["rpcMethod"] == "shop.Orders/Get"
    assert entry["_otelTap"]["rpcStatus"] == 5


field_list = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"host",
                b"cookie",
                b"set-cookie",
                b"content-type",
                b"content-encoding",
                b"location",
                b"x",
            ]
        ),
        st.binary(max_size=60),
    ),
    max_size=6,
).map(tuple)
bodies = st.builds(
    lambda content, more: Body(content, len(content) + more, more > 0),
    st.binary(max_size=200),
    st.integers(0, 3),
)
times = st.one_of(st.just(0), st.integers(0, 2**63))


@given(
    target=st.one_of(st.just(b"*"), st.just(UNKNOWN), st.binary(min_size=1, max_size=80)),
    method=st.binary(min_size=1, max_size=10),
    fields=field_list,
    body=bodies,
    status=st.integers(-1, 999),
    moments=st.tuples(times, times, times, times),
    role=st.sampled_from(Role),
    limit=st.integers(0, 300),
)
def test_anything_that_moved_is_a_valid_entry(
    target, method, fields, body, status, moments, role, limit
):
    start, sent, first, end = moments
    one = exchange(
        role=role,
        request=request(target=target, method=method, fields=fields, body=body),
        response=response(status=status, reason=method, fields=fields, body=body),
        start_ktime_ns=start,
        request_end_ktime_ns=sent,
        response_start_ktime_ns=first,
        end_ktime_ns=end,
    )
    validated(one, limit)
