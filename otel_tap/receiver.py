"""An OTLP collector inside this process: it takes spans, log records and metrics and keeps them.

Owns: an OTLP/gRPC server on one address, and what arrived there. Promises: a record is in
`spans`, `log_records` or `points` before its sender is told that it was accepted; what is handed
out is plain Python. Must not know: who sends, or what the names mean.

The demo shows what it took, and tests compare with it. It is no collector to run: it keeps
everything in memory. For tests of senders it can be told to refuse (`answers`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_tap.delivery.quiet_grpc import grpc

_TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_LOGS_SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
_METRICS_SERVICE = "opentelemetry.proto.collector.metrics.v1.MetricsService"
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # the default of gRPC servers, and so of the Collector


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived; ids in hexadecimal, "" where absent; times in ns since the epoch."""

    name: str
    kind: int  # 2 server, 3 client
    trace_id: str
    span_id: str
    parent_span_id: str
    start_time_unix_nano: int
    end_time_unix_nano: int
    status_code: int  # 0 unset, 1 ok, 2 error
    status_message: str
    trace_state: str
    flags: int
    attributes: dict[str, object]
    resource: dict[str, object]
    scope_name: str
    scope_version: str
    schema_url: str


@dataclass(frozen=True, slots=True)
class ReceivedLogRecord:
    """A log record as it arrived; ids in hexadecimal; times in ns since the epoch."""

    trace_id: str
    span_id: str
    flags: int
    time_unix_nano: int
    observed_time_unix_nano: int
    severity_number: int
    severity_text: str
    event_name: str
    body: object
    attributes: dict[str, object]
    resource: dict[str, object]


@dataclass(frozen=True, slots=True)
class ReceivedPoint:
    """A data point of a sum or a gauge as it arrived."""

    name: str
    unit: str
    kind: str  # "sum" or "gauge"
    is_monotonic: bool
    value: float
    attributes: dict[str, object]
    resource: dict[str, object]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer with a gRPC status, by its name (`UNAVAILABLE`), and keep nothing."""

    code: str
    details: str = ""
    retry_delay_s: float | None = None  # sent as RetryInfo


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """Take all but the last `rejected` records, and say so."""

    rejected: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, at most until the receiver stops, then accept."""

    seconds: float


Answer = Refusal | PartialSuccess | Delay


class OtlpReceiver:
    """A context manager: a collector that listens while the block runs.

    `port` 0 takes a free one. `answers` are given to exports in the order of their arrival, one
    each, but for those of metrics; when they are used up, everything is accepted.
    `credentials`: `grpc.ServerCredentials` for TLS.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        answers: Iterable[Answer] = (),
        max_message_bytes: int = _MAX_MESSAGE_BYTES,
        credentials: object = None,
    ) -> None:
        self._host = host
        self._port = port
        self._answers = list(answers)
        self._max_message_bytes = max_message_bytes
        self._credentials = credentials
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._spans: list[ReceivedSpan] = []
        self._log_records: list[ReceivedLogRecord] = []
        self._points: list[ReceivedPoint] = []
        self._metadata: list[dict[str, str]] = []
        self._drained = 0
        self._server: Any = None

    def __enter__(self) -> Self:
        # Without so_reuseport=0 a second server could share the port and take half of the calls.
        server = grpc.server(
            ThreadPoolExecutor(4, thread_name_prefix="otlp-receiver"),
            handlers=(self._handlers(),),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._max_message_bytes),
            ],
        )
        address = f"{self._host}:{self._port}"
        if self._credentials is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, self._credentials)
        server.start()
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    @property
    def endpoint(self) -> str:
        """The URL for OTEL_EXPORTER_OTLP_ENDPOINT; known inside the block."""
        scheme = "http" if self._credentials is None else "https"
        return f"{scheme}://{self._host}:{self._port}"

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans so far, in the order of arrival; a copy."""
        with self._lock:
            return list(self._spans)

    @property
    def log_records(self) -> list[ReceivedLogRecord]:
        """All log records so far, in the order of arrival; a copy."""
        with self._lock:
            return list(self._log_records)

    @property
    def points(self) -> list[ReceivedPoint]:
        """All data points of sums and gauges so far, in the order of arrival; a copy."""
        with self._lock:
            return list(self._points)

    @property
    def metadata(self) -> list[dict[str, str]]:
        """The headers of every export of spans and logs so far, refused ones too; a copy."""
        with self._lock:
            return list(self._metadata)

    def drain(self, take: Callable[[ReceivedSpan], None]) -> None:
        """Call `take`, in this thread, with each span that was not drained before."""
        with self._lock:
            fresh = self._spans[self._drained :]
            self._drained = len(self._spans)
        for span in fresh:
            take(span)

    def _handlers(self) -> _Services:
        # Generic handlers: the generated ones warn on stderr about every newer or older grpcio.
        return _Services(
            {
                f"/{_TRACE_SERVICE}/Export": grpc.unary_unary_rpc_method_handler(
                    self._export_traces,
                    request_deserializer=ExportTraceServiceRequest.FromString,
                    response_serializer=ExportTraceServiceResponse.SerializeToString,
                ),
                f"/{_LOGS_SERVICE}/Export": grpc.unary_unary_rpc_method_handler(
                    self._export_logs,
                    request_deserializer=ExportLogsServiceRequest.FromString,
                    response_serializer=ExportLogsServiceResponse.SerializeToString,
                ),
                f"/{_METRICS_SERVICE}/Export": grpc.unary_unary_rpc_method_handler(
                    self._export_metrics,
                    request_deserializer=ExportMetricsServiceRequest.FromString,
                    response_serializer=ExportMetricsServiceResponse.SerializeToString,
                ),
            }
        )

    def _export_traces(
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        partial = self._answer(context)
        response = ExportTraceServiceResponse()
        spans = list(_spans(request))
        if partial is not None:
            response.partial_success.rejected_spans = partial.rejected
            response.partial_success.error_message = partial.message
            spans = spans[: max(0, len(spans) - partial.rejected)]
        with self._lock:
            self._spans += spans
        return response

    def _export_logs(
        self, request: ExportLogsServiceRequest, context: grpc.ServicerContext
    ) -> ExportLogsServiceResponse:
        partial = self._answer(context)
        response = ExportLogsServiceResponse()
        records = list(_log_records(request))
        if partial is not None:
            response.partial_success.rejected_log_records = partial.rejected
            response.partial_success.error_message = partial.message
            records = records[: max(0, len(records) - partial.rejected)]
        with self._lock:
            self._log_records += records
        return response

    def _export_metrics(
        self, request: ExportMetricsServiceRequest, _context: grpc.ServicerContext
    ) -> ExportMetricsServiceResponse:
        points = list(_points(request))
        with self._lock:
            self._points += points
        return ExportMetricsServiceResponse()

    def _answer(self, context: grpc.ServicerContext) -> PartialSuccess | None:
        """Behave as the next of `answers` says; a refusal raises, as `abort` does."""
        with self._lock:
            self._metadata.append(dict(context.invocation_metadata()))
            answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Delay):
            self._stopping.wait(answer.seconds)
        elif isinstance(answer, Refusal):
            code = grpc.StatusCode[answer.code]
            if answer.retry_delay_s is not None:
                details = _status_details(code.value[0], answer.details, answer.retry_delay_s)
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(code, answer.details)
        return answer if isinstance(answer, PartialSuccess) else None


