"""The agent: a source of events, the pipeline and the sinks, put together from the settings.

Two threads do the work. The caller's thread drains the source and carries every event to encoded
OTLP; delivery has one of its own. A third looks for libraries beside them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from otel_tap.capture.choice import HostSource, load_core, open_source
from otel_tap.capture.priority import Priority
from otel_tap.capture.recorded import PacedSource, RecordedSource
from otel_tap.capture.recorder import Recorder
from otel_tap.capture.recording import RecordingWriter, RecordTo
from otel_tap.context import Origins, ServiceRule, read_host
from otel_tap.context.recorded import RecordedOrigins
from otel_tap.delivery import Delivery, OtlpJsonFile, OtlpSettings
from otel_tap.delivery.har_file import HarFile
from otel_tap.delivery.patience import Patience
from otel_tap.errors import ConfigError
from otel_tap.events import NOT_WANTED, Direction, Event, EventSource, LossReason
from otel_tap.exchange import Exchange
from otel_tap.filters import ExchangeFilter
from otel_tap.genai import GenAiRules
from otel_tap.heap import keep_large_blocks_apart
from otel_tap.origin import Host, Origin
from otel_tap.own_metrics import OwnMetrics, interval_ms
from otel_tap.pipeline import OriginLookup, Pipeline, Take
from otel_tap.privacy import RedactionSettings, Redactor
from otel_tap.settings import Settings
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, TelemetrySettings

_TICK_NS = 100_000_000
_CLOCK_LOOK_NS = 60_000_000_000
_STOP_S = 5.0
_SNAPSHOT_NS = 1_000_000_000  # how old the agent's own metrics may be
_STOP_METRICS_S = 2.0
_QUEUED_BYTES = 16 << 20  # of a replay at its sink: far from what makes the sink drop
_SINK_WAIT_S = 0.02
_REDACTED_BODY = 1 << 20  # what is searched of a body without its content coding, at least
_JSON_OUTPUT = "otlp-json:"
_OVERLOAD_FILL = 0.25  # of the ring: long before anything is left out
_NO_LOSS = NOT_WANTED | {LossReason.SHED}


class Sink(Protocol):
    """Takes encoded chunks without ever blocking, and counts what became of their records."""

    def offer(self, chunk: Chunk) -> bool:
        """Queue a chunk; False when it had to be dropped."""
        ...

    def close(self, timeout_s: float) -> None:
        """Send what is queued, within the time."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Payload that waits or is under way."""
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
    captured_bytes: int = 0  # that the kernel side copied; 0 for a recording
    exchanges: int = 0  # that passed the filters
    sent: int = 0  # spans that were accepted
    lost: dict[str, int] = field(default_factory=dict)  # events, by reason
    lost_bytes: dict[str, int] = field(default_factory=dict)  # by reason
    shed_bytes: int = 0  # of connections left out for overload
    ring_fill: float | None = None  # waited at the last look, 0 to 1; None: not known
    shed_share: float = 0  # the part of all connections that is left out now, 0 to 1
    not_wanted_bytes: dict[str, int] = field(default_factory=dict)  # by reason: no loss
    dropped: int = 0  # records that could not be delivered
    filtered: int = 0  # exchanges that the filters left out
    opaque: int = 0  # connections that turned out not to be HTTP/1
    opaque_reasons: dict[str, int] = field(default_factory=dict)  # the same, by reason
    websocket_sessions: int = 0  # that are over
    websocket_messages: int = 0  # that were told: contents are asked for
    websocket_malformed: int = 0  # sessions given up: what moved is no frame
    http2_blocks: int = 0  # field blocks that were decoded
    http2_blocks_incomplete: int = 0  # of them: a field is unknown
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
    a file, secrets included. `replay` takes events from such a file instead of this host, as fast
    as the sinks take them, or at `speed` times their own pace.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_exchange: Callable[[Exchange, Origin], None] | None,
        report: Callable[[str], None],
        environ: Mapping[str, str] = os.environ,
        record: RecordTo | None = None,
        replay: Path | None = None,
        speed: float | None = None,
    ) -> None:
        self._settings = settings
        self._report = report
        self._record = record
        self._replay = replay
        self._speed = speed
        self._delay_ns = _delay_ns(environ)
        self._on_exchange = on_exchange
        self._otlp: OtlpSettings | None = None
        if settings.output in (None, "otlp"):
            self._otlp = OtlpSettings.from_environment(environ)
        self._metrics_interval = interval_ms(environ)
        self._own_metrics: OwnMetrics | None = None
        self._next_snapshot = 0
        self._sink: Sink | None = None
        self._batcher: Batcher | None = None
        self._encoder: RecordEncoder | None = None
        self._live: HostSource | None = None
        self._recorder: Recorder | None = None
        self._recorded: RecordedSource | None = None
        self._player: RecordedSource | PacedSource | None = None
        self._source: EventSource | None = None
        self._origins: OriginLookup | None = None
        self._har: HarFile | None = None
        self._patience: Patience | None = None
        self.unix_offset_ns = 0  # what makes Unix nanoseconds of a ktime_ns of the events
        self._pipeline: Pipeline | None = None
        self._stopped = False
        self._priority = Priority(settings.capture.nice)
        self._now = 0
        self._next_tick = 0
        self._next_clock_look = 0

    def start(self) -> None:
        """Attach the probes, or open the recording.

        Raises HostError, RightsError, CaptureError or ConfigError when that cannot be done; nothing
        is left attached then.
        """
        keep_large_blocks_apart()
        origins: OriginLookup
        if self._replay is not None:
            recorded = self._recorded = RecordedSource(self._replay)
            host, offset = recorded.header.host, recorded.unix_offset_ns
            origins = RecordedOrigins(host, recorded.origin, service_rules=self._service_rules())
            self._player = recorded if self._speed is None else PacedSource(recorded, self._speed)
            self._source = self._player
        else:
            host, offset = read_host(), unix_offset_ns()
            origins = Origins(
                host,
                include_command_line=self._settings.telemetry.command_line,
                service_rules=self._service_rules(),
            )
        self._origins = origins
        self.unix_offset_ns = offset
        if self._record is not None:
            writer = RecordingWriter(self._record, unix_offset_ns=offset, host=host)
            self._recorder = Recorder(writer)
        self._pipeline = self._build(host, offset, origins)
        if self._replay is None:
            self._live = self._source = self._open_source()
            if self._recorder is None:
                self._live.feed(self._pipeline)
            self._now = time.monotonic_ns()
            tapped = self._live.counters.files_tapped
            if self._otlp is not None and self._otlp.metrics is not None:
                self._own_metrics = OwnMetrics(
                    self._otlp.metrics,
                    interval=self._metrics_interval,
                    resource={"host.name": host.name} | ({"host.id": host.id} if host.id else {}),
                    report=self._report,
                )
            self._report(f"ready: {tapped} TLS library files and TCP sockets are tapped")

    def _open_source(self) -> HostSource:
        capture = self._settings.capture
        try:
            return open_source(
                capture.loader,
                capture.ring_size,
                self._report,
                self._recorder.take if self._recorder is not None else None,
                core=partial(
                    load_core,
                    placement=capture.placement,
                    watched=self._on_exchange is not None,
                    pids=[int(pid) for pid in self._settings.filters.conditions().get("pid", ())],
                ),
            )
        except BaseException:
            if self._recorder is not None:
                self._recorder.writer.discard()
            raise

    def _service_rules(self) -> tuple[ServiceRule, ...]:
        return tuple(
            ServiceRule(rule.name, rule.executable, rule.comm, rule.container)
            for rule in self._settings.services
        )

    def _build(self, host: Host, offset: int, origins: OriginLookup) -> Pipeline:
        settings = self._settings
        takers: list[Take] = []
        encoders: list[Take] = []
        privacy = settings.privacy
        redactor = Redactor(
            RedactionSettings(
                headers=privacy.headers,
                query_keys=privacy.query_keys,
                patterns=privacy.patterns,
                keep_headers=privacy.keep_headers,
            ),
            body_limit=max(settings.bodies.limit, _REDACTED_BODY),
        )
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
                _telemetry_settings(settings, self._otlp), identities, offset, redactor
            )
            self._batcher = Batcher(self._encoder, self._sink.offer, delay_ns=self._delay_ns)
            encoders.append(self._batcher.add)
            self._patience = Patience(self._sink)
        if settings.har is not None:
            self._har = HarFile(settings.har, body_limit=settings.bodies.limit, report=self._report)
            takers.append(self._to_har)
        if self._recorder is not None:
            encoders.append(self._keep_origin)
        filters = settings.filters
        return Pipeline(
            body_limit=settings.bodies.limit if settings.bodies.enabled else 0,
            idle_timeout_ns=settings.exchange.idle_timeout,
            origins=origins,
            exchange_filter=ExchangeFilter(filters.conditions(), filters.exclude.conditions()),
            redactor=redactor,
            takers=takers,
            encoders=encoders,
            on_opaque=self._mute,
            on_end_met=identities.client_ends.add,
            spare=self._spare,
            want=self._want,
            content_rules=GenAiRules() if settings.telemetry.genai else None,
            take_turn=self._batcher.add_turn
            if self._batcher is not None and self._recorder is None
            else None,
        )

    def _mute(self, connection_id: int) -> None:
        if self._live is not None:
            self._live.mute(connection_id)

    def _spare(self, connection_id: int, direction: Direction, begin: int, end: int) -> None:
        if self._live is not None:
            self._live.skip(connection_id, direction, begin, end)

    def _want(self, tgid: int, wanted: bool) -> None:  # noqa: FBT001 - a callback
        if self._live is not None:
            self._live.want(tgid, wanted=wanted)

    def _keep_origin(self, _exchange: Exchange, origin: Origin) -> None:
        if self._recorder is not None:
            self._recorder.known(origin)

    def _to_har(self, exchange: Exchange, origin: Origin) -> None:
        if self._har is not None:
            self._har.add(exchange, origin, self.unix_offset_ns)

    def run_once(self) -> None:
        """Take what is there through the pipeline; waits 250 ms at most."""
        if self._source is None or self._pipeline is None:
            raise RuntimeError("the agent was not started")
        if self._waits_for_sink():
            time.sleep(_SINK_WAIT_S)
            return
        events = self._source.read()
        if self._live is not None:
            self._handle(events)
            # Who waits for an event waits until it would have been seen: under load the ring is
            # behind the clock.
            self._now = self._live.seen_ktime_ns
        elif self._player is not None:
            self._play(events)
            self._now = max(self._now, self._player.ktime_ns)
        self._tick()

    def _waits_for_sink(self) -> bool:
        if self._player is None or self._patience is None:
            return False
        return self._patience.waits(0 if self._player.exhausted else _QUEUED_BYTES)

    def _handle(self, events: Iterable[Event]) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            return
        batch = list(events)
        pipeline.handle_all(batch)
        if self._recorder is not None and self._origins is not None:
            self._recorder.commit(batch, pipeline.unwanted, self._origins.origin)

    def _play(self, events: Iterable[Event]) -> None:
        """Recorded events: their clock is the clock."""
        pipeline, recorded = self._pipeline, self._recorded
        if pipeline is None or recorded is None:
            return
        if self.unix_offset_ns != recorded.unix_offset_ns:
            self._set_clock(recorded.unix_offset_ns)
        together: list[Event] = []
        for event in events:
            together.append(event)
            self._now = event.ktime_ns
            if self._now >= self._next_tick:
                pipeline.handle_all(together)
                together.clear()
                self._tick()
        pipeline.handle_all(together)

    def _set_clock(self, unix_offset_ns: int) -> None:
        self.unix_offset_ns = unix_offset_ns
        if self._encoder is not None:
            self._encoder.set_clock(unix_offset_ns)

    def _tick(self) -> None:
        now = self._now
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_NS
        if self._pipeline is not None:
            self._pipeline.tick(now)
        if self._batcher is not None:
            self._batcher.tick(now)
        if self._live is not None:
            fill = self._live.ring_fill or 0.0
            overloaded = fill >= _OVERLOAD_FILL or self._live.shed_share > 0
            self._priority.update(now, overloaded=overloaded)
        if self._own_metrics is not None and now >= self._next_snapshot:
            self._next_snapshot = now + _SNAPSHOT_NS
            self._own_metrics.update(self.status())
        if self._har is not None:
            self._har.turn(now)
        if self._live is not None and now >= self._next_clock_look:
            # The host's clock may be set while the agent runs.
            self._next_clock_look = now + _CLOCK_LOOK_NS
            self._set_clock(unix_offset_ns())
            if self._recorder is not None:
                self._recorder.writer.clock(self.unix_offset_ns)

    def under_way(self, older_than_ns: int) -> list[tuple[Exchange, Origin]]:
        """Exchanges that have been open for that long, as they are now, with their processes."""
        if self._pipeline is None:
            return []
        return self._pipeline.under_way(self._now, older_than_ns)

    @property
    def finished(self) -> bool:
        """Whether a recording is at its end and its sink has it; never of a live agent."""
        return self._player is not None and self._player.exhausted and not self._waits_for_sink()

    @property
    def recording(self) -> RecordingWriter | None:
        """The recording that is made."""
        return None if self._recorder is None else self._recorder.writer

    @property
    def replayed(self) -> RecordedSource | None:
        """The recording that is played."""
        return self._recorded

    def note(self, notes: dict[str, str]) -> None:
        """Put something into the recording, if there is one."""
        if self._recorder is not None:
            self._recorder.writer.note(notes)

    def stop(self) -> None:
        """Detach, take what is still in the ring, end what is under way, deliver what waits.

        A second call does nothing.
        """
        if self._stopped:
            return
        self._stopped = True
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
        if self._recorder is not None:
            self._recorder.writer.close(self._now)
        if self._har is not None:
            self._har.close()
        if self._sink is not None:
            self._sink.close(_STOP_S)
        if self._own_metrics is not None:
            self._own_metrics.update(self.status())
            self._own_metrics.close(_STOP_METRICS_S)

    def status(self) -> AgentStatus:
        """The counters now."""
        pipeline, sink, live = self._pipeline, self._sink, self._live
        if pipeline is None:
            return AgentStatus()
        counters = pipeline.connections.counters
        opaque = {
            "not_http": counters.opaque_not_http,
            "tunnel": counters.opaque_tunnel,
            "malformed": counters.opaque_malformed,
        }
        return AgentStatus(
            events=pipeline.event_count,
            bytes=counters.stream_bytes + counters.overlap_bytes,
            exchanges=pipeline.exchange_count,
            sent=0 if sink is None else sink.sent_spans,
            captured_bytes=0 if live is None else live.captured[1],
            lost={
                reason.value: count
                for reason, count in pipeline.lost_events.items()
                if reason not in _NO_LOSS
            },
            lost_bytes={
                reason.value: count
                for reason, count in pipeline.lost_bytes.items()
                if reason not in _NO_LOSS
            },
            shed_bytes=pipeline.lost_bytes.get(LossReason.SHED, 0),
            ring_fill=None if live is None else live.ring_fill,
            shed_share=0 if live is None else live.shed_share,
            not_wanted_bytes={
                reason.value: count
                for reason, count in pipeline.lost_bytes.items()
                if reason in NOT_WANTED
            },
            dropped=(
                (0 if sink is None else sink.dropped_records)
                + (0 if self._batcher is None else self._batcher.failures)
            ),
            filtered=pipeline.filtered_count,
            opaque=sum(opaque.values()),
            opaque_reasons=opaque,
            websocket_sessions=counters.websocket_sessions,
            websocket_messages=counters.websocket_messages,
            websocket_malformed=counters.websocket_malformed,
            http2_blocks=counters.field_blocks,
            http2_blocks_incomplete=counters.field_blocks_incomplete,
            files_tapped=0 if live is None else live.counters.files_tapped,
        )
