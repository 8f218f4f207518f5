"""The short way of a turn to its records gives the very bytes of the long one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.events import Address, TlsLibrary
from otel_tap.messages import field_value
from otel_tap.privacy import RedactionSettings, Redactor
from otel_tap.protocols.http1.head import HeadParser
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, TelemetrySettings
from otel_tap.telemetry.names import OPT_IN_ATTRIBUTES
from otel_tap.turn import Turn
from tests.unit.test_telemetry_records import ORIGIN, all_records, read
from tests.unit.wire import Wire

VALID = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SERVER, CLIENT = Address("198.51.100.7", 8443), Address("192.0.2.1", 50000)

ODD_VALUES = [
    b"example.com", b"example.com:8080", b"user:s3cret@example.com", b"[::1]:80", b"h" * 300,
    b"curl/8", b"agent/" * 200, b"203.0.113.9", b"203.0.113.9, 10.0.0.1", b"https", b"unknown",
    VALID, VALID[:-1], VALID.upper(), b"a=b", b"\xc3\xa4", b"\xff",
]  # fmt: skip
ODD_TARGETS = [
    b"/a?b=c&page=7", b"/a?access_token=s3cret", b"/a%20b?c=%20", b"/u?a=b&%70assword=s3cret",
    b"/a%3Ftoken%3Ds3cret", b"/a;session=s3cret?b=c", b"//user:s3cret@host/?b", b"/" + b"a" * 1500,
    b"/?" + b"q" * 1100, b"/?", b"/", b"/\xc3\xa4?\xff",
]  # fmt: skip
values = st.one_of(st.binary(max_size=30), st.sampled_from(ODD_VALUES)).map(
    lambda value: value.translate(None, b"\r\n").strip(b" \t")
)
targets = st.one_of(
    st.binary(max_size=30).map(lambda target: b"/" + target.translate(None, b"\r\n ")),
    st.sampled_from(ODD_TARGETS),
)
names = st.sampled_from([
    b"Host", b"User-Agent", b"traceparent", b"tracestate", b"X-Other",
    b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto",
])  # fmt: skip
fields = st.dictionaries(names, values, max_size=6)
asked = st.builds(
    TelemetrySettings,
    attributes=st.sampled_from([frozenset(), frozenset(), frozenset(OPT_IN_ATTRIBUTES)]),
    request_headers=st.sampled_from([(), (), ("x-other",)]),
    known_methods=st.sampled_from([TelemetrySettings().known_methods, ("POST",)]),
    traces=st.booleans(),
    logs=st.booleans(),
)
rules = st.sampled_from(
    [
        RedactionSettings(),
        RedactionSettings(headers=("user-agent", "traceparent")),
        RedactionSettings(query_keys=("page",)),
        RedactionSettings(headers=("x-forwarded-for", "x-forwarded-host")),
    ]
)


class Compared:
    """Encodes each turn both ways, one after the other as they come."""

    def __init__(self, chosen: TelemetrySettings, redaction: RedactionSettings) -> None:
        self.ways = []
        for _ in range(2):
            identities = Identities("boot")
            identities.client_ends.add(998, 5000)  # of the connection below, as its client
            self.ways.append(RecordEncoder(chosen, identities, 10**18, Redactor(redaction)))
        self.turns = 0

    def __call__(self, turn: Turn) -> None:
        short, long = self.ways
        assert short.encode_turn(turn) == long.encode(turn.exchange())
        self.turns += 1


def talk(wire: Wire, heads: HeadParser | None = None, **facts: Any) -> Wire:
    """Opens the connection; all heads that are met are learned."""
    heads = heads or HeadParser()
    wire.connections._heads = heads
    for outlines in (heads.requests, heads.responses):
        outlines.looking = outlines._learning = 1000
    return wire.opened(**facts)


def head(start: bytes, lines: dict[bytes, bytes]) -> bytes:
    return b"\r\n".join([start, *(b"%b: %b" % line for line in lines.items()), b"", b""])


def ends(*, client: bool) -> dict[str, Any]:
    if client:
        return {"local": CLIENT, "peer": SERVER, "iss": 998, "irs": 5000}
    return {"local": SERVER, "peer": CLIENT, "iss": 5000, "irs": 999}


@given(
    st.lists(st.tuples(targets, fields), min_size=1, max_size=4),
    st.sampled_from([b"GET", b"HEAD"]),
    st.sampled_from([200, 404, 503]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(TlsLibrary),
    asked,
    rules,
)
@settings(deadline=None, max_examples=400)
def test_any_turn_is_encoded_as_its_exchange_is(
    requests, method, status, client, known, from_start, tls, chosen, redaction
):
    compared = Compared(chosen, redaction)
    facts = ends(client=client) if known else {}
    wire = Wire(client=client, body_limit=0, on_turn=compared)
    talk(wire, **facts, tls=tls, from_start=from_start)
    answer = head(b"HTTP/1.1 %d Reason" % status, {b"Content-Length": b"0"})
    wire.request(head(b"GET / HTTP/1.1", {b"X-First": b"1"})).response(answer)
    for _ in range(6):
        for target, lines in requests:
            wire.request(head(b"%b %b HTTP/1.1" % (method, target), lines)).response(answer)
    assert len(wire.exchanges) == 1 + 6 * len(requests)
    assert compared.turns >= sum(all(lines.values()) for _, lines in requests)


@pytest.mark.parametrize(
    "redaction", [RedactionSettings(), RedactionSettings(headers=("user-agent", "traceparent"))]
)
@pytest.mark.parametrize("client", [True, False])
def test_odd_targets_and_fields_of_turns_are_encoded_as_ever(client, redaction):
    compared = Compared(TelemetrySettings(), redaction)
    wire = talk(Wire(client=client, body_limit=0, on_turn=compared), **ends(client=client))
    answer = head(b"HTTP/1.1 200 OK", {b"Content-Length": b"0"})
    told = [(target, b"h", b"u", VALID) for target in ODD_TARGETS]
    told += [
        (b"/a", *fields)
        for value in ODD_VALUES
        for fields in ((value, b"u", VALID), (b"h", value, value))
    ]
    for target, host, agent, parent in [told[0], *told]:
        lines = {b"Host": host, b"User-Agent": agent, b"traceparent": parent}
        wire.request(head(b"GET %b HTTP/1.1" % target, lines)).response(answer)
    assert compared.turns == len(told) - 1  # the second one of an outline is learned


@pytest.mark.parametrize(
    "redaction", [RedactionSettings(), RedactionSettings(headers=("x-forwarded-for",))]
)
@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("tls", TlsLibrary)
def test_what_proxies_said_is_encoded_as_ever(client, tls, redaction):
    compared = Compared(TelemetrySettings(), redaction)
    wire = Wire(client=client, body_limit=0, on_turn=compared)
    talk(wire, **ends(client=client), tls=tls)
    answer = head(b"HTTP/1.1 200 OK", {b"Content-Length": b"0"})
    told = [
        (b"203.0.113.9", host, scheme)
        for host in (b"shop.example", b"shop.example:444", b"other.example")
        for scheme in (b"https", b"http", b"ftp", b"https, http")
    ]
    told += [
        hops
        for value in ODD_VALUES
        for hops in ((value, b"h", b"http"), (b"a", value, b"https"), (b"unknown", value, value))
    ]
    names = (b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto")
    turns = 0
    for chosen in (names, names[:1], names[1:2], names[2:], names[1:], names[:2], ()):
        for number, hops in enumerate([told[0], *told]):
            said = dict(zip(names, hops, strict=True))
            lines = {b"Host": b"h", b"User-Agent": b"u"} | {name: said[name] for name in chosen}
            target = b"/%d?b=c" % number
            wire.request(head(b"GET %b HTTP/1.1" % target, lines)).response(answer)
        turns += len(told) - (chosen == names)  # at first the answer's outline is learned, too
    assert compared.turns >= turns - 7


def test_a_turn_at_a_server_waits_for_the_client_s_end_on_this_host():
    chunks: list[Chunk] = []
    identities = Identities("boot")
    batcher = Batcher(RecordEncoder(TelemetrySettings(), identities, 10**18), chunks.append)
    turns = []

    def on_turn(turn: Turn) -> None:
        turns.append(turn.target)
        batcher.add_turn(turn, ORIGIN)

    heads = HeadParser()
    for round_trip in range(2):
        wire = Wire(client=False, body_limit=0, on_turn=on_turn)
        talk(wire, heads, **ends(client=False))
        for number in range(3):
            wire.request(head(b"GET /%d HTTP/1.1" % number, {b"Host": b"h"}))
            wire.response(head(b"HTTP/1.1 204 No", {}))
            if round_trip and number == 1:
                identities.client_ends.add(998, 5000)
            batcher.tick(wire.now)
    batcher.flush()
    spans = all_records(chunks[0])
    assert [bool(span.parent_span_id) for span in spans[-3:]] == [True] * 3
    assert turns[-3:] == [b"/0", b"/1", b"/2"]


def test_a_connection_whose_facts_become_known_has_them_in_its_next_records():
    compared = Compared(TelemetrySettings(), RedactionSettings())
    wire = talk(Wire(body_limit=0, on_turn=compared), tls=TlsLibrary.OPENSSL)
    get, answer = head(b"GET /a HTTP/1.1", {b"Host": b"h"}), head(b"HTTP/1.1 204 No", {})
    for _ in range(3):
        wire.request(get).response(answer)
    before = dict(wire.offsets)
    wire.opened(**ends(client=True), tls=TlsLibrary.OPENSSL, socket_id=7)
    wire.offsets = before  # it is the same connection
    for _ in range(3):
        wire.request(get).response(answer)
    assert compared.turns == 4


@pytest.mark.parametrize("client", [True, False])
def test_records_of_turns_go_through_the_batcher_like_those_of_exchanges(client):
    chunks: list[Chunk] = []
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 10**18)
    batcher = Batcher(encoder, chunks.append, max_records=4)

    def on_turn(turn: Turn) -> None:
        batcher.add_turn(turn, ORIGIN)

    wire = talk(Wire(client=client, body_limit=0, on_turn=on_turn), **ends(client=client))
    for number in range(200):
        wire.request(head(b"GET /%d HTTP/1.1" % number, {b"Host": b"h", b"X-Id": b"%d" % number}))
        wire.response(head(b"HTTP/1.1 200 OK", {b"Content-Length": b"2"}) + b"ok")
        batcher.tick(wire.now)
    batcher.flush()
    name = "url.full" if client else "url.path"
    for start in (0, 1):  # of spans, and of log records: the first two messages are no turn
        found = [record for chunk in chunks[start::2] for record in all_records(chunk)]
        paths = [read(record.attributes)[name].rpartition("/")[2] for record in found]
        assert sorted(map(int, paths)) == list(range(200))[-len(paths) :]
        assert len(paths) == 198


def test_what_is_kept_of_turns_holds_no_secret():
    chosen = TelemetrySettings()
    encoder = RecordEncoder(chosen, Identities("boot"), 0)
    wire = talk(Wire(body_limit=0, client=False, on_turn=encoder.encode_turn), **ends(client=False))
    lines = {b"Host": b"h", b"Authorization": b"s3cret", b"Cookie": b"s3cret", b"User-Agent": b"u"}
    for _ in range(4):
        wire.request(head(b"GET /s3cret?token=s3cret HTTP/1.1", lines))
        wire.response(head(b"HTTP/1.1 200 OK", {b"Content-Length": b"0", b"Set-Cookie": b"s3cret"}))
    assert field_value(wire.exchanges[-1].request.fields, b"cookie") == b"s3cret"
    for block in encoder._blocks.known.values():
        kept = [block.host, *block.attributes, *block.ends]
        kept += [part for common in block.shaped.values() for part in common]
        assert b"s3cret" not in b"".join(part for part in kept if part is not None)
    assert b"s3cret" not in repr(agents(encoder)).encode()


def test_nothing_that_is_redacted_is_remembered_of_turns():
    redactor = Redactor(RedactionSettings(headers=("user-agent", "x-forwarded-for")))
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0, redactor)
    wire = talk(Wire(body_limit=0, client=False, on_turn=encoder.encode_turn), **ends(client=False))
    for number in range(6):
        long = b"s3cret" * 5000 if number % 2 else b"s3cret"
        lines = {b"Host": b"h", b"User-Agent": long, b"X-Forwarded-For": long}
        wire.request(head(b"GET / HTTP/1.1", lines)).response(head(b"HTTP/1.1 204 No", {}))
    encode_turn: Any = encoder.encode_turn
    turns = encode_turn.__self__
    assert turns._agents == turns._hops == {}


def test_servers_that_proxies_name_are_bounded_though_no_shape_is_met():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    wire = talk(Wire(body_limit=0, client=False, on_turn=encoder.encode_turn), **ends(client=False))
    for number in range(4200):  # of a method that is not known
        lines = {b"Host": b"h", b"X-Forwarded-Host": b"h%d" % number}
        wire.request(head(b"FOO / HTTP/1.1", lines)).response(head(b"HTTP/1.1 204 No", {}))
        assert len(encoder._blocks._shaped) <= 4096


def test_both_ends_of_one_server_are_told_apart():
    compared = Compared(TelemetrySettings(), RedactionSettings())
    for client in (True, False):
        wire = talk(Wire(client=client, body_limit=0, on_turn=compared), **ends(client=client))
        for number in range(4):
            wire.request(head(b"GET /%d HTTP/1.1" % number, {b"Host": b"h"}))
            wire.response(head(b"HTTP/1.1 204 No", {}))
    assert compared.turns == 4


def test_what_is_kept_of_proxies_is_bounded():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    wire = talk(Wire(body_limit=0, client=False, on_turn=encoder.encode_turn), **ends(client=False))
    encode_turn: Any = encoder.encode_turn
    kept = encode_turn.__self__._hops
    for number in range(3000):
        said = b"h%d" % number if number % 3 else b"h" * (500 + number % 100)
        lines = {b"X-Forwarded-For": b"192.0.2.%d" % (number % 256), b"X-Forwarded-Host": said}
        wire.request(head(b"GET / HTTP/1.1", lines)).response(head(b"HTTP/1.1 204 No", {}))
        assert len(kept) <= 1024
    assert kept
    assert max(sum(len(part or b"") for part in hops) for hops in kept) <= 512
    assert len(encoder._blocks._shaped) <= 4096
    shaped: dict[Any, Any] = encoder._blocks._shaped
    servers = [authority.host for _, _, authority in shaped if authority]
    assert max(map(len, servers)) <= 255
    (block,) = encoder._blocks.known.values()
    assert block.behind is not None
    assert block.behind.behind is None


def agents(encoder: RecordEncoder) -> dict[bytes | None, tuple[bytes, bytes]]:
    encode_turn: Any = encoder.encode_turn
    kept: dict[bytes | None, tuple[bytes, bytes]] = encode_turn.__self__._agents
    return kept


def test_what_is_kept_of_user_agents_is_bounded():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    wire = talk(Wire(body_limit=0, client=False, on_turn=encoder.encode_turn), **ends(client=False))
    lengths = [60_000, 513, 512, *range(1, 400)]
    for length in lengths:
        wire.request(head(b"GET / HTTP/1.1", {b"User-Agent": b"u" * length}))
        wire.response(head(b"HTTP/1.1 204 No", {}))
        assert len(agents(encoder)) <= 256
        assert max((len(agent or b"") for agent in agents(encoder)), default=0) <= 512
    assert agents(encoder)
