"""The agent: a source of events, the pipeline and the sinks, put together from the settings.

Two threads do the work. The caller's thread drains the source and carries every event to encoded
OTLP; delivery has one of its own. A third looks for libraries beside them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from otel_tap.capture.live import LiveSource
from otel_tap.capture.recording import RecordedSource, RecordingWriter
from otel_tap.context import Origins, ServiceRule, read_host
from otel_tap.context.recorded import RecordedOrigins
from otel_tap.delivery import Delivery, OtlpJsonFile, OtlpSettings
from otel_tap.errors import ConfigError
from otel_tap.events import DataEvent, Event, EventsLost, EventSource
from otel_tap.exchange import Exchange
from otel_tap.filters import ExchangeFilter
from otel_tap.origin import Host, Origin
from otel_tap.pipeline import OriginLookup, Pipeline, Take
from otel_tap.privacy import RedactionSettings, Redactor
from otel_tap.settings import Settings
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, TelemetrySettings

_TICK_NS = 100_000_000
_CLOCK_LOOK_NS = 60_000_000_000
_STOP_S = 5.0
_JSON_OUTPUT = "otlp-json:"


class Sink(Protocol):
    """Takes encoded chunks without ever blocking, and counts what became of their records."""

    def offer(self, chunk: Chunk) -> bool:
        """Queue a chunk; False when it had to be dropped."""
        ...

    def close(self, timeout_s: float) -> None:
        """Send what is queued, within the time."""
        ...

    @property
    def sent_spans(self) -> int:
        """Spans that were accepted."""
        ...

    @property
    def dropped_records(self) -> int:
        """Spans and log records that were given up or rejected."""
        ...


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The agent's counters at one moment."""

    events: int = 0
    bytes: int = 0  # of payload
    exchanges: int = 0  # that passed the filters
    sent: int = 0  # spans that were accepted
    lost: dict[str, int] = field(default_factory=dict)  # events, by reason
    dropped: int = 0  # records that could not be delivered
    filtered: int = 0  # exchanges that the filters left out
    opaque: int = 0  # connections that turned out not to be HTTP/1
    files_tapped: int = 0


def unix_offset_ns() -> int:
    """What makes Unix nanoseconds of ktime_ns now; the middle of two looks at the other clock."""
    before = time.monotonic_ns()
    unix = time.time_ns()
    return unix - (before + time.monotonic_ns()) // 2


def _telemetry_settings(settings: Settings, otlp: OtlpSettings | None) -> TelemetrySettings:
    chosen = settings.telemetry
    return TelemetrySettings(
        request_headers=chosen.request_headers,
        response_headers=chosen.response_headers,
        attributes=frozenset(chosen.attributes),
        known_methods=chosen.known_methods,
        bodies=settings.bodies.enabled,
        body_limit=settings.bodies.limit,
        traces=otlp is None or otlp.traces is not None,
        logs=otlp is None or otlp.logs is not None,
    )


def _delay_ns(environ: Mapping[str, str]) -> int:
    """How long records wait for company: the shorter of the two standard variables."""
    delays = []
    for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY"):
        value = environ.get(name, "").strip()
        if value:
            if not value.isdigit():
                raise ConfigError(
                    f"{name}={value!r} is not a number", remedy="give milliseconds, such as 1000"
                )
            delays.append(int(value))
    return min(delays, default=1000) * 1_000_000