class _Services(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Finds the handler of a method by its path."""

    def __init__(self, methods: dict[str, object]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> object:
        """The handler, or None: the caller then gets UNIMPLEMENTED."""
        return self._methods.get(handler_call_details.method)


def _status_details(code: int, message: str, retry_delay_s: float) -> bytes:
    info = RetryInfo()
    info.retry_delay.FromNanoseconds(int(retry_delay_s * 1e9))
    packed = PackedMessage()
    packed.Pack(info)
    status: bytes = Status(code=code, message=message, details=[packed]).SerializeToString()
    return status


def _spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield ReceivedSpan(
                    name=span.name,
                    kind=int(span.kind),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    start_time_unix_nano=span.start_time_unix_nano,
                    end_time_unix_nano=span.end_time_unix_nano,
                    status_code=int(span.status.code),
                    status_message=span.status.message,
                    trace_state=span.trace_state,
                    flags=span.flags,
                    attributes=_attributes(span.attributes),
                    resource=resource,
                    scope_name=scope_spans.scope.name,
                    scope_version=scope_spans.scope.version,
                    schema_url=scope_spans.schema_url,
                )


def _log_records(request: ExportLogsServiceRequest) -> Iterable[ReceivedLogRecord]:
    for resource_logs in request.resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield ReceivedLogRecord(
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    flags=record.flags,
                    time_unix_nano=record.time_unix_nano,
                    observed_time_unix_nano=record.observed_time_unix_nano,
                    severity_number=int(record.severity_number),
                    severity_text=record.severity_text,
                    event_name=record.event_name,
                    body=_plain(record.body),
                    attributes=_attributes(record.attributes),
                    resource=resource,
                )


def _points(request: ExportMetricsServiceRequest) -> Iterable[ReceivedPoint]:
    for resource_metrics in request.resource_metrics:
        resource = _attributes(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind not in ("sum", "gauge"):
                    continue
                data = getattr(metric, kind)
                for point in data.data_points:
                    yield ReceivedPoint(
                        name=metric.name,
                        unit=metric.unit,
                        kind=kind,
                        is_monotonic=kind == "sum" and data.is_monotonic,
                        value=getattr(point, point.WhichOneof("value")),
                        attributes=_attributes(point.attributes),
                        resource=resource,
                    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, object]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    plain: object = getattr(value, kind)
    return plain
