"""Groups encoded records by process into whole OTLP requests of bounded size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from otel_tap._version import __version__
from otel_tap.exchange import Exchange, Role
from otel_tap.origin import Origin
from otel_tap.telemetry import names
from otel_tap.telemetry.chunk import Chunk, Signal
from otel_tap.telemetry.otlp import field, varint
from otel_tap.telemetry.records import RecordEncoder
from otel_tap.telemetry.resource import Resources

MAX_CHUNK_BYTES: Final = 3_500_000
"""Below gRPC's default limit of 4 MiB for one message."""

_SCOPE: Final = field(
    b"\x0a",
    field(b"\x0a", names.SCOPE_NAME.encode()) + field(b"\x12", __version__.encode()),
)
_SCHEMA_URL: Final = field(b"\x1a", names.SCHEMA_URL.encode())
_GROUP_OVERHEAD: Final = len(_SCOPE) + 2 * len(_SCHEMA_URL) + 32


# The client's end of a connection can be announced after the server's first exchanges are over: its
# call returns late. So a connection's first server exchanges wait for it.
_SETTLE_NS: Final = 100_000_000
_MAX_SETTLED: Final = 65536

# Members of an enumeration are looked up slowly on its class.
_SERVER: Final = Role.SERVER


class _Group:
    """Records of one signal that wait, by Resource."""

    __slots__ = ("by_resource", "count", "records", "resource", "signal", "size")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.by_resource: dict[bytes, list[bytes]] = {}
        self.resource = b""  # of the last record; `records` are its
        self.records: list[bytes] = []
        self.count = 0
        self.size = 0

    def take(self) -> bytes:
        """Everything as one request; ResourceSpans and ResourceLogs have the same numbers."""
        # Joined once: records are copied here, and nowhere else.
        pieces: list[bytes] = []
        for resource, records in self.by_resource.items():
            size = len(_SCOPE) + sum(map(len, records)) + len(_SCHEMA_URL)
            scope = b"\x12" + varint(size)
            size += len(resource) + len(scope) + len(_SCHEMA_URL)
            pieces += (b"\x0a" + varint(size), resource, scope, _SCOPE)
            pieces += records
            pieces += (_SCHEMA_URL, _SCHEMA_URL)
        request = b"".join(pieces)
        self.by_resource.clear()
        self.resource = b""
        self.count = self.size = 0
        return request


class Batcher:
    """Collects records and hands over chunks: when one is full, or after `delay_ns`.

    `hand_over` gets each chunk; it must not block. One instance serves one thread.
    """

    def __init__(
        self,
        encoder: RecordEncoder,
        hand_over: Callable[[Chunk], object],
        *,
        delay_ns: int = 1_000_000_000,
        max_records: int = 1024,
    ) -> None:
        self._encoder = encoder
        self._hand_over = hand_over
        self._delay_ns = delay_ns
        self._max_records = max_records
        self._resources = Resources()
        self._spans = _Group(Signal.TRACES)
        self._logs = _Group(Signal.LOGS)
        self._due_ktime_ns = 0
        self._waiting: deque[tuple[int, Exchange, Origin]] = deque()
        self._settled: dict[int, int] = {}  # when each connection's exchanges wait no more; 0: now
        self.failures = 0  # exchanges that could not be encoded: a defect, counted and left out

    def add(self, exchange: Exchange, origin: Origin) -> None:
        """One finished exchange; the encoder redacts what it takes of it."""
        if (
            exchange.role is _SERVER
            and self._settled.get(exchange.connection.connection_id) != 0
            and (due := self._settle(exchange))
        ):
            self._waiting.append((due, exchange, origin))
        else:
            self._add(exchange, origin)

    def _settle(self, exchange: Exchange) -> int:
        """Until when it is to wait for the client's end; 0: that one is known."""
        connection = exchange.connection
        due = self._settled.get(connection.connection_id)
        if due is None:
            if len(self._settled) >= _MAX_SETTLED:
                del self._settled[next(iter(self._settled))]
            due = exchange.observed_ktime_ns + _SETTLE_NS
        if self._encoder.knows_client_of(connection):
            due = 0
        self._settled[connection.connection_id] = due
        return due

    def _add(self, exchange: Exchange, origin: Origin) -> None:
        try:
            span, log = self._encoder.encode(exchange)
        except Exception:  # noqa: BLE001 - what one peer sent must not stop the agent
            self.failures += 1
            return
        if not self._due_ktime_ns:
            self._due_ktime_ns = exchange.observed_ktime_ns + self._delay_ns
        resource = self._resources.of(origin)
        if span:
            self._put(self._spans, resource, span)
        if log:
            self._put(self._logs, resource, log)

    def _put(self, group: _Group, resource: bytes, record: bytes) -> None:
        size = group.size + len(record)
        count = group.count
        if size + len(resource) > MAX_CHUNK_BYTES and count:
            self._send(group)
            size = len(record)
            count = 0
        # Most often it is that of the record before: an object that is known needs no hash.
        if resource is not group.resource:
            records = group.by_resource.get(resource)
            if records is None:
                records = group.by_resource[resource] = []
                size += len(resource) + _GROUP_OVERHEAD
            group.resource = resource
            group.records = records
        group.records.append(record)
        group.size = size
        group.count = count = count + 1
        if count >= self._max_records:
            self._send(group)

    def _send(self, group: _Group) -> None:
        count = group.count
        if count:
            self._hand_over(Chunk(group.signal, group.take(), count))

    def tick(self, ktime_ns: int) -> None:
        """Time has passed: what has waited long enough goes."""
        waiting = self._waiting
        while waiting and ktime_ns >= waiting[0][0]:
            _, exchange, origin = waiting.popleft()
            self._settled[exchange.connection.connection_id] = 0
            self._add(exchange, origin)
        if self._due_ktime_ns and ktime_ns >= self._due_ktime_ns:
            self._send_all()

    def flush(self) -> None:
        """Everything goes now."""
        while self._waiting:
            _, exchange, origin = self._waiting.popleft()
            self._add(exchange, origin)
        self._send_all()

    def _send_all(self) -> None:
        self._due_ktime_ns = 0
        self._send(self._spans)
        self._send(self._logs)
