"""The agent's own metrics over OTLP: what it saw, lost, left out and delivered.

Owns: their names and units, and the SDK that sends them. Promises: nothing here blocks or ends the
agent, whatever the collector does; the SDK is loaded in a thread of its own, and only where
metrics are exported; every value is that of one snapshot, which the agent's thread hands over.
Must not know: how the numbers come about.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from otel_tap._version import __version__
from otel_tap.delivery.otlp_settings import ExporterSettings, OtlpProtocol
from otel_tap.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter

_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_DEFAULT_INTERVAL_MS = 60_000
_REASON = "otel_tap.reason"
_STATM = Path("/proc/self/statm")
_LOGGERS = ("opentelemetry.exporter.otlp", "opentelemetry.sdk.metrics")


class Status(Protocol):
    """The agent's totals at one moment, as `otel_tap.agent.AgentStatus` has them."""

    @property
    def events(self) -> int: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102
    @property
    def exchanges(self) -> int: ...  # noqa: D102
    @property
    def filtered(self) -> int: ...  # noqa: D102
    @property
    def sent(self) -> int: ...  # noqa: D102
    @property
    def dropped(self) -> int: ...  # noqa: D102
    @property
    def lost(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def lost_bytes(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def shed_bytes(self) -> int: ...  # noqa: D102
    @property
    def ring_fill(self) -> float | None: ...  # noqa: D102
    @property
    def shed_share(self) -> float: ...  # noqa: D102
    @property
    def not_wanted_bytes(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def opaque_reasons(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def websocket_sessions(self) -> int: ...  # noqa: D102
    @property
    def websocket_messages(self) -> int: ...  # noqa: D102
    @property
    def websocket_malformed(self) -> int: ...  # noqa: D102
    @property
    def http2_blocks(self) -> int: ...  # noqa: D102
    @property
    def http2_blocks_incomplete(self) -> int: ...  # noqa: D102
    @property
    def files_tapped(self) -> int: ...  # noqa: D102


# Name, unit, and the one total or the totals by reason.
_COUNTERS: tuple[tuple[str, str, str, Callable[[Status], int | Mapping[str, int]]], ...] = (
    ("otel_tap.events", "{event}", "Events from the kernel.", lambda s: s.events),
    ("otel_tap.payload", "By", "Bytes of payload that were read.", lambda s: s.bytes),
    ("otel_tap.exchanges", "{exchange}", "That passed the filters.", lambda s: s.exchanges),
    ("otel_tap.exchanges.filtered", "{exchange}", "That filters left out.", lambda s: s.filtered),
    ("otel_tap.events.lost", "{event}", "Lost before the agent saw them.", lambda s: s.lost),
    ("otel_tap.payload.lost", "By", "Bytes that moved and were lost.", lambda s: s.lost_bytes),
    ("otel_tap.payload.shed", "By", "Bytes left out for overload.", lambda s: s.shed_bytes),
    ("otel_tap.payload.unwanted", "By", "Bytes that nobody asked for.",
     lambda s: s.not_wanted_bytes),
    ("otel_tap.connections.opaque", "{connection}", "Given up: not to be read as HTTP.",
     lambda s: s.opaque_reasons),
    ("otel_tap.websocket.sessions", "{session}", "WebSocket sessions that are over.",
     lambda s: s.websocket_sessions),
    ("otel_tap.websocket.messages", "{message}", "Told, because contents are asked for.",
     lambda s: s.websocket_messages),
    ("otel_tap.websocket.malformed", "{session}", "Sessions given up: no WebSocket frames.",
     lambda s: s.websocket_malformed),
    ("otel_tap.http2.header_blocks", "{block}", "Header blocks of HTTP/2 that were decoded.",
     lambda s: s.http2_blocks),
    ("otel_tap.http2.header_blocks.incomplete", "{block}",
     "Those with fields that nobody can know who came later, or behind a loss.",
     lambda s: s.http2_blocks_incomplete),
    ("otel_tap.spans.sent", "{span}", "Spans that were accepted.", lambda s: s.sent),
    ("otel_tap.records.dropped", "{record}", "Spans and log records that were given up.",
     lambda s: s.dropped),
)  # fmt: skip
_GAUGES: tuple[tuple[str, str, str, Callable[[Status], float | None]], ...] = (
    ("otel_tap.ring.fill", "1", "Of the ring, waiting at the last look.", lambda s: s.ring_fill),
    ("otel_tap.shed.share", "1", "Of all connections, left out now.", lambda s: s.shed_share),
    ("otel_tap.files.tapped", "{file}", "Library files with probes.", lambda s: s.files_tapped),
)


def interval_ms(environ: Mapping[str, str]) -> int:
    """Milliseconds between two exports; raises ConfigError."""
    text = environ.get(_INTERVAL, "").strip() or str(_DEFAULT_INTERVAL_MS)
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ConfigError(
            f"{_INTERVAL}={text!r} is not accepted", remedy="set it to whole milliseconds"
        )
    return int(text)


class OwnMetrics:
    """Sends the newest snapshot every `interval` milliseconds, and the last one at the end."""

    def __init__(
        self,
        settings: ExporterSettings,
        *,
        interval: int,
        resource: Mapping[str, str],
        report: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._interval = interval
        self._resource = {**resource, "service.name": "otel-tap", "service.version": __version__}
        self._notice = _Notice(settings.destination, report)
        self._status: Status | None = None
        self._provider: MeterProvider | None = None
        self._starting = threading.Thread(target=self._start, name="own-metrics", daemon=True)
        self._starting.start()

    def update(self, status: Status) -> None:
        """What is sent from now on."""
        self._status = status

    def close(self, timeout_s: float) -> None:
        """Send the last snapshot, and let go when the time is over."""
        ending = threading.Thread(target=self._end, args=(timeout_s,), daemon=True)
        ending.start()
        ending.join(timeout_s)
        if ending.is_alive():
            self._notice.say("the agent's own last metrics could not be delivered in time")

    def _end(self, timeout_s: float) -> None:
        self._starting.join()
        if self._provider is not None:
            self._provider.shutdown(timeout_millis=timeout_s * 1000)

    def _start(self) -> None:
        try:
            self._provider = self._build()
        except Exception as error:  # noqa: BLE001 - of the SDK's own: the agent goes on without
            self._notice.say(f"the agent's own metrics are not exported: {type(error).__name__}")

    def _build(self) -> MeterProvider:
        # The SDK logs every failed attempt; the notice says each outage once.
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.handlers = [self._notice]
        exporter = _exporter(self._settings)
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - 100 ms
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=self._interval)
        provider = MeterProvider(
            [reader], resource=Resource.create(self._resource), shutdown_on_exit=False
        )
        meter = provider.get_meter("otel_tap", __version__)
        for name, unit, what, total in _COUNTERS:
            meter.create_observable_counter(
                name, [self._observe(total, Observation)], unit=unit, description=what
            )
        for name, unit, what, value in _GAUGES:
            meter.create_observable_gauge(
                name, [self._observe(value, Observation)], unit=unit, description=what
            )
        meter.create_observable_counter(
            "process.cpu.time",
            [lambda _options: [Observation(time.process_time())]],
            unit="s",
            description="Of the agent.",
        )
        meter.create_observable_up_down_counter(
            "process.memory.usage",
            [lambda _options: [Observation(_resident_bytes())]],
            unit="By",
            description="Of the agent.",
        )
        return provider

    def _observe(
        self,
        read: Callable[[Status], float | Mapping[str, int] | None],
        observation: type[Observation],
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            if self._status is None:
                return []
            value = read(self._status)
            if value is None:
                return []
            if isinstance(value, Mapping):
                return [observation(each, {_REASON: name}) for name, each in value.items()]
            return [observation(value)]

        return observe


class _Notice(logging.Handler):
    """Takes what the SDK logs of failures, and says the first of them to people."""

    def __init__(self, destination: str, report: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._destination = destination
        self._report = report
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        """The record's own words may hold a URL or a header: they are not shown."""
        del record
        if not self._said:
            self._said = True
            self.say(f"the agent's own metrics do not reach {self._destination}")

    def say(self, line: str) -> None:
        """To whoever listens; a terminal that is gone changes nothing."""
        try:
            self._report(line)
        except (OSError, ValueError):
            self._said = True


def _exporter(settings: ExporterSettings) -> MetricExporter:
    files = settings.tls_files
    if settings.protocol is OtlpProtocol.GRPC:
        # isort: off - ours first: it keeps grpc quiet
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )

        from otel_tap.delivery.quiet_grpc import grpc  # noqa: PLC0415
        # isort: on

        credentials = None
        if settings.tls:
            credentials = grpc.ssl_channel_credentials(
                *(None if path is None else path.read_bytes()
                  for path in (files.certificate, files.client_key, files.client_certificate))
            )  # fmt: skip
        compression = grpc.Compression
        return OTLPMetricExporter(
            endpoint=settings.endpoint,
            insecure=not settings.tls,
            credentials=credentials,
            headers=settings.headers,
            timeout=settings.timeout_s,
            compression=compression.Gzip if settings.gzip else compression.NoCompression,
        )
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter as OTLPHttpMetricExporter,
    )

    return OTLPHttpMetricExporter(
        endpoint=settings.endpoint,
        certificate_file=_path(files.certificate),
        client_key_file=_path(files.client_key),
        client_certificate_file=_path(files.client_certificate),
        headers=dict(settings.headers),
        timeout=settings.timeout_s,
        compression=Compression.Gzip if settings.gzip else Compression.NoCompression,
    )


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _resident_bytes() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0
