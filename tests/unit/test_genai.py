"""Calls of generative models: recognised by evidence, read in any pieces, nothing kept."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.compiled import is_compiled
from otel_tap.exchange import GenAi
from otel_tap.genai import GenAiRules
from otel_tap.genai.call import Call
from otel_tap.genai.interfaces import interface_of
from otel_tap.genai.json_scan import JsonScan, Scalar
from otel_tap.protocols.sse import EventCounter
from tests.unit.http2_talk import Talk, play
from tests.unit.test_sse import pieces_of
from tests.unit.test_telemetry_records import at_server, attributes_of, records
from tests.unit.wire import Wire

PROMPT = "the prompt nobody may see"
ANSWER = "the answer nobody may see"


def sse(*documents: Any, end: str = "") -> bytes:
    events = "".join(f"data: {json.dumps(document)}\n\n" for document in documents)
    return (events + end).encode()


CHAT = {
    "messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
    "model": "gpt-4o-mini",
    "max_completion_tokens": 100,
    "temperature": 0.5,
    "top_p": 1,
    "n": 2,
    "seed": -7,
}
CHAT_USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 34,
    "total_tokens": 46,
    "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
CHAT_SAID = GenAi(
    "chat",
    "openai",
    "gpt-4o-mini",
    False,
    (
        ("max_tokens", 100),
        ("temperature", 0.5),
        ("top_p", 1.0),
        ("choice.count", 2),
        ("seed", -7),
    ),
    "gpt-4o-mini-2024-07-18",
    "chatcmpl-1",
    ("stop", "length"),
    (
        ("input_tokens", 12),
        ("output_tokens", 34),
        ("cache_read.input_tokens", 5),
        ("reasoning.output_tokens", 3),
    ),
)
CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"},
        {"index": 1, "message": {"content": ANSWER}, "finish_reason": "length"},
    ],
    "usage": CHAT_USAGE,
}


def piece(index: int | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choices = []
    if index is not None:
        choices = [{"index": index, "delta": {"content": ANSWER}, "finish_reason": reason}]
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk",
        "model": "gpt-4o-mini-2024-07-18", "choices": choices, "usage": None, **more,
    }  # fmt: skip


CHAT_STREAM = sse(
    piece(0), piece(1), piece(1, "length"), piece(0), piece(0, "stop"),
    piece(None, usage=CHAT_USAGE),
    end="data: [DONE]\n\n",
)  # fmt: skip

RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "model": "gpt-5", "status": "in_progress",
    "output": [], "usage": None,
}  # fmt: skip
RESPONSE_DONE = RESPONSE | {
    "output": [{"content": [{"text": ANSWER}]}],
    "usage": {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0},
              "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}},
}  # fmt: skip
ANTHROPIC = {
    "model": "claude-x", "max_tokens": 9, "top_k": 3, "messages": [{"content": PROMPT}],
}  # fmt: skip
ANTHROPIC_STREAM = sse(
    {"type": "message_start", "message": {
        "id": "msg_1", "model": "claude-x-1", "stop_reason": None, "content": [],
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 4,
                  "cache_creation_input_tokens": 1, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ANSWER}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
    {"type": "message_stop"},
)  # fmt: skip
ANTHROPIC_SAID = GenAi(
    "chat", "anthropic", "claude-x", True, (("max_tokens", 9), ("top_k", 3.0)),
    "claude-x-1", "msg_1", ("end_turn",),
    (("input_tokens", 15), ("output_tokens", 50), ("cache_read.input_tokens", 4),
     ("cache_creation.input_tokens", 1)),
)  # fmt: skip
OLLAMA_STREAM = b"".join(
    json.dumps(document).encode() + b"\n"
    for document in (
        {"model": "llama3.2", "message": {"content": ANSWER}, "done": False},
        {"model": "llama3.2", "message": {"content": ""}, "done": True, "done_reason": "stop",
         "prompt_eval_count": 26, "eval_count": 298},
    )
)  # fmt: skip

# What each interface asks, answers, and what is said of it.
CALLS: dict[str, tuple[bytes, Any, bytes, GenAi]] = {
    "chat": (b"/v1/chat/completions", CHAT, json.dumps(CHAT_ANSWER).encode(), CHAT_SAID),
    "chat, streamed": (
        b"/v1/chat/completions?x=1",
        CHAT | {"stream": True},
        CHAT_STREAM,
        replace(CHAT_SAID, stream=True),
    ),
    "completions at Azure, without a model": (
        b"/openai/deployments/mine/completions?api-version=1",
        {"prompt": PROMPT * 100, "max_tokens": 5},
        json.dumps({"id": "c", "model": "m", "choices": [{"text": ANSWER, "index": 0,
                    "finish_reason": "stop"}]}).encode(),
        GenAi("text_completion", "azure.ai.openai", None, False, (("max_tokens", 5),), "m", "c",
              ("stop",), ()),
    ),
    "embeddings": (
        b"/v1/embeddings",
        {"model": "text-embedding-3-small", "input": [PROMPT] * 50},
        json.dumps({"object": "list", "model": "text-embedding-3-small", "data": [
            {"embedding": [0.1, -2e-3] * 5000}], "usage": {"prompt_tokens": 8}}).encode(),
        GenAi("embeddings", "openai", "text-embedding-3-small", False, (),
              "text-embedding-3-small", None, (), (("input_tokens", 8),)),
    ),
    "responses": (
        b"/v1/responses",
        {"model": "gpt-5", "input": PROMPT, "max_output_tokens": 4},
        json.dumps(RESPONSE_DONE).encode(),
        GenAi("chat", "openai", "gpt-5", False, (("max_tokens", 4),), "gpt-5", "resp_1", (),
              (("input_tokens", 1), ("output_tokens", 2), ("cache_read.input_tokens", 0),
               ("reasoning.output_tokens", 0))),
    ),
    "responses, streamed": (
        b"/v1/responses",
        {"model": "gpt-5", "input": PROMPT, "stream": True},
        sse({"type": "response.created", "response": RESPONSE},
            {"type": "response.output_text.delta", "delta": ANSWER},
            {"type": "response.completed", "response": RESPONSE_DONE}),
        GenAi("chat", "openai", "gpt-5", True, (), "gpt-5", "resp_1", (),
              (("input_tokens", 1), ("output_tokens", 2), ("cache_read.input_tokens", 0),
               ("reasoning.output_tokens", 0))),
    ),
    "messages, streamed": (
        b"/v1/messages", ANTHROPIC | {"stream": True}, ANTHROPIC_STREAM, ANTHROPIC_SAID,
    ),
    "Ollama's chat, streamed unasked": (
        b"/api/chat",
        {"model": "llama3.2", "messages": [{"content": PROMPT}],
         "options": {"temperature": 0, "seed": 1, "num_predict": 64}},
        OLLAMA_STREAM,
        GenAi("chat", "ollama", "llama3.2", True,
              (("temperature", 0.0), ("seed", 1), ("max_tokens", 64)), "llama3.2", None,
              ("stop",), (("input_tokens", 26), ("output_tokens", 298))),
    ),
    "Ollama's embed": (
        b"/api/embed",
        {"model": "all-minilm", "input": PROMPT},
        json.dumps({"model": "all-minilm", "embeddings": [[0.1]], "prompt_eval_count": 8}).encode(),
        GenAi("embeddings", "ollama", "all-minilm", False, (), "all-minilm", None, (),
              (("input_tokens", 8),)),
    ),
}  # fmt: skip


def head(content: bytes, coding: bytes = b"") -> bytes:
    kind = b"text/event-stream" if content.startswith(b"data:") else b"application/json"
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n" + coding


def asking(path: bytes, document: Any, host: bytes = b"h") -> bytes:
    content = json.dumps(document).encode()
    return b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path, host, len(content), content,
    )  # fmt: skip


def call(sent: bytes, got: bytes, *, body_limit: int = 0) -> Any:
    wire = Wire(body_limit=body_limit, content_rules=GenAiRules()).opened().request(sent)
    for at in range(0, len(got), 1000):
        wire.response(got[at : at + 1000])
    (exchange,) = wire.exchanges
    return exchange


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("client", [True, False])
@given(data=st.data())
def test_calls_say_what_they_are_in_any_pieces(name, client, data):
    path, asked, answer, said = CALLS[name]
    wire = Wire(client=client, body_limit=0, content_rules=GenAiRules()).opened()
    for sent in pieces_of(asking(path, asked), data):
        wire.request(sent)
    coding = b""
    if data.draw(st.booleans()):
        deflate = zlib.compressobj(wbits=31)
        answer = deflate.compress(answer) + deflate.flush()
        kind = head(CALLS[name][2])
        coding = b"Content-Encoding: gzip\r\n"
    else:
        kind = head(answer)
    whole = kind + coding + b"Content-Length: %d\r\n\r\n" % len(answer) + answer
    for got in pieces_of(whole, data):
        wire.response(got)
    (exchange,) = wire.exchanges
    assert exchange.genai == said
    assert exchange.request.body.content == exchange.response.body.content == b""
    assert PROMPT not in repr(exchange)
    assert ANSWER not in repr(exchange)


@pytest.mark.parametrize("name", CALLS)
def test_calls_over_http2_say_the_same(name):
    path, asked, answer, said = CALLS[name]
    talk = Talk().begun()
    request = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"h"),
               (b":path", path)]  # fmt: skip
    kind = b"text/event-stream" if answer.startswith(b"data:") else b"application/json"
    talk.request(1, request, json.dumps(asked).encode())
    talk.server.send_headers(1, [(b":status", b"200"), (b"content-type", kind)])
    for at in range(0, len(answer), 9000):
        talk.server.send_data(1, answer[at : at + 9000], end_stream=at + 9000 >= len(answer))
        talk.flush(talk.server)
        talk.client.acknowledge_received_data(min(9000, len(answer) - at), 1)
        talk.flush(talk.client)
    wire = play(talk, Wire(body_limit=0, content_rules=GenAiRules()).opened())
    (exchange,) = wire.exchanges
    assert exchange.genai == said


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        (b"api.openai.com", "openai"),
        (b"API.GROQ.com:443", "groq"),
        (b"mine.openai.azure.com", "azure.ai.openai"),
        (b"api.mistral.ai", "mistral_ai"),
        (b"notapi.groq.com", "openai"),
        (b"[::1]:8000", "openai"),
    ],
)
def test_the_host_tells_whose_interface_it_is(host, provider):
    sent = asking(b"/openai/v1/chat/completions", CHAT, host)
    assert call(sent, b"HTTP/1.1 204 No Content\r\n\r\n").genai.provider == provider


@pytest.mark.parametrize(
    "target",
    [b"/", b"/v1/chat", b"/completions", b"/chat/completions/1", b"/v1/models", b"/messages",
     b"/api/embeddings/x", b"/x?/v1/messages", b"/v1/chat/completions/"],
)  # fmt: skip
def test_other_paths_are_not_read(target):
    assert interface_of(b"POST", target) is None
    assert interface_of(b"GET", b"/v1/messages") is None


@pytest.mark.parametrize(
    "document",
    [{}, [], "model", {"model": "m"}, {"messages": []}, {"a": {"messages": [], "model": "m"}},
     [{"messages": [], "model": "m"}]],
)  # fmt: skip
def test_a_path_alone_is_no_evidence(document):
    got = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    assert call(asking(b"/v1/chat/completions", document), got).genai is None


def test_an_answer_is_evidence_for_a_request_that_cannot_be_read():
    content = json.dumps(CHAT_ANSWER).encode()
    sent = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 3\r\n\r\n\xff\xff\xff"
    said = call(sent, head(content) + b"Content-Length: %d\r\n\r\n" % len(content) + content).genai
    assert said == replace(CHAT_SAID, request_model=None, parameters=())


def test_an_error_leaves_what_was_asked():
    content = b'{"error":{"message":"no"}}'
    got = b"HTTP/1.1 429 X\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    said = call(asking(b"/v1/chat/completions", CHAT), got).genai
    assert said == replace(
        CHAT_SAID, response_model=None, response_id=None, finish_reasons=(), usage=()
    )


@pytest.mark.parametrize("lost", [1, 60])
def test_counts_that_a_loss_may_have_corrected_are_not_given(lost):
    wire = Wire(body_limit=0, content_rules=GenAiRules()).opened()
    wire.request(asking(b"/v1/messages", ANTHROPIC | {"stream": True}))
    stream = ANTHROPIC_STREAM
    middle = stream.index(b"content_block")
    wire.response(head(stream) + b"Content-Length: %d\r\n\r\n" % len(stream))
    wire.response(stream[:middle], lost=lost)
    wire.response(stream[middle + lost :])
    (exchange,) = wire.exchanges
    assert exchange.response.complete
    assert exchange.genai == replace(ANTHROPIC_SAID, finish_reasons=(), usage=())


def test_a_stream_that_breaks_off_has_no_counts():
    wire = Wire(body_limit=0, content_rules=GenAiRules()).opened()
    wire.request(asking(b"/v1/messages", ANTHROPIC | {"stream": True}))
    stream = ANTHROPIC_STREAM[: ANTHROPIC_STREAM.index(b"message_stop")]
    wire.response(head(stream) + b"Content-Length: 9999\r\n\r\n" + stream)
    wire.connections.flush(wire.now)
    (exchange,) = wire.exchanges
    assert exchange.genai == replace(ANTHROPIC_SAID, finish_reasons=(), usage=())


@pytest.mark.parametrize("name", [name for name in CALLS if "streamed" in name])
def test_a_stream_that_said_its_end_has_its_counts_though_the_client_left(name):
    path, asked, answer, said = CALLS[name]
    wire = Wire(body_limit=0, content_rules=GenAiRules()).opened().request(asking(path, asked))
    wire.response(head(answer) + b"Transfer-Encoding: chunked\r\n\r\n")
    wire.response(b"%x\r\n%b\r\n" % (len(answer), answer))
    wire.connections.flush(wire.now)
    (exchange,) = wire.exchanges
    assert not exchange.response.complete
    assert exchange.genai == said


@pytest.mark.parametrize(
    "model",
    ["x" * 129, "https://u:p@h/m", "two words", "a?token=b", "naïve", "", 7, None, ["m"], True],
)
def test_texts_that_are_no_names_are_left_out(model):
    content = json.dumps(
        {
            "id": model,
            "model": model,
            "choices": [{"finish_reason": model}],
            "usage": {"prompt_tokens": True, "completion_tokens": -1},
        }
    )
    sent = asking(b"/openai/deployments/d/chat/completions", CHAT | {"model": model, "top_p": "1"})
    got = head(b"{") + b"Content-Length: %d\r\n\r\n" % len(content) + content.encode()
    said = call(sent, got).genai
    assert (said.request_model, said.response_model, said.response_id) == (None, None, None)
    assert (said.finish_reasons, said.usage) == ((), ())
    assert "top_p" not in dict(said.parameters)


def test_without_the_rules_nothing_is_read():
    wire = Wire().opened().request(asking(b"/v1/chat/completions", CHAT))
    content = json.dumps(CHAT_ANSWER).encode()
    wire.response(head(content) + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    (exchange,) = wire.exchanges
    assert exchange.genai is None


def test_bodies_that_are_read_are_not_spared():
    wire = Wire(body_limit=0, content_rules=GenAiRules()).opened()
    wire.request(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{")
    wire.request(b" ")
    assert not wire.spared
    wire = Wire(body_limit=0, content_rules=GenAiRules()).opened()
    wire.request(b"POST /v1/other HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{")
    wire.request(b" ")
    assert wire.spared


# The scan of JSON.

WANTED = frozenset({"a", "o.a", "o.p.b", "l[].a", "l[].o.b"})


def places(value: Any, place: str = "") -> list[tuple[str, Scalar]]:
    """All wanted scalars of a parsed document, in order."""
    if isinstance(value, dict):
        found = []
        for key, inner in value.items():
            if key and not set(key) & set(".[]"):  # that could be taken for another place
                found += places(inner, f"{place}.{key}" if place else key)
        return found
    if isinstance(value, list):
        return [one for inner in value for one in places(inner, place + "[]")]
    return [(place, value)] if place in WANTED else []


keys = st.sampled_from(["a", "b", "o", "p", "l", "é", 'q"\\', "[]", "", "o.a", "l[]"])
texts = st.text(max_size=8) | st.sampled_from(['"', "\\", "{", "]", "\\u0041", "x" * 300])
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.skipif(is_compiled(), reason="a compiled class has no interpreted subclasses")
@given(st.lists(st.dictionaries(keys, documents, max_size=5), max_size=3), st.data())
def test_the_scan_finds_what_a_parser_finds(several, data):
    class Found(JsonScan):
        def __init__(self) -> None:
            super().__init__(WANTED)
            self.all: list[tuple[str, Scalar]] = []

        def found(self, place: str, value: Scalar) -> None:
            self.all.append((place, value))

        def named(self, place: str) -> None:
            assert place

        def bare_word(self, place: str, word: bytes) -> None:
            raise AssertionError(word)

        def closed(self, place: str) -> None:
            pass

    indent = data.draw(st.sampled_from([None, 1]))
    ascii_only = data.draw(st.booleans())
    content = "\n".join(
        json.dumps(one, indent=indent, ensure_ascii=ascii_only) for one in several
    ).encode("utf-8", "surrogatepass")
    scan = Found()
    for part in pieces_of(content + b"\n", data):
        scan.text(part, 1)
    expected = [
        (place, value)
        for one in several
        for place, value in places(one)
        if len(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
        <= (258 if isinstance(value, str) else 40)
    ]
    assert scan.all == expected


@given(
    st.lists(st.sampled_from(list('{}[]":,\\ aonul1-.e\n')), max_size=60).map("".join), st.data()
)
def test_any_text_is_scanned_without_an_exception(text, data):
    interface = interface_of(b"POST", b"/v1/chat/completions")
    assert interface is not None
    one = Call(interface, b"/v1/chat/completions", ())
    counter = EventCounter(one.response_sink())
    for part in pieces_of(text.encode(), data):
        one.request_sink().text(part, 1)
        one.response_sink().text(part, 1)
        counter.text(part, 1)
    one.said(request_complete=True, response_complete=True)


def test_nothing_grows_with_what_is_scanned():
    interface = interface_of(b"POST", b"/v1/chat/completions")
    assert interface is not None
    sink = Call(interface, b"/v1/chat/completions", ()).request_sink()
    sink.text(b'{"model":"', 1)
    for _ in range(50):
        sink.text(b"x" * 10_000, 1)
    sink.text(b'","messages":', 1)
    for _ in range(50):
        sink.text(b"[{" * 5_000, 1)
    for _ in range(50):
        sink.text(b'"' + b"y" * 10_000, 1)
    assert len(sink._text) < 1000
    assert len(sink._places) < 10


# Records.


def test_a_call_is_named_and_described_by_the_conventions():
    content = CHAT_STREAM
    sent = asking(b"/v1/chat/completions", CHAT | {"stream": True})
    exchange = call(sent, head(content) + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    span, log = records(exchange)
    assert span.name == "chat gpt-4o-mini"
    assert log.event_name == "otel_tap.http.exchange"
    found = attributes_of(exchange)
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": -7,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "otel_tap.sse.event_count": 7,
        "http.request.method": "POST",
        "http.response.status_code": 200,
    }
    assert {name: found.get(name) for name in wanted} == wanted
    first = found["gen_ai.response.time_to_first_chunk"]
    assert first == found["otel_tap.sse.time_to_first_event"] > 0
    assert first <= found["otel_tap.sse.time_to_last_event"]
    # The first chunk is a matter of who waits for it.
    assert "gen_ai.response.time_to_first_chunk" not in attributes_of(at_server(exchange))


def test_a_call_without_a_model_is_named_by_its_operation():
    path, asked, answer, _ = CALLS["completions at Azure, without a model"]
    got = head(answer) + b"Content-Length: %d\r\n\r\n" % len(answer) + answer
    span, _ = records(call(asking(path, asked), got))
    assert span.name == "text_completion"


def test_an_exchange_that_is_no_call_keeps_its_name():
    wire = Wire(content_rules=GenAiRules()).opened().request(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    wire.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert records(wire.exchanges[0])[0].name == "GET"
