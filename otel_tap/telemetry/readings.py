"""What was read of contents while they flowed, as attributes: event streams and model calls.

Source: semantic conventions for generative AI (development, in a repository of their own since
semantic conventions 1.42), "Inference" and "Embeddings" spans. One span stays one exchange: it
keeps its HTTP attributes and its kind at both ends, takes the conventions' name
`{gen_ai.operation.name} {gen_ai.request.model}`, and adds `gen_ai.*`.

Every text here is of few characters and short (`genai.call`), so it can hold no URL, header or
message; times are of the exchange.
"""

from __future__ import annotations

from typing import Final

from otel_tap.exchange import Exchange, GenAi, Role
from otel_tap.messages import EventStream
from otel_tap.telemetry import names
from otel_tap.telemetry.otlp import (
    bool_attribute,
    double_attribute,
    int_attribute,
    signed_attribute,
    string_attribute,
    strings_attribute,
)

_CLIENT: Final = Role.CLIENT  # a member is looked up slowly on its class
_S: Final = 1_000_000_000


def span_name(call: GenAi) -> bytes:
    """The conventions' name of a span of this call."""
    model = call.request_model
    return (call.operation if model is None else f"{call.operation} {model}").encode()


def reading_attributes(exchange: Exchange) -> list[bytes]:
    """What was read of the contents of an exchange."""
    attributes: list[bytes] = []
    response = exchange.response
    events = None if response is None else response.events
    if events is not None:
        attributes += _of_events(exchange, events)
    call = exchange.genai
    if call is not None:
        attributes += _of_call(call)
        if events is not None and events.first_ktime_ns and exchange.role is _CLIENT:
            attributes.append(
                double_attribute(
                    names.GEN_AI_TIME_TO_FIRST_CHUNK, _since(exchange, events.first_ktime_ns)
                )
            )
    return attributes


def _since(exchange: Exchange, ktime_ns: int) -> float:
    return max(0, ktime_ns - exchange.start_ktime_ns) / _S


def _of_events(exchange: Exchange, events: EventStream) -> list[bytes]:
    attributes = []
    if events.count is not None:
        attributes.append(int_attribute(names.SSE_EVENT_COUNT, events.count))
    if events.unknown:
        attributes.append(string_attribute(names.SSE_UNKNOWN, events.unknown.encode()))
    if events.first_ktime_ns:
        attributes.append(
            double_attribute(names.SSE_FIRST_EVENT, _since(exchange, events.first_ktime_ns))
        )
    if events.last_ktime_ns:
        attributes.append(
            double_attribute(names.SSE_LAST_EVENT, _since(exchange, events.last_ktime_ns))
        )
    return attributes


def _of_call(call: GenAi) -> list[bytes]:
    attributes = [
        string_attribute(names.GEN_AI_OPERATION_NAME, call.operation.encode()),
        string_attribute(names.GEN_AI_PROVIDER_NAME, call.provider.encode()),
    ]
    for name, text in (
        (names.GEN_AI_REQUEST_MODEL, call.request_model),
        (names.GEN_AI_RESPONSE_MODEL, call.response_model),
        (names.GEN_AI_RESPONSE_ID, call.response_id),
    ):
        if text is not None:
            attributes.append(string_attribute(name, text.encode()))
    if call.stream:
        attributes.append(bool_attribute(names.GEN_AI_REQUEST_STREAM, value=True))
    for name, value in call.parameters:
        full = names.GEN_AI_REQUEST + name
        if isinstance(value, float):
            attributes.append(double_attribute(full, value))
        else:
            attributes.append(signed_attribute(full, value))
    if call.finish_reasons:
        attributes.append(
            strings_attribute(
                names.GEN_AI_FINISH_REASONS, [reason.encode() for reason in call.finish_reasons]
            )
        )
    attributes += [int_attribute(names.GEN_AI_USAGE + name, count) for name, count in call.usage]
    return attributes