class Agent:
    """Taps this host, or plays a recording, into the sinks that the settings name.

    `on_exchange` also gets every exchange, redacted and filtered. `record` keeps the raw events in
    a file, secrets included. `replay` takes events from such a file instead of this host.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_exchange: Callable[[Exchange, Origin], None] | None,
        report: Callable[[str], None],
        environ: Mapping[str, str] = os.environ,
        record: Path | None = None,
        replay: Path | None = None,
    ) -> None:
        self._settings = settings
        self._report = report
        self._record = record
        self._replay = replay
        self._delay_ns = _delay_ns(environ)
        self._on_exchange = on_exchange
        self._otlp: OtlpSettings | None = None
        if settings.output in (None, "otlp"):
            self._otlp = OtlpSettings.from_environment(environ)
        self._sink: Sink | None = None
        self._batcher: Batcher | None = None
        self._encoder: RecordEncoder | None = None
        self._live: LiveSource | None = None
        self._writer: RecordingWriter | None = None
        self._written: dict[int, Origin] = {}
        self._source: EventSource | None = None
        self._pipeline: Pipeline | None = None
        self._payload_bytes = 0
        self._now = 0
        self._next_tick = 0
        self._next_clock_look = 0

    def start(self) -> None:
        """Attach the probes, or open the recording.

        Raises HostError, RightsError, CaptureError or ConfigError when that cannot be done; nothing
        is left attached then.
        """
        if self._replay is not None:
            recorded = RecordedSource(self._replay)
            host, offset = recorded.header.host, recorded.header.unix_offset_ns
            origins: OriginLookup = RecordedOrigins(
                host, recorded.origin, service_rules=self._service_rules()
            )
            self._source = recorded
        else:
            host, offset = read_host(), unix_offset_ns()
            origins = Origins(
                host,
                include_command_line=self._settings.telemetry.command_line,
                service_rules=self._service_rules(),
            )
        self._pipeline = self._build(host, offset, origins)
        if self._replay is None:
            if self._record is not None:
                self._writer = RecordingWriter(self._record, unix_offset_ns=offset, host=host)
            self._live = LiveSource(
                self._settings.capture.ring_size,
                self._report,
                tee=self._writer.record if self._writer is not None else None,
            )
            self._source = self._live
            self._now = time.monotonic_ns()
            tapped = self._live.counters.files_tapped
            self._report(f"ready: {tapped} TLS library files and all TCP sockets are tapped")

    def _service_rules(self) -> tuple[ServiceRule, ...]:
        return tuple(
            ServiceRule(rule.name, rule.executable, rule.comm, rule.container)
            for rule in self._settings.services
        )

    def _build(self, host: Host, offset: int, origins: OriginLookup) -> Pipeline:
        settings = self._settings
        takers: list[Take] = []
        if self._on_exchange is not None:
            takers.append(self._on_exchange)
        if self._otlp is not None:
            self._sink = Delivery(self._otlp, report=self._report)
        elif settings.output is not None and settings.output.startswith(_JSON_OUTPUT):
            self._sink = OtlpJsonFile(
                settings.output.removeprefix(_JSON_OUTPUT), report=self._report
            )
        identities = Identities(host.boot_id)
        if self._sink is not None:
            self._encoder = RecordEncoder(
                _telemetry_settings(settings, self._otlp), identities, offset
            )
            self._batcher = Batcher(self._encoder, self._sink.offer, delay_ns=self._delay_ns)
            takers.append(self._batcher.add)
        if self._record is not None:
            takers.append(self._keep_origin)
        filters, privacy = settings.filters, settings.privacy
        return Pipeline(
            body_limit=settings.bodies.limit if settings.bodies.enabled else 0,
            idle_timeout_ns=settings.exchange.idle_timeout,
            origins=origins,
            exchange_filter=ExchangeFilter(filters.conditions(), filters.exclude.conditions()),
            redactor=Redactor(
                RedactionSettings(
                    headers=privacy.headers,
                    query_keys=privacy.query_keys,
                    patterns=privacy.patterns,
                    keep_headers=privacy.keep_headers,
                )
            ),
            takers=takers,
            on_opaque=self._mute,
            on_end_met=identities.client_ends.add,
        )

    def _mute(self, connection_id: int) -> None:
        if self._live is not None:
            self._live.mute(connection_id)

    def _keep_origin(self, _exchange: Exchange, origin: Origin) -> None:
        if self._writer is not None and self._written.get(origin.pid) is not origin:
            self._written[origin.pid] = origin
            self._writer.origin(origin)

    def run_once(self) -> None:
        """Take what is there through the pipeline; waits 50 ms at most."""
        if self._source is None or self._pipeline is None:
            raise RuntimeError("the agent was not started")
        self._handle(self._source.read())
        if self._live is not None:
            self._now = time.monotonic_ns()
        self._tick()

    def _handle(self, events: Iterable[Event]) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            return
        for event in events:
            if isinstance(event, DataEvent):
                self._payload_bytes += len(event.payload)
            elif isinstance(event, EventsLost) and self._writer is not None:
                self._writer.lost(event)
            pipeline.handle(event)
            if self._live is None:
                # A recording is played at full speed; its own clock is that of its events.
                self._now = event.ktime_ns
                self._tick()

    def _tick(self) -> None:
        now = self._now
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_NS
        if self._pipeline is not None:
            self._pipeline.tick(now)
        if self._batcher is not None:
            self._batcher.tick(now)
        if self._live is not None and self._encoder is not None and now >= self._next_clock_look:
            # The host's clock may be set while the agent runs.
            self._next_clock_look = now + _CLOCK_LOOK_NS
            self._encoder.unix_offset_ns = unix_offset_ns()

    @property
    def finished(self) -> bool:
        """Whether a recording is at its end; never of a live agent."""
        return self._source is not None and self._source.exhausted

    def note(self, notes: dict[str, str]) -> None:
        """Put something into the recording, if there is one."""
        if self._writer is not None:
            self._writer.note(notes)

    def stop(self) -> None:
        """Detach, take what is still in the ring, end what is under way, deliver what waits."""
        if self._live is not None:
            for events in self._live.read_rest():
                self._handle(events)
            self._now = time.monotonic_ns()
        if self._pipeline is not None:
            self._pipeline.flush(self._now)
        if self._source is not None:
            self._source.close()
        if self._batcher is not None:
            self._batcher.flush()
        if self._writer is not None:
            self._writer.close()
        if self._sink is not None:
            self._sink.close(_STOP_S)

    def status(self) -> AgentStatus:
        """The counters now."""
        pipeline, sink, live = self._pipeline, self._sink, self._live
        if pipeline is None:
            return AgentStatus()
        counters = pipeline.connections.counters
        return AgentStatus(
            events=pipeline.event_count,
            bytes=self._payload_bytes,
            exchanges=pipeline.exchange_count,
            sent=0 if sink is None else sink.sent_spans,
            lost={reason.value: count for reason, count in pipeline.lost_events.items()},
            dropped=(
                (0 if sink is None else sink.dropped_records)
                + (0 if self._batcher is None else self._batcher.failures)
            ),
            filtered=pipeline.filtered_count,
            opaque=(
                counters.opaque_not_http
                + counters.opaque_http2
                + counters.opaque_tunnel
                + counters.opaque_malformed
            ),
            files_tapped=0 if live is None else live.counters.files_tapped,
        )
