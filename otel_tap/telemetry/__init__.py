"""Exchanges as OpenTelemetry: spans, correlated log records and Resources, as OTLP bytes.

The only place that knows the names of the semantic conventions. What comes in has been redacted;
what goes out is whole Export requests for delivery.
"""

from otel_tap.telemetry.batch import Batcher
from otel_tap.telemetry.chunk import Chunk, Signal
from otel_tap.telemetry.identity import Identities
from otel_tap.telemetry.records import RecordEncoder
from otel_tap.telemetry.settings import TelemetrySettings

__all__ = ["Batcher", "Chunk", "Identities", "RecordEncoder", "Signal", "TelemetrySettings"]
