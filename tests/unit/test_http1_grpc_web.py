"""gRPC-Web calls over HTTP/1.1: counts, and the status that ends the content."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_http2_grpc import message
from tests.unit.test_telemetry_records import attributes_of
from tests.unit.wire import Wire

PATH = b"/pkg.Greeter/Hello"
WEB = b"application/grpc-web+proto"
TEXT = b"application/grpc-web-text+proto"
TRAILERS = b"grpc-status:5\r\ngrpc-message:gone\r\n"
ANSWER = message(b"one") + message(b"three") + message(TRAILERS, 0x80)


def post(content: bytes, kind: bytes = WEB, more: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
    return head % (PATH, kind, len(content), more) + content


def answer(content: bytes, kind: bytes = WEB, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
    return head % (kind, len(content), more) + content


def chunked(*chunks: bytes, kind: bytes = WEB) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
    return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in (*chunks, b""))


def facts(wire: Wire) -> tuple[object, ...]:
    (exchange,) = wire.exchanges
    call = exchange.rpc
    return (
        call.method, call.web, call.status, call.request_messages, call.request_message_bytes,
        call.response_messages, call.response_message_bytes,
    )  # fmt: skip


ALL = (b"pkg.Greeter/Hello", True, 5, 1, 3, 2, 8)


@pytest.mark.parametrize("limit", [0, 4, 65536])
@pytest.mark.parametrize("whole", [True, False])
def test_a_call_has_its_counts_and_status_whatever_is_kept_of_bodies(limit, whole):
    wire = Wire(body_limit=limit).opened().request(post(message(b"ask")))
    content = answer(ANSWER) if whole else chunked(ANSWER[:7], ANSWER[7:])
    assert facts(wire.response(content)) == ALL


@given(st.lists(st.integers(1, 400), max_size=8), st.booleans())
def test_pieces_make_no_difference(cuts, in_chunks):
    wire = Wire().opened()
    for send, data in (
        (wire.request, post(message(b"ask"))),
        (wire.response, chunked(ANSWER[:9], ANSWER[9:]) if in_chunks else answer(ANSWER)),
    ):
        places = sorted({cut for cut in cuts if cut < len(data)})
        for begin, end in zip([0, *places], [*places, len(data)], strict=True):
            send(data[begin:end])
    assert facts(wire) == ALL


def test_a_call_that_fails_at_once_has_its_status_in_the_head():
    wire = Wire().opened().request(post(message(b"ask")))
    wire.response(answer(b"", more=b"grpc-status: 12\r\n"))
    assert facts(wire)[2:] == (12, 1, 3, 0, 0)


def test_a_gap_inside_a_message_costs_no_count_and_one_across_messages_all():
    long = message(b"x" * 100)
    for lost, counts in ((50, (2, 103)), (150, (None, None))):
        wire = Wire().opened().request(post(message(b"ask")))
        data = answer(long + message(b"abc") + message(TRAILERS, 0x80))
        at = data.index(b"xxx") + 10
        wire.response(data[:at], lost=lost).response(data[at + lost :])
        assert facts(wire)[5:] == counts
        assert facts(wire)[2] == (5 if counts[0] else None)


@pytest.mark.parametrize("kept", range(len(TRAILERS)))
def test_trailers_that_are_not_whole_say_nothing(kept):
    """What is left of `grpc-status:12` may read as `grpc-status:1`."""
    trailers = b"grpc-message:gone\r\ngrpc-status:12"
    cut = min(kept, len(trailers) - 1)
    wire = Wire().opened().request(post(message(b"ask")))
    data = chunked(message(trailers, 0x80))
    wire.response(data[: data.index(trailers) + cut]).closed().later(2_000_000_000)
    assert facts(wire)[2] is None


def test_trailers_beyond_all_measure_are_not_kept():
    wire = Wire().opened().request(post(message(b"ask")))
    wire.response(answer(message(b"x" * 70_000 + b"\r\ngrpc-status:1\r\n", 0x80)))
    assert facts(wire)[2] is None


@pytest.mark.parametrize("kind", [WEB, TEXT])
def test_messages_that_cannot_be_seen_are_not_counted(kind):
    more = b"Content-Encoding: gzip\r\n"
    wire = Wire().opened().request(post(message(b"ask"), kind, more))
    assert facts(wire.response(answer(ANSWER, kind, more))) == (
        b"pkg.Greeter/Hello", True, None, None, None, None, None,
    )  # fmt: skip


def in_text(data: bytes, cuts: list[int]) -> bytes:
    """The text form of `data`: a piece up to each cut, padded as if it stood alone."""
    places = sorted({cut for cut in cuts if 0 < cut < len(data)})
    return b"".join(
        b64encode(data[begin:end])
        for begin, end in zip([0, *places], [*places, len(data)], strict=True)
    )


@pytest.mark.parametrize("cuts", [[], [1], [7, 9], [8, 18], list(range(len(ANSWER)))])
@pytest.mark.parametrize("whole", [True, False])
def test_messages_in_text_are_counted_however_its_pieces_are_padded(cuts, whole):
    asked = post(in_text(message(b"ask"), cuts), TEXT)
    text = in_text(ANSWER, cuts)
    got = answer(text, TEXT) if whole else chunked(text[:5], text[5:], kind=TEXT)
    assert facts(Wire().opened().request(asked).response(got)) == ALL


@given(
    st.lists(st.integers(1, 60), max_size=8),
    st.lists(st.integers(1, 400), max_size=8),
    st.booleans(),
)
def test_pieces_of_text_make_no_difference(pads, cuts, in_chunks):
    wire = Wire().opened()
    text = in_text(ANSWER, pads)
    got = chunked(text[:9], text[9:], kind=TEXT) if in_chunks else answer(text, TEXT)
    asked = post(in_text(message(b"ask"), pads), TEXT)
    for send, data in ((wire.request, asked), (wire.response, got)):
        places = sorted({cut for cut in cuts if cut < len(data)})
        for begin, end in zip([0, *places], [*places, len(data)], strict=True):
            send(data[begin:end])
    assert facts(wire) == ALL


@pytest.mark.parametrize("asks_in_text", [True, False])
def test_either_message_has_a_form_of_its_own(asks_in_text):
    text, binary = (b64encode(message(b"ask")), TEXT), (message(b"ask"), WEB)
    wire = Wire().opened().request(post(*(text if asks_in_text else binary)))
    wire.response(answer(ANSWER, WEB) if asks_in_text else answer(in_text(ANSWER, [9]), TEXT))
    assert facts(wire) == ALL


GOOD = b64encode(ANSWER)
NO_TEXT = [
    ANSWER,  # binary under the name of text
    b"*" + GOOD[1:],
    GOOD[:8] + b"====" + GOOD[8:],
    GOOD[:8] + b"A===" + GOOD[8:],
    GOOD[:8] + b"AA=A" + GOOD[8:],
    GOOD[:-4] + b"\xff\xfe\xfd\xfc",  # at the very end
    GOOD.replace(GOOD[8:12], b"\r\n\r\n"),
]


@pytest.mark.parametrize("text", NO_TEXT)
@pytest.mark.parametrize("step", [1, 3, 4, 1000])
def test_what_is_no_base64_is_not_counted(text, step):
    wire = Wire().opened().request(post(b64encode(message(b"ask")), TEXT))
    data = answer(text, TEXT)
    for at in range(0, len(data), step):
        wire.response(data[at : at + step])
    assert facts(wire) == (b"pkg.Greeter/Hello", True, None, 1, 3, None, None)


def test_a_request_that_is_no_base64_leaves_the_response_its_counts():
    wire = Wire().opened().request(post(message(b"ask"), TEXT))
    assert facts(wire.response(answer(in_text(ANSWER, [9]), TEXT)))[2:] == (5, None, None, 2, 8)


@pytest.mark.parametrize("lost", [1, 4, 50])
def test_a_loss_in_text_takes_the_counts_for_it_may_hide_padding(lost):
    """Even one inside a message, where binary loses nothing."""
    wire = Wire().opened().request(post(b64encode(message(b"ask")), TEXT))
    data = answer(in_text(message(b"x" * 100) + ANSWER, [30]), TEXT)
    at = data.index(b"\r\n\r\n") + 4 + 40
    wire.response(data[:at], lost=lost).response(data[at + lost :])
    assert facts(wire)[2:] == (None, 1, 3, None, None)


@pytest.mark.parametrize("kept", range(1, 9))
def test_text_that_ends_early_says_no_status(kept):
    """Up to three characters stand for nothing yet: `grpc-status:1` may go on."""
    text = b64encode(message(b"grpc-status:12", 0x80))
    wire = Wire().opened().request(post(b64encode(message(b"ask")), TEXT))
    wire.response(chunked(text[:-kept], kind=TEXT).removesuffix(b"0\r\n\r\n"))
    wire.closed().later(2_000_000_000)
    assert facts(wire)[2] is None


def test_text_with_an_odd_end_says_no_status():
    wire = Wire().opened().request(post(b64encode(message(b"ask")), TEXT))
    wire.response(answer(GOOD + b"AA", TEXT))
    assert facts(wire)[2] is None


def test_an_identity_coding_hides_nothing():
    wire = Wire().opened().request(post(message(b"ask"), more=b"Content-Encoding: identity\r\n"))
    assert facts(wire.response(answer(ANSWER))) == ALL


def test_what_is_no_call_is_none():
    wire = Wire().opened().request(post(b"application/grpc", b"text/plain"))
    wire.response(answer(b"application/grpc", b"text/plain"))
    (exchange,) = wire.exchanges
    assert exchange.rpc is None


def test_calls_take_turns_with_other_exchanges():
    wire = Wire().opened()
    for status in (b"0", b"16"):
        wire.request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wire.response(answer(b"page", b"text/html"))
        wire.request(post(message(b"ask")))
        wire.response(answer(message(b"grpc-status: " + status + b"\r\n", 0x80)))
    found = [None if one.rpc is None else one.rpc.status for one in wire.exchanges]
    assert found == [None, 0, None, 16]


def test_its_attributes_say_that_it_came_over_http_1():
    wire = Wire().opened().request(post(message(b"ask"))).response(answer(ANSWER))
    told = attributes_of(wire.exchanges[0])
    assert told["otel_tap.rpc.web"] is True
    assert told["rpc.response.status_code"] == told["error.type"] == "NOT_FOUND"
    assert told["network.protocol.version"] == "1.1"
