"""Delivery to collectors: the courier, with the senders that the settings name.

Owns: which sender serves which settings. Must not know: what senders do.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_tap.delivery.courier import MAX_QUEUED_BYTES, Courier, Route
from otel_tap.delivery.otlp_settings import ExporterSettings, OtlpProtocol, OtlpSettings
from otel_tap.delivery.outcome import Sender


class Delivery(Courier):
    """Sends each signal to its collector; raises ConfigError for settings that cannot work."""

    def __init__(
        self,
        settings: OtlpSettings,
        *,
        report: Callable[[str], None],
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        exporters = [each for each in (settings.traces, settings.logs) if each is not None]
        super().__init__(
            [_route(exporter) for exporter in exporters],
            report=report,
            max_queued_bytes=max_queued_bytes,
        )


def _route(exporter: ExporterSettings) -> Route:
    return Route(
        exporter.signal,
        _sender(exporter),
        exporter.destination,
        f"check {exporter.endpoint_variable} and that a collector listens there",
    )


def _sender(exporter: ExporterSettings) -> Sender:
    # Only the protocol that is used is loaded: grpcio takes 100 ms and 30 MiB.
    if exporter.protocol is OtlpProtocol.GRPC:
        from otel_tap.delivery.otlp_grpc import OtlpGrpcSender  # noqa: PLC0415

        return OtlpGrpcSender(exporter)
    from otel_tap.delivery.otlp_http import OtlpHttpSender  # noqa: PLC0415

    return OtlpHttpSender(exporter)
