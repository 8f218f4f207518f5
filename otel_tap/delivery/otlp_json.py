"""A chunk as one line of OTLP-JSON, as the Collector's file exporter and receiver write and read.

Owns: how OTLP's JSON differs from protobuf's (OTLP specification, "JSON Protobuf Encoding"): ids
are hexadecimal, enums are numbers. Must not know: where lines go.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_tap.telemetry.chunk import Chunk, Signal

_IDS = ("traceId", "spanId", "parentSpanId")


def json_line(chunk: Chunk) -> bytes:
    """The request in JSON, with a line feed; raises DecodeError for a payload that is none."""
    request: ExportTraceServiceRequest | ExportLogsServiceRequest
    if chunk.signal is Signal.TRACES:
        request = ExportTraceServiceRequest.FromString(chunk.payload)
    else:
        request = ExportLogsServiceRequest.FromString(chunk.payload)
    document = MessageToDict(request, use_integers_for_enums=True)
    for record in _records(document):
        _ids_to_hexadecimal(record)
        for link in record.get("links", ()):
            _ids_to_hexadecimal(link)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _records(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for group in document.get("resourceSpans", ()):
        for scoped in group.get("scopeSpans", ()):
            found += scoped.get("spans", ())
    for group in document.get("resourceLogs", ()):
        for scoped in group.get("scopeLogs", ()):
            found += scoped.get("logRecords", ())
    return found


def _ids_to_hexadecimal(record: dict[str, Any]) -> None:
    for name in _IDS:
        value = record.get(name)
        if value is not None:
            record[name] = b64decode(value).hex()
