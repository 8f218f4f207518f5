"""OTLP over gRPC: one attempt to hand over one chunk.

Owns: the channel, and what gRPC statuses mean to OTLP. Promises: the payload goes out as it is,
and every status becomes one outcome. Must not know: queues, other signals, when to retry.

gRPC's own retries are off and its reconnection is kept quick: the courier alone decides when to
try again.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otel_tap._version import __version__
from otel_tap.delivery.otlp_response import accepted
from otel_tap.delivery.otlp_settings import ExporterSettings
from otel_tap.delivery.outcome import Outcome, Refused, RetryLater, TooLarge, shown
from otel_tap.delivery.quiet_grpc import grpc
from otel_tap.telemetry.chunk import Chunk, Signal

_METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_RETRYABLE = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
# Words of grpc-core, grpc-go, grpc-java and tonic for a message over the receiver's limit.
_TOO_LARGE = re.compile(
    r"larger than max|exceeds maximum size|too large|message size", re.IGNORECASE
)
_RECONNECT_MS = 500


class OtlpGrpcSender:
    """Sends chunks of one signal to one gRPC endpoint."""

    def __init__(self, settings: ExporterSettings) -> None:
        self._settings = settings
        options = [
            ("grpc.primary_user_agent", f"otel-tap/{__version__}"),
            ("grpc.enable_retries", 0),
            # Left alone, a channel that failed to connect fails every call for up to two minutes.
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            # A pool of its own: a channel to a dead collector is not shared with other signals.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel: Any = _open(settings, options)
        # Without serializers grpcio passes bytes through.
        self._export = self._channel.unary_unary(_METHODS[settings.signal])
        self._compression = (
            grpc.Compression.Gzip if settings.gzip else grpc.Compression.NoCompression
        )

    def send(self, chunk: Chunk, at_most_s: float) -> Outcome:
        """One call, which ends in time whatever the collector does."""
        try:
            answer = self._export(
                chunk.payload,
                timeout=min(self._settings.timeout_s, at_most_s),
                metadata=self._settings.headers,
                compression=self._compression,
            )
        except grpc.RpcError as error:
            return self._outcome(error)
        return accepted(chunk.signal, answer, self._settings.headers)

    def close(self) -> None:
        """End the call that is under way, if any, and the connection."""
        self._channel.close()

    def _outcome(self, error: Any) -> Outcome:  # noqa: ANN401 - grpc has no types
        code = error.code().name
        details = shown(error.details() or "", self._settings.headers)
        reason = f"{code}: {details}" if details else code
        if code in _RETRYABLE:
            return RetryLater(reason, _retry_delay_s(error))
        if code == "RESOURCE_EXHAUSTED":
            delay_s = _retry_delay_s(error)
            if delay_s is not None:
                return RetryLater(reason, delay_s)
            if _TOO_LARGE.search(details):
                return TooLarge(reason)
        return Refused(reason, self._remedy(code))

    def _remedy(self, code: str) -> str:
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return "check OTEL_EXPORTER_OTLP_HEADERS"
        if code == "UNIMPLEMENTED":
            signal = self._settings.signal
            return f"set OTEL_{signal.upper()}_EXPORTER=none if it does not take {signal}"
        return ""


def _open(settings: ExporterSettings, options: list[tuple[str, object]]) -> Any:  # noqa: ANN401 - grpc has no types
    if not settings.tls:
        return grpc.insecure_channel(settings.endpoint, options=options)
    files = settings.tls_files
    credentials = grpc.ssl_channel_credentials(
        *(
            None if path is None else path.read_bytes()
            for path in (files.certificate, files.client_key, files.client_certificate)
        )
    )
    return grpc.secure_channel(settings.endpoint, credentials, options=options)


def _retry_delay_s(error: Any) -> float | None:  # noqa: ANN401 - grpc has no types
    """The delay of the RetryInfo that came with a status, seconds."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                details = Status.FromString(value).details
            except DecodeError:
                return None
            for detail in details:
                info = RetryInfo()
                if detail.Is(RetryInfo.DESCRIPTOR):
                    detail.Unpack(info)
                    delay = info.retry_delay
                    return float(delay.seconds) + float(delay.nanos) / 1e9
    return None
