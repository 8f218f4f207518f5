"""Trace context of requests, and ids on which both ends of a connection agree."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.exchange import Exchange, Position, Role
from otel_tap.messages import Field
from otel_tap.telemetry import Identities
from tests.unit.test_telemetry_records import (
    PLAIN,
    WHOLE,
    at_server,
    exchange,
    records,
    request,
    response,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01".encode()

HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200


def carrying(*fields: Field, role: Role = Role.CLIENT) -> Exchange:
    observed = exchange(request(b"/", *fields), response())
    return observed if role is Role.CLIENT else at_server(observed)


def span_of(observed: Exchange, identities: Identities | None = None):
    span, log = records(observed, identities=identities)
    assert (log.trace_id, log.span_id, log.flags) == (
        span.trace_id,
        span.span_id,
        span.flags & 0xFF,
    )
    assert (len(span.trace_id), len(span.span_id)) == (16, 8)
    assert any(span.trace_id)
    assert any(span.span_id)
    assert span.span_id != span.parent_span_id
    return span


def meeting(*observed: Exchange) -> Identities:
    """Identities that have met the ends of these exchanges."""
    identities = Identities("boot")
    for one in observed:
        identities.client_ends.add(one.connection.iss, one.connection.irs)
    return identities


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{PARENT}-00".encode(), 0),
        (f"00-{TRACE}-{PARENT}-02".encode(), 2),
        (f"00-{TRACE}-{PARENT}-03".encode(), 3),
        (f"00-{TRACE}-{PARENT}-ff".encode(), 3),
        (f"00-{TRACE}-{PARENT}-08".encode(), 0),
        (f"01-{TRACE}-{PARENT}-01".encode(), 1),
        (f"cc-{TRACE}-{PARENT}-01".encode(), 1),
        (f"fe-{TRACE}-{PARENT}-01-".encode(), 1),
        (f"01-{TRACE}-{PARENT}-01-what-comes-later".encode(), 1),
        (f"01-{TRACE}-{PARENT}-01-\n".encode(), 1),
    ],
)
def test_a_valid_traceparent_is_honoured(header, flags):
    at_client = span_of(carrying((b"traceparent", header)))
    assert at_client.trace_id.hex() == TRACE
    assert at_client.parent_span_id.hex() == PARENT
    assert at_client.flags == flags | HAS_IS_REMOTE
    server = span_of(carrying((b"traceparent", header), role=Role.SERVER))
    assert server.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT
    assert server.flags == flags | HAS_IS_REMOTE | IS_REMOTE


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        f"ff-{TRACE}-{PARENT}-01".encode(),
        f"FF-{TRACE}-{PARENT}-01".encode(),
        f"0-{TRACE}-{PARENT}-01".encode(),
        f"000-{TRACE}-{PARENT}-01".encode(),
        f"0g-{TRACE}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}-01-".encode(),
        f"00-{TRACE}-{PARENT}-01-more".encode(),
        f"01-{TRACE}-{PARENT}-01more".encode(),
        f"01-{TRACE}-{PARENT}-01.".encode(),
        f"00-{TRACE.upper()}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT.upper()}-01".encode(),
        f"00-{TRACE}-{PARENT}-0A".encode(),
        f"00-{'0' * 32}-{PARENT}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE[1:]}-{PARENT}-01".encode(),
        f"00-{TRACE}a-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT[1:]}-01".encode(),
        f"00-{TRACE}-{PARENT}a-01".encode(),
        f"00-{TRACE}-{PARENT}-1".encode(),
        f"00-{TRACE}-{PARENT}-001".encode(),
        f"00-{TRACE}-{PARENT}-".encode(),
        f"00-{TRACE}-{PARENT}".encode(),
        f"00_{TRACE}_{PARENT}_01".encode(),
        f"00-{TRACE[:-1]}g-{PARENT}-01".encode(),
        f"00-{TRACE[:-1]} -{PARENT}-01".encode(),
        f".0-{TRACE}-{PARENT}-01".encode(),
        f" 00-{TRACE}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}-01\n".encode(),
        VALID + b"," + VALID,
        VALID.replace(b"0", b"\xd9\xa0"),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_an_invalid_traceparent_is_as_none(header, role):
    state = (b"tracestate", b"a=b")
    assert span_of(carrying((b"traceparent", header), state, role=role)) == span_of(
        carrying((b"traceparent", b"none"), role=role)
    )
    span = span_of(carrying((b"traceparent", header), state, role=role))
    assert (span.parent_span_id, span.trace_state, span.flags) == (b"", "", 1)


@pytest.mark.parametrize("role", list(Role))
def test_more_than_one_traceparent_is_as_none(role):
    other = f"00-{TRACE[::-1]}-{PARENT}-01".encode()
    for second in (VALID, other, b"broken"):
        fields = ((b"traceparent", VALID), (b"x", b"y"), (b"traceparent", second))
        assert span_of(carrying(*fields, role=role)).parent_span_id == b""


def test_other_repeated_fields_do_not_hurt_a_traceparent():
    fields = ((b"x", b"1"), (b"traceparent", VALID), (b"x", b"2"))
    assert span_of(carrying(*fields)).trace_id.hex() == TRACE


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], ""),
        ([b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ([b"a=1", b"b=2, c=3"], "a=1,b=2, c=3"),
        ([b""], ""),
        ([b"a=\xff"], ""),
        ([b"a=\x00"], ""),
        ([b"a=" + b"1" * 510], "a=" + "1" * 510),
        ([b"a=" + b"1" * 511], ""),
    ],
)
def test_a_tracestate_goes_with_its_traceparent(fields, expected):
    states = [(b"tracestate", value) for value in fields]
    for role in Role:
        assert (
            span_of(carrying((b"traceparent", VALID), *states, role=role)).trace_state == expected
        )
    assert span_of(carrying(*states)).trace_state == ""


def test_both_ends_of_an_exchange_are_one_trace():
    there, here = WHOLE, at_server(WHOLE)
    assert here.connection.irs == there.connection.iss + 1
    identities = meeting(there, here)
    client, server = span_of(there, identities), span_of(here, identities)
    assert server.trace_id == client.trace_id
    assert server.parent_span_id == client.span_id
    assert client.parent_span_id == b""
    assert client.flags == 1
    assert server.flags == 1 | HAS_IS_REMOTE | IS_REMOTE


def test_agents_that_see_one_end_each_agree():
    client = span_of(WHOLE, meeting(WHOLE))
    here = at_server(WHOLE)
    server = span_of(here, Identities("another host's boot"))
    assert server.trace_id == client.trace_id
    assert server.span_id != client.span_id
    assert server.parent_span_id == b""
    assert server.flags == 1


def test_a_server_has_no_parent_here_unless_its_client_was_met():
    here = at_server(WHOLE)
    assert span_of(here, meeting(here)).parent_span_id == b""
    elsewhere = replace(WHOLE, connection=replace(PLAIN, iss=PLAIN.iss + 1))
    assert span_of(here, meeting(elsewhere)).parent_span_id == b""
    assert span_of(here, meeting(WHOLE)).parent_span_id != b""


def test_the_client_span_stands_between_the_context_and_the_server():
    there = carrying((b"traceparent", VALID))
    here = at_server(there)
    identities = meeting(there)
    client, server = span_of(there, identities), span_of(here, identities)
    assert client.trace_id.hex() == server.trace_id.hex() == TRACE
    assert client.parent_span_id.hex() == PARENT
    assert server.parent_span_id == client.span_id


def test_sequence_numbers_wrap():
    there = exchange(request(), connection=replace(PLAIN, iss=0xFFFFFFFF, irs=7))
    here = at_server(there)
    assert here.connection.irs == 0
    identities = meeting(there)
    assert span_of(here, identities).parent_span_id == span_of(there, identities).span_id


@given(
    iss=st.integers(0, 2**32 - 1),
    irs=st.integers(1, 2**32 - 1),
    offset=st.integers(0, 2**64 - 1),
    kind=st.sampled_from(["tcp", "tls"]),
)
def test_both_ends_agree_whatever_their_numbers(iss, irs, offset, kind):
    connection = replace(PLAIN, iss=iss, irs=irs)
    there = replace(exchange(request(), connection=connection), position=Position(kind, offset))
    here = at_server(there)
    identities = meeting(there, here)
    client, server = span_of(there, identities), span_of(here, identities)
    assert (server.trace_id, server.parent_span_id) == (client.trace_id, client.span_id)
    assert server.span_id != client.span_id


def test_every_place_in_every_stream_has_ids_of_its_own():
    identities = Identities("boot")
    observed = [
        replace(exchange(request(), connection=connection), position=Position(kind, offset))
        for connection in (PLAIN, replace(PLAIN, iss=1), replace(PLAIN, irs=1))
        for kind in ("tcp", "tls")
        for offset in (0, 1, 2**40)
    ]
    spans = [span_of(one, identities) for one in observed]
    assert len({span.trace_id for span in spans}) == len(observed)
    assert len({span.span_id for span in spans}) == len(observed)
    again = [span_of(one, Identities("another boot")) for one in observed]
    assert [span.span_id for span in again] == [span.span_id for span in spans]


def test_what_is_remembered_of_connections_is_bounded_and_changes_nothing():
    identities = Identities("boot")
    first = [exchange(request(), connection=replace(PLAIN, iss=1 + iss)) for iss in range(5000)]
    for one in first:
        identities.of(one, {})
        assert len(identities._seeds) <= 4096
    for one in (first[0], first[-1]):
        assert identities.of(one, {}) == Identities("boot").of(one, {})


LONE = [
    exchange(request(), offset=None),
    exchange(request(), connection=replace(PLAIN, iss=0, irs=0)),
    exchange(request(), connection=replace(PLAIN, iss=0, irs=0), offset=None),
]


@pytest.mark.parametrize("lone", LONE)
def test_lone_exchanges_are_unique_even_when_all_else_is_equal(lone):
    identities = Identities("boot")
    spans = [span_of(lone, identities) for _ in range(50)]
    assert len({span.trace_id for span in spans}) == 50
    assert len({span.span_id for span in spans}) == 50
    assert {span.parent_span_id for span in spans} == {b""}
    assert span_of(lone, Identities("another boot")).trace_id != spans[0].trace_id


@pytest.mark.parametrize("lone", LONE)
def test_a_lone_server_exchange_has_no_parent_though_ends_were_met(lone):
    identities = meeting(lone, WHOLE)
    assert span_of(replace(lone, role=Role.SERVER), identities).parent_span_id == b""


def test_a_lone_exchange_honours_its_trace_context():
    lone = replace(carrying((b"traceparent", VALID)), position=Position("tcp", None))
    span = span_of(lone)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


def test_unknown_sequence_numbers_are_no_client_end():
    identities = Identities("boot")
    identities.client_ends.add(0, 0)
    unknown = replace(PLAIN, irs=1, iss=0)
    assert not identities.client_ends.has_client_of(unknown)


def test_client_ends_are_forgotten_oldest_first():
    ends = Identities("boot").client_ends
    for iss in range(1, 70_000):
        ends.add(iss, 5)
    assert ends.has_client_of(replace(PLAIN, irs=70_000, iss=5))
    assert not ends.has_client_of(replace(PLAIN, irs=2, iss=5))
