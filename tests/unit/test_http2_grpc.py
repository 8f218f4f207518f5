"""gRPC calls as HTTP/2 exchanges show them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.exchange import ExchangeError
from otel_tap.messages import UNKNOWN
from otel_tap.protocols.http2.grpc import Messages, TextMessages, form
from tests.unit.http2_talk import Talk, frame, play
from tests.unit.wire import Wire

CALL = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"h"),
    (b":path", b"/pkg.Greeter/Hello"),
    (b"content-type", b"application/grpc+proto"),
    (b"te", b"trailers"),
    (b"grpc-timeout", b"250m"),
]
ANSWER = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def message(content: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


def one_call(sent: bytes, got: bytes, status: bytes = b"0") -> Any:
    talk = Talk().begun().request(1, CALL, sent)
    talk.response(1, ANSWER, got, [(b"grpc-status", status)])
    return play(talk, Wire().opened()).exchanges[0]


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ([b"ask"], [b"answer"]),  # unary
        ([b"ask"], [b"one", b"", b"three"]),  # server streaming
        ([b"a", b"bc", b"def"], [b"sum"]),  # client streaming
        ([b"a", b"b"], [b"c", b"d", b"e"]),  # both
    ],
)
def test_messages_are_counted_in_both_directions(sent, got):
    call = one_call(b"".join(map(message, sent)), b"".join(map(message, got)), b"0").rpc
    assert (call.method, call.web, call.status) == (b"pkg.Greeter/Hello", False, 0)
    assert (call.request_messages, call.request_message_bytes) == (len(sent), len(b"".join(sent)))
    assert (call.response_messages, call.response_message_bytes) == (len(got), len(b"".join(got)))
    assert call.timeout_ns == 250_000_000


def test_a_call_that_fails_at_once_has_its_status_in_the_head():
    talk = Talk().begun().request(1, CALL, message(b"ask"))
    talk.response(1, [*ANSWER, (b"grpc-status", b"12")], None)
    (exchange,) = play(talk, Wire().opened()).exchanges
    assert exchange.rpc.status == 12
    assert exchange.rpc.response_messages == 0


def test_a_deadline_that_the_server_reports_is_its_status():
    assert one_call(message(b"ask"), b"", b"4").rpc.status == 4


def test_a_call_that_the_client_gives_up_has_no_status():
    talk = Talk().begun().request(1, CALL, message(b"ask"), ends=False)
    talk.response(1, ANSWER, message(b"first"), ends=False)
    talk.client.reset_stream(1, 8)
    talk.flush(talk.client)
    (exchange,) = play(talk, Wire().opened()).exchanges
    assert exchange.error is ExchangeError.CANCELLED
    assert exchange.rpc.status is None
    assert (exchange.rpc.request_messages, exchange.rpc.response_messages) == (1, 1)


def cancelled(
    after_ms: int,
    timeout: bytes = b"250m",
    *,
    by_client: bool = True,
    code: int = 8,
    wire: Wire | None = None,
    lost: int = 0,
) -> Any:
    """A call that is reset so long after its head, before a status."""
    head = [*CALL[:-1], (b"grpc-timeout", timeout)]
    talk = Talk().begun().request(1, head, message(b"ask"), ends=False)
    wire = play(talk, (wire or Wire()).opened())
    if lost:
        wire.response(b"", lost=lost)
    wire.later((after_ms - 2 - bool(lost)) * 1_000_000)  # each call takes one
    reset = frame(3, 0, 1, code.to_bytes(4))
    (wire.request if by_client else wire.response)(reset)
    (exchange,) = wire.exchanges
    assert exchange.end_ktime_ns - exchange.start_ktime_ns == after_ms * 1_000_000
    return exchange


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("by_client", [True, False])
def test_a_call_cancelled_behind_its_deadline_exceeded_it(client, by_client):
    exchange = cancelled(250, by_client=by_client, wire=Wire(client=client))
    assert exchange.error is ExchangeError.CANCELLED
    assert exchange.rpc.status == 4
    early = cancelled(249, by_client=by_client, wire=Wire(client=client))
    assert early.error is ExchangeError.CANCELLED
    assert early.rpc.status is None


@pytest.mark.parametrize(
    ("timeout", "shortest"),
    [
        (b"1S", 1000),
        (b"1010m", 1001),  # three digits: more may have been rounded away
        (b"2350m", 2341),
        (b"2351m", 2351),
        (b"2350001u", 2351),
        (b"5S", 4991),
        (b"10S", 9991),
        (b"12300m", 12_201),
        (b"12350m", 12_350),
    ],
)
def test_a_deadline_may_have_been_rounded_up_when_it_was_sent(timeout, shortest):
    patient = Wire(idle_timeout_ns=100_000_000_000)
    assert cancelled(shortest, timeout, wire=patient).rpc.status == 4
    patient = Wire(idle_timeout_ns=100_000_000_000)
    assert cancelled(shortest - 1, timeout, wire=patient).rpc.status is None


def test_a_cancelled_call_without_a_deadline_has_no_status():
    talk = Talk().begun().request(1, CALL[:-1], message(b"ask"), ends=False)
    wire = play(talk, Wire().opened()).later(300_000_000)
    wire.request(frame(3, 0, 1, b"\0\0\0\x08"))
    assert wire.exchanges[0].rpc.status is None


def test_what_else_happens_behind_a_deadline_does_not_prove_it_exceeded():
    assert cancelled(300, code=2).rpc.status is None  # INTERNAL_ERROR
    assert cancelled(300, code=7).rpc.status is None  # REFUSED_STREAM
    assert cancelled(300, lost=50).rpc.status is None  # a status may have been among them


def test_a_status_that_moved_is_not_replaced_by_a_deadline():
    talk = Talk().begun().request(1, CALL, message(b"ask"), ends=False)
    talk.response(1, [*ANSWER, (b"grpc-status", b"9")], None, ends=False)
    wire = play(talk, Wire().opened()).later(300_000_000)
    wire.request(frame(3, 0, 1, b"\0\0\0\x08"))
    assert wire.exchanges[0].rpc.status == 9
    talk = Talk().begun().request(1, CALL, message(b"ask"), ends=False)
    talk.response(1, ANSWER, message(b"all"), [(b"no-status", b"")])
    wire = play(talk, Wire().opened()).later(300_000_000)
    wire.request(frame(3, 0, 1, b"\0\0\0\x08"))
    assert wire.exchanges[0].rpc.status is None


@pytest.mark.parametrize("status", [b"", b"x", b"-1", b"100", b"\xb2"])
def test_a_status_that_is_no_number_is_no_status(status):
    assert one_call(b"", b"", status).rpc.status is None


def test_exchanges_of_other_content_types_are_no_calls():
    talk = Talk().begun().request(1).response(1)
    assert play(talk, Wire().opened()).exchanges[0].rpc is None
    for value in (b"application/grpcx", b"text/plain", b"application/json"):
        assert form(((b"content-type", value),)) is None
    for value in (b"application/grpc", b"application/grpc;a=b", b"application/grpc+json"):
        assert form(((b"content-type", value),)) is not None


def test_the_trailers_of_grpc_web_are_a_message_that_is_not_counted():
    web = [*ANSWER[:1], (b"content-type", b"application/grpc-web+proto")]
    talk = Talk().begun().request(1, [*CALL[:4], web[1]], message(b"ask"))
    trailers = message(b"grpc-status: 7\r\ngrpc-message: no\r\n", 0x80)
    talk.response(1, web, message(b"answer") + trailers)
    call = play(talk, Wire().opened()).exchanges[0].rpc
    assert (call.web, call.status) == (True, 7)
    assert (call.response_messages, call.response_message_bytes) == (1, 6)


WEB_CALL = [*CALL[:4], (b"content-type", b"application/grpc-web-text")]
WEB_ANSWER = [*ANSWER[:1], (b"content-type", b"application/grpc-web-text+proto")]
WEB_TRAILERS = message(b"grpc-status: 7\r\ngrpc-message: no\r\n", 0x80)


def counts(call: Any) -> tuple[object, ...]:
    return (
        call.status, call.request_messages, call.request_message_bytes,
        call.response_messages, call.response_message_bytes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (b64encode(message(b"one") + message(b"three") + WEB_TRAILERS), (7, 1, 3, 2, 8)),
        (b"".join(map(b64encode, (message(b"one"), WEB_TRAILERS))), (7, 1, 3, 1, 3)),
        (message(b"one") + WEB_TRAILERS, (None, 1, 3, None, None)),
    ],
)
def test_messages_of_grpc_web_in_text_are_counted(answer, known):
    talk = Talk().begun().request(1, WEB_CALL, b64encode(message(b"ask")))
    talk.response(1, WEB_ANSWER, answer)
    call = play(talk, Wire().opened()).exchanges[0].rpc
    assert call.web
    assert counts(call) == known


def test_a_binary_request_may_be_answered_in_text():
    sent = [*CALL[:4], (b"content-type", b"application/grpc-web")]
    talk = Talk().begun().request(1, sent, message(b"ask"))
    talk.response(1, WEB_ANSWER, b64encode(message(b"one") + WEB_TRAILERS))
    assert counts(play(talk, Wire().opened()).exchanges[0].rpc) == (7, 1, 3, 1, 3)


def test_a_loss_in_text_takes_the_counts():
    talk = Talk().begun().request(1, WEB_CALL, b64encode(message(b"ask")))
    wire = play(talk, Wire().opened())
    content = frame(0, 1, 1, b64encode(message(b"x" * 60) + WEB_TRAILERS))
    wire.response(frame(1, 4, 1, b"\x88\x0f\x10\x19application/grpc-web-text"))
    wire.response(content[:20], lost=8).response(content[28:])
    (exchange,) = wire.exchanges
    assert exchange.response.lost_bytes == 8
    assert counts(exchange.rpc) == (None, 1, 3, None, None)


def test_a_loss_inside_a_message_keeps_the_count_and_one_across_two_makes_it_unknown():
    def lost(at: int, count: int) -> Any:
        talk = Talk().begun().request(1, CALL, message(b"ask"))
        wire = play(talk, Wire().opened())
        content = frame(0, 0, 1, message(b"x" * 20) + message(b"y" * 20))
        wire.response(frame(1, 4, 1, b"\x88\x5f\x10application/grpc"))
        wire.response(content[:at], lost=count).response(content[at + count :])
        wire.response(frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"))
        return wire.exchanges[0]

    inside = lost(9 + 8, 10)
    assert (inside.rpc.response_messages, inside.rpc.response_message_bytes) == (2, 40)
    assert inside.response.lost_bytes == 10
    across = lost(9 + 8, 20)
    assert across.rpc.response_messages is None
    assert across.rpc.request_messages == 1
    assert across.rpc.status == 0


def test_a_call_whose_request_is_unknown_has_no_method():
    wire = play(Talk().begun(), Wire().opened())
    wire.response(frame(1, 4, 1, b"\x88\x5f\x10application/grpc") + frame(0, 1, 1, message(b"a")))
    wire.closed().later(2_000_000_000)
    (exchange,) = wire.exchanges
    assert exchange.rpc.method == UNKNOWN
    assert exchange.rpc.response_messages == 1


@given(st.lists(st.binary(max_size=20), max_size=8), st.data())
def test_messages_are_counted_alike_however_they_are_cut(contents, data):
    moved = b"".join(map(message, contents))
    counted = Messages()
    at = 0
    while at < len(moved):
        stop = data.draw(st.integers(at, len(moved)))
        counted.moved(moved, at, stop)
        at = max(stop, at)
    assert (counted.count, counted.size) == (len(contents), sum(map(len, contents)))


@given(st.lists(st.binary(max_size=20), max_size=8), st.data())
def test_messages_in_text_are_counted_alike_however_they_are_padded_and_cut(contents, data):
    moved = b"".join(map(message, contents))
    text = b""
    at = 0
    while at < len(moved):
        stop = data.draw(st.integers(at + 1, len(moved)))
        text += b64encode(moved[at:stop])
        at = stop
    counted = TextMessages()
    at = 0
    while at < len(text):
        stop = data.draw(st.integers(at, len(text)))
        counted.moved(text, at, stop)
        at = stop
    assert counted.exact
    assert (counted.count, counted.size) == (len(contents), sum(map(len, contents)))


@given(st.binary(max_size=80), st.integers(1, 80))
def test_any_bytes_under_the_name_of_text_are_counted_alike_however_they_are_cut(text, cut):
    whole, cuts = TextMessages(), TextMessages()
    whole.moved(text, 0, len(text))
    for at in range(0, len(text), cut):
        cuts.moved(text, at, min(len(text), at + cut))
    assert whole.exact == cuts.exact
    if whole.exact:
        assert (whole.count, whole.size) == (cuts.count, cuts.size)
        assert whole.last_trailers == cuts.last_trailers
