"""The agent: a source of events, the pipeline, and the sinks, put together from the settings.

Two threads do the work. The caller's thread drains the source and carries every event to encoded
OTLP; delivery has one of its own. A third looks for libraries beside them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from otel_tap.capture.live import LiveSource
from otel_tap.capture.recording import RecordedSource, RecordingWriter
from otel_tap.context.host import read_host
from otel_tap.context.origins import Origins, ServiceRule
from otel_tap.context.recorded import RecordedOrigins
from otel_tap.delivery import Delivery, OtlpJsonFile, OtlpSettings
from otel_tap.events import EventsLost, EventSource
from otel_tap.exchange import Exchange
from otel_tap.filters import ExchangeFilter
from otel_tap.origin import Host, Origin
from otel_tap.pipeline import OriginLookup, Pipeline, Take
from otel_tap.privacy import RedactionSettings, Redactor
from otel_tap.settings import Settings
from otel_tap.telemetry import Batcher, TelemetrySettings

_TICK_NS = 100_000_000
_STOP_S = 5.0
