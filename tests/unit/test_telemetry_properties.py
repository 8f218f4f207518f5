"""Whatever bytes a peer sends, records decode, and what was said is in them.

1. Any bytes in methods, targets, hosts, fields and bodies give one span and one log record.
2. What redaction leaves of the message stands in them as Python decodes it with replacement, or as
   bytes.
3. What an encoder was given before changes nothing, and its memos stay bounded and free of secrets.
"""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.events import Address, TlsLibrary
from otel_tap.exchange import ExchangeError, Role
from otel_tap.messages import Body
from otel_tap.privacy import RedactionSettings, Redactor
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, TelemetrySettings
from otel_tap.telemetry.location import _authorities
from otel_tap.telemetry.names import OPT_IN_ATTRIBUTES
from tests.unit.attributes import attribute_names
from tests.unit.test_telemetry_records import (
    ORIGIN,
    PLAIN,
    all_records,
    exchange,
    read,
    records,
    request,
    response,
)

ALL = TelemetrySettings(
    request_headers=("x-any", "host"),
    response_headers=("x-any",),
    attributes=frozenset(OPT_IN_ATTRIBUTES),
    bodies=True,
)

REDACTOR = Redactor()

NAMES = st.sampled_from(
    [
        b"x-any", b"host", b"traceparent", b"tracestate", b"forwarded", b"x-forwarded-for",
        b"x-forwarded-host", b"x-forwarded-proto", b"user-agent", b"content-type",
        b"content-encoding",
    ]
)  # fmt: skip
HINTS = st.sampled_from(
    [
        b"gzip", b"deflate", b"text/plain; charset=utf-16", b"application/json", b"[::1]:80",
        b"for=1.2.3.4", b'for="[::1]";host=h;proto=https', b"https", b"h:80", b"http://h/a?b#c",
        b"*", b"/a?b", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", b"GET",
        b"CONNECT",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=40), HINTS, st.builds(bytes.__add__, HINTS, st.binary(max_size=3))
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
BODIES = st.builds(
    lambda content, more: Body(content, len(content) + more, truncated=more > 0),
    VALUES,
    st.integers(0, 3),
)


@st.composite
def exchanges(draw: Any):
    sent = draw(
        st.builds(
            lambda target, fields, method, body: request(
                target, *fields, method=method, host=None, body=body
            ),
            VALUES,
            FIELDS,
            VALUES,
            BODIES,
        )
    )
    answer = draw(
        st.builds(
            lambda status, fields, body, lost: response(
                status, *fields, body=body, lost_bytes=lost
            ),
            st.integers(0, 999),
            FIELDS,
            BODIES,
            st.integers(0, 2),
        )
    )
    connection = replace(
        PLAIN,
        connection_id=draw(st.integers(0, 3)),
        tls=draw(st.sampled_from(TlsLibrary)),
        peer=draw(st.sampled_from([None, Address("::1", 1), Address("10.0.0.1", 65535)])),
    )
    return exchange(
        draw(st.sampled_from([sent, sent, None])),
        draw(st.sampled_from([answer, answer, None])),
        role=draw(st.sampled_from(Role)),
        connection=connection,
        error=draw(st.sampled_from([None, *ExchangeError])),
        offset=draw(st.sampled_from([None, 0, 5])),
    )


def as_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


@given(exchanges())
def test_what_a_message_says_is_in_both_records(observed):
    span, log = records(observed, ALL)
    for found in (read(span.attributes), read(log.attributes)):
        sent, answer = observed.request, observed.response
        if sent is not None:
            known = as_text(sent.method) in TelemetrySettings().known_methods
            said = found["http.request.method" if known else "http.request.method_original"]
            assert said == as_text(sent.method)
            for name in ("x-any", "host"):
                values = [
                    as_text(REDACTOR.field(field, value))
                    for field, value in sent.fields
                    if field == name.encode()
                ]
                assert found.get(f"http.request.header.{name}", []) == values
            agents = [as_text(value) for field, value in sent.fields if field == b"user-agent"]
            assert found.get("user_agent.original") == (agents[0] if agents else None)
            assert found["http.request.body.size"] == sent.body.size
            if sent.target[:1] == b"/":
                path, _, query = REDACTOR.target(sent.target).partition(b"?")
                assert found["url.path"] == as_text(path)
                assert found.get("url.query", "") == as_text(query)
        if answer is not None:
            assert found["http.response.status_code"] == answer.status
            values = [as_text(value) for field, value in answer.fields if field == b"x-any"]
            assert found.get("http.response.header.x-any", []) == values
        peer = observed.connection.peer
        assert found.get("network.peer.address") == (None if peer is None else peer.host)
        assert ("error.type" in found) is (span.status.code == 2) is (log.severity_number > 9)


@given(exchanges())
def test_a_body_is_on_the_log_record_exactly_when_there_is_one(observed):
    _, log = records(observed, ALL)
    found = read(log.attributes)
    for name, message in (("request", observed.request), ("response", observed.response)):
        present = message is not None and REDACTOR.body(message.body, message.fields).content != b""
        assert (f"http.{name}.body.content" in found) is present


@given(st.lists(exchanges(), min_size=1, max_size=6))
def test_what_came_before_changes_nothing(several):
    chunks: list[Chunk] = []
    encoder = RecordEncoder(ALL, Identities("boot"), 0)
    batcher = Batcher(encoder, chunks.append)
    for one in several:
        batcher.add(one, ORIGIN)
    batcher.flush()
    assert batcher.failures == 0
    traces, logs = chunks
    spans = all_records(traces)
    found = sorted(str(sorted(read(span.attributes).items())) for span in spans)
    alone = [said_alone(one) for one in several]
    assert found == sorted(alone)
    assert len(all_records(logs)) == logs.record_count == len(several)


def said_alone(one) -> str:
    return str(sorted(read(records(one, ALL)[0].attributes).items()))


SECRET = b"hunter2"


def held_by(value: Any, seen: set[int]) -> bool:
    """Whether any object that can be reached from `value` holds the secret."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, bytes | str):
        return SECRET in (value if isinstance(value, bytes) else value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return any(held_by(one, seen) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(held_by(one, seen) for one in value)
    parts = [getattr(value, name, None) for name in attribute_names(type(value))]
    return any(held_by(one, seen) for one in (*parts, getattr(value, "__dict__", {})))


def test_no_memo_keeps_what_may_be_secret():
    encoder = RecordEncoder(ALL, Identities("boot"), 0)
    places = (
        request(b"/" + SECRET + b"?token=" + SECRET),
        request(b"http://u:" + SECRET + b"@h/" + SECRET),
        request(b"/", (b"x-any", SECRET), (b"user-agent", SECRET), (b"traceparent", SECRET)),
        request(b"/", host=b"u:" + SECRET + b"@h"),
        request(b"/", method=SECRET),
        request(b"/", body=Body(SECRET, 7, truncated=False)),
        request(SECRET),
    )
    answer = response(200, (b"x-any", SECRET), body=Body(SECRET, 7, truncated=False))
    for sent in places:
        for role in Role:
            _, log = encoder.encode(exchange(sent, answer, role=role))
            assert SECRET in log
    assert not held_by(encoder, set())
    assert not held_by(_authorities, set())
    assert held_by([{"a": (SECRET,)}], set())
    encoder._methods[SECRET] = "FOO"
    assert held_by(encoder, set())


def test_memos_are_bounded():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    for number in range(9000):
        connection = replace(PLAIN, connection_id=number)
        encoder.encode(exchange(request(host=b"h%d" % number), connection=connection))
    assert len(encoder._shapes._known) <= 4096
    assert len(encoder._blocks.known) <= 4096
    assert len(_authorities) <= 4096


LEAKING = st.sampled_from(
    [
        request(b"/a?b=1&token=" + SECRET),
        request(b"http://u:" + SECRET + b"@h/a"),
        request(b"/a/access_token=" + SECRET),
        request(b"/a?to=https%3A%2F%2Fx%2F%3Fapi_key%3D" + SECRET),
        request(b"/", host=b"u:" + SECRET + b"@h"),
        request(b"*", (b"x-forwarded-host", b"u:" + SECRET + b"@h")),
        request(b"/", (b"x-session", SECRET), (b"authorization", b"Bearer " + SECRET)),
        request(b"/", (b"cookie", SECRET), method=b"FOO"),
        request(b"/", body=Body(b'{"password":"' + SECRET + b'"}', 30, truncated=False)),
        None,
    ]
)
ANSWERS = st.sampled_from(
    [
        response(200, (b"set-cookie", SECRET), (b"location", b"/?sig=" + SECRET)),
        response(500, body=Body(b'{"api_key":"' + SECRET + b'"}', 30, truncated=False)),
        None,
    ]
)


@given(st.lists(st.tuples(LEAKING, ANSWERS, st.sampled_from(Role)), min_size=1, max_size=4))
@settings(deadline=None)  # libraries of content codings are loaded when one is met
def test_no_secret_leaves_whatever_is_asked_for(several):
    headers = ("cookie", "host", "x-session", "authorization", "x-forwarded-host")
    asked = TelemetrySettings(
        request_headers=headers,
        response_headers=("set-cookie", "location"),
        attributes=frozenset(OPT_IN_ATTRIBUTES),
        bodies=True,
    )
    encoder = RecordEncoder(asked, Identities("boot"), 0)
    for sent, answer, role in several:
        for record in encoder.encode(exchange(sent, answer, role=role)):
            assert record
            assert SECRET not in record
    assert not held_by(encoder, set())


def test_a_header_that_settings_declare_secret_is_neither_said_nor_used():
    context = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    sent = request(b"/a", context, (b"user-agent", SECRET), host=SECRET)
    redactor = Redactor(RedactionSettings(headers=("host", "User-Agent", "traceparent")))
    encoder = RecordEncoder(ALL, Identities("boot"), 0, redactor)
    for role in Role:
        span, log = encoder.encode(exchange(sent, role=role))
        assert SECRET not in span + log
        assert b"REDACTED" in span
        assert bytes.fromhex("00f067aa0ba902b7") not in span
    assert not held_by(encoder, set())
