"""Attributes that depend on the connection, on settings and on what a message holds."""

from dataclasses import replace

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.exchange import GenAi, Role, Rpc
from otel_tap.messages import Body, EventStream
from otel_tap.telemetry import Identities, RecordEncoder, TelemetrySettings
from otel_tap.telemetry.names import LOG_ATTRIBUTES, OPT_IN_ATTRIBUTES, SPAN_ATTRIBUTES
from tests.unit.test_telemetry_records import (
    PLAIN,
    WHOLE,
    at_server,
    attributes_of,
    exchange,
    read,
    records,
    request,
    response,
)

ALL = frozenset(OPT_IN_ATTRIBUTES)


@pytest.mark.parametrize("role", list(Role))
def test_an_unknown_peer_is_not_said(role):
    unbound = replace(
        PLAIN, evidence=PeerEvidence.NONE, local=None, peer=None, tls=TlsLibrary.OPENSSL
    )
    found = attributes_of(exchange(request(), response(), role=role, connection=unbound))
    assert not {"network.peer.address", "network.peer.port", "client.address"} & set(found)
    assert found["otel_tap.peer.evidence"] == "unknown"
    assert found["otel_tap.tls.library"] == "openssl"
    assert found["server.address"] == "example.com"


def test_ipv6_peers_stand_without_brackets():
    peer = Address("2001:db8::7", 443)
    found = attributes_of(
        exchange(request(), role=Role.SERVER, connection=replace(PLAIN, peer=peer))
    )
    assert found["network.peer.address"] == found["client.address"] == "2001:db8::7"
    assert found["network.peer.port"] == 443


@pytest.mark.parametrize("evidence", list(PeerEvidence))
def test_evidence_is_said_in_its_own_word(evidence):
    connection = replace(PLAIN, evidence=evidence)
    found = attributes_of(exchange(request(), connection=connection))
    assert found["otel_tap.peer.evidence"] == evidence.value


def test_more_that_becomes_known_of_a_connection_is_said_from_then_on():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    unbound = replace(PLAIN, evidence=PeerEvidence.NONE, peer=None)
    peers = []
    for connection in (unbound, PLAIN, PLAIN, replace(PLAIN, peer=Address("192.0.2.9", 1))):
        encoded, _ = encoder.encode(exchange(request(), connection=connection))
        (span,) = ScopeSpans.FromString(encoded).spans
        peers.append(read(span.attributes).get("network.peer.address"))
    assert peers == [None, "198.51.100.7", "198.51.100.7", "192.0.2.9"]


def test_a_reused_connection_is_said():
    assert attributes_of(replace(WHOLE, reused=True))["otel_tap.connection.reused"] is True


def test_opt_in_attributes_at_the_client():
    sent = request(b"/p?q=1", (b"user-agent", b"a/1"), body=Body(b"", 11, truncated=False))
    answer = response(body=Body(b"", 22, truncated=False))
    by_default = attributes_of(exchange(sent, answer))
    found = attributes_of(exchange(sent, answer), attributes=ALL)
    assert {name: value for name, value in found.items() if name not in by_default} == {
        "http.request.body.size": 11,
        "http.request.size": 300,
        "http.response.body.size": 22,
        "http.response.size": 1000,
        "network.transport": "tcp",
        "url.path": "/p",
        "url.query": "q=1",
        "url.scheme": "http",
        "user_agent.original": "a/1",
    }


def test_opt_in_attributes_at_the_server():
    observed = at_server(exchange(request(b"/p?q=1"), response()))
    by_default = attributes_of(observed)
    found = attributes_of(observed, attributes=ALL)
    assert {name: value for name, value in found.items() if name not in by_default} == {
        "http.request.body.size": 0,
        "http.request.size": 300,
        "http.response.body.size": 0,
        "http.response.size": 1000,
        "network.transport": "tcp",
        "client.port": 50000,
    }


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_opt_in_attribute_is_asked_for_alone(name):
    observed = exchange(request(b"/p?q=1", (b"user-agent", b"a")), response())
    for one in (observed, at_server(observed)):
        by_default = set(attributes_of(one))
        found = set(attributes_of(one, attributes=frozenset({name})))
        assert found - by_default <= {name}
        assert name in found or (name == "client.port" and one.role is Role.CLIENT)


def test_the_port_of_a_proxy_is_not_the_port_of_the_client():
    observed = at_server(exchange(request(b"/", (b"x-forwarded-for", b"203.0.113.5"))))
    found = attributes_of(observed, attributes=frozenset({"client.port"}))
    assert found["client.address"] == "203.0.113.5"
    assert "client.port" not in found


