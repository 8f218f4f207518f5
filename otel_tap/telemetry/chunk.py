"""What telemetry hands to delivery: one request of OTLP, encoded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """The kinds of telemetry that OTLP carries."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Chunk:
    """`payload` is a whole Export*ServiceRequest (protobuf) with `record_count` records."""

    signal: Signal
    payload: bytes
    record_count: int