def test_headers_become_attributes_only_when_they_are_allowed():
    sent = request(b"/", (b"x-tag", b"one"), (b"authorization", b"x"), (b"x-tag", b"two"))
    answer = response(200, (b"x-tag", b"three"), (b"etag", b"\xff"), (b"server", b"s"))
    found = attributes_of(
        exchange(sent, answer),
        request_headers=("x-tag", "absent"),
        response_headers=("etag", "x-tag"),
    )
    assert {name: value for name, value in found.items() if ".header." in name} == {
        "http.request.header.x-tag": ["one", "two"],
        "http.response.header.x-tag": ["three"],
        "http.response.header.etag": ["\ufffd"],
    }


def test_a_long_header_value_is_whole():
    for length in (0, 1, 127, 128, 255, 256, 16383, 16384, 70000):
        value = b"v" * length
        observed = exchange(request(b"/" + value, (b"x-long", value)), role=Role.SERVER)
        found = attributes_of(observed, request_headers=("x-long",))
        assert found["http.request.header.x-long"] == [value.decode()]
        assert found["url.path"] == "/" + value.decode()


def test_what_readers_may_differ_about_is_said_of_both_messages_and_only_where_there_is_any():
    odd = replace(request(b"/a", (b"host", b"other")), ambiguity=("bare_lf", "obs_fold"))
    answer = replace(response(), ambiguity=("obs_fold", "bare_cr"))
    for sent, got, said in (
        (odd, answer, ["bare_lf", "obs_fold", "repeated_host", "bare_cr"]),
        (request(), answer, ["obs_fold", "bare_cr"]),
        (request(b"/a", (b"accept", b"a"), (b"accept", b"b")), response(), None),
        (request(), None, None),
    ):
        assert attributes_of(exchange(sent, got)).get("otel_tap.http.ambiguity") == said


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16384, 2**32, 2**63 - 1])
def test_sizes_of_any_length_are_exact(size):
    answer = response(body=Body(b"", size, truncated=True))
    asked = frozenset({"http.response.body.size"})
    for _ in range(2):
        found = attributes_of(exchange(request(), answer), attributes=asked)
        assert found["http.response.body.size"] == size


EVERYTHING_OF_A_CALL = GenAi(
    "chat",
    "anthropic",
    "m",
    True,
    (
        *((name, 0.5) for name in ("temperature", "top_p", "top_k")),
        *((name, -0.5) for name in ("frequency_penalty", "presence_penalty")),
        *((name, -1) for name in ("max_tokens", "seed", "choice.count")),
    ),
    "m-1",
    "id-1",
    ("stop", "length"),
    tuple(
        (name, 1)
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read.input_tokens",
            "cache_creation.input_tokens",
            "reasoning.output_tokens",
        )
    ),
)


def test_no_attribute_leaves_that_names_does_not_list():
    observed = exchange(
        request(
            b"/p?q=1",
            (b"user-agent", b"a"),
            (b"host", b"example.com"),
            method=b"FOO",
            body=Body(b"x", 1, truncated=False),
        ),
        response(500, body=Body(b"y", 1, truncated=False), lost_bytes=1),
        connection=replace(PLAIN, tls=TlsLibrary.OPENSSL),
    )
    assert observed.response is not None
    calls = [
        replace(
            observed,
            genai=EVERYTHING_OF_A_CALL,
            response=replace(observed.response, events=events),
        )
        for events in (EventStream(3, 1, 2, ""), EventStream(None, 1, 0, "lost"))
    ]
    seen = set()
    call = Rpc(b"not a method", True, 3, 5, 1, 2, 3, 4)
    assert observed.request is not None
    unsure = replace(observed, request=replace(observed.request, headers_incomplete=True))
    for one in (observed, at_server(observed), replace(unsure, rpc=call), *calls):
        span, log = records(one, TelemetrySettings(attributes=ALL, bodies=True))
        assert set(read(span.attributes)) <= SPAN_ATTRIBUTES
        seen |= set(read(log.attributes))
    assert seen == LOG_ATTRIBUTES


def test_what_was_encoded_before_does_not_change_what_comes_later():
    encoder = RecordEncoder(TelemetrySettings(attributes=ALL), Identities("boot"), 0)
    first = WHOLE
    others = [
        replace(exchange(request(b"/%d" % n, host=b"h%d" % n), response(n)), connection=other)
        for n in range(100, 600)
        for other in (replace(PLAIN, connection_id=n, peer=Address(f"10.0.0.{n % 256}", n)),)
    ]
    before = ScopeSpans.FromString(encoder.encode(first)[0]).spans[0].attributes
    for one in others:
        encoder.encode(one)
    after = ScopeSpans.FromString(encoder.encode(first)[0]).spans[0].attributes
    assert read(before) == read(after)
