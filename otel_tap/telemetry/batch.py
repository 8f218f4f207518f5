"""Groups encoded records by process into whole OTLP requests of bounded size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from otel_tap._version import __version__
from otel_tap.exchange import Connection, Exchange, Role
from otel_tap.origin import Origin
from otel_tap.telemetry import names
from otel_tap.telemetry.chunk import Chunk, Signal
from otel_tap.telemetry.otlp import field, varint
from otel_tap.telemetry.records import RecordEncoder
from otel_tap.telemetry.resource import Resources
from otel_tap.turn import Turn

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


class _Waiting:
    """Encoded records of one process that wait."""

    __slots__ = ("logs", "spans")

    def __init__(self) -> None:
        self.spans: list[bytes] = []
        self.logs: list[bytes] = []


def _request(groups: Sequence[tuple[bytes, list[bytes]]]) -> bytes:
    """Records by Resource as one request; ResourceSpans and ResourceLogs have the same numbers."""
    # Joined once: records are copied here, and nowhere else.
    pieces: list[bytes] = []
    for resource, records in groups:
        size = len(_SCOPE) + sum(map(len, records)) + len(_SCHEMA_URL)
        scope = b"\x12" + varint(size)
        size += len(resource) + len(scope) + len(_SCHEMA_URL)
        pieces += (b"\x0a" + varint(size), resource, scope, _SCOPE)
        pieces += records
        pieces += (_SCHEMA_URL, _SCHEMA_URL)
    return b"".join(pieces)


class Batcher:
    """Collects records and hands over chunks: when one is full, or after `delay_ns`.

    Spans and log records go at the same time: after `max_records` exchanges, or before both
    together reach `MAX_CHUNK_BYTES`. `hand_over` gets each chunk; it must not block. One instance
    serves one thread.
    """

    def __init__(
        self,
        encoder: RecordEncoder,
        hand_over: Callable[[Chunk], object],
        *,
        delay_ns: int = 1_000_000_000,
        max_records: int = 2048,
    ) -> None:
        self._encoder = encoder
        self._hand_over = hand_over
        self._delay_ns = delay_ns
        self._max_records = max_records
        self._resources = Resources()
        self._by_resource: dict[bytes, _Waiting] = {}
        self._origin: Origin | None = None  # of the last exchange, and where its records wait
        self._of_origin = _Waiting()
        self._count = 0  # exchanges
        self._size = 0  # bytes, at most
        self._due_ktime_ns = 0
        self._waiting: deque[tuple[int, Exchange, Origin]] = deque()
        self._settled: dict[int, int] = {}  # when each connection's exchanges wait no more; 0: now
        self.failures = 0  # exchanges that could not be encoded: a defect, counted and left out

    def add(self, exchange: Exchange, origin: Origin) -> None:
        """One finished exchange; the encoder redacts what it takes of it."""
        if (
            exchange.role is _SERVER
            and self._settled.get(exchange.connection.connection_id) != 0
            and (due := self._settle(exchange.connection, exchange.observed_ktime_ns))
        ):
            self._waiting.append((due, exchange, origin))
        else:
            self._add(exchange, origin)

    def add_turn(self, turn: Turn, origin: Origin) -> None:
        """The same of a turn."""
        if (
            turn.role is _SERVER
            and self._settled.get(turn.connection.connection_id) != 0
            and self._settle(turn.connection, turn.end_ktime_ns)
        ):
            self.add(turn.exchange(), origin)
            return
        try:
            span, log = self._encoder.encode_turn(turn)
        except Exception:  # noqa: BLE001 - what one peer sent must not stop the agent
            self.failures += 1
            return
        self._keep(span, log, turn.end_ktime_ns, origin)

    def _settle(self, connection: Connection, now_ns: int) -> int:
        """Until when it is to wait for the client's end; 0: that one is known."""
        due = self._settled.get(connection.connection_id)
        if due is None:
            if len(self._settled) >= _MAX_SETTLED:
                del self._settled[next(iter(self._settled))]
            due = now_ns + _SETTLE_NS
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
        self._keep(span, log, exchange.observed_ktime_ns, origin)

    def _keep(self, span: bytes, log: bytes, now_ns: int, origin: Origin) -> None:
        size = len(span) + len(log)
        if self._size + size > MAX_CHUNK_BYTES and self._count:
            self._send()
        if not self._due_ktime_ns:
            self._due_ktime_ns = now_ns + self._delay_ns
        # Most often it is that of the record before.
        if origin is not self._origin:
            size += self._turn_to(origin)
        waiting = self._of_origin
        if span:
            waiting.spans.append(span)
        if log:
            waiting.logs.append(log)
        self._size += size
        self._count += 1
        if self._count >= self._max_records:
            self._send()

    def _turn_to(self, origin: Origin) -> int:
        """The records of `origin` come next; how many bytes that adds to what waits."""
        resource = self._resources.of(origin)
        waiting = self._by_resource.get(resource)
        added = 0
        if waiting is None:
            waiting = self._by_resource[resource] = _Waiting()
            added = 2 * (len(resource) + _GROUP_OVERHEAD)
        self._origin = origin
        self._of_origin = waiting
        return added

    def _send(self) -> None:
        waiting = list(self._by_resource.items())
        self._by_resource = {}
        self._origin = None
        self._count = self._size = self._due_ktime_ns = 0
        self._hand(Signal.TRACES, [(resource, one.spans) for resource, one in waiting if one.spans])
        self._hand(Signal.LOGS, [(resource, one.logs) for resource, one in waiting if one.logs])

    def _hand(self, signal: Signal, groups: Sequence[tuple[bytes, list[bytes]]]) -> None:
        if groups:
            count = sum(len(records) for _, records in groups)
            self._hand_over(Chunk(signal, _request(groups), count))

    def tick(self, ktime_ns: int) -> None:
        """Time has passed: what has waited long enough goes."""
        waiting = self._waiting
        while waiting and ktime_ns >= waiting[0][0]:
            _, exchange, origin = waiting.popleft()
            self._settled[exchange.connection.connection_id] = 0
            self._add(exchange, origin)
        if self._due_ktime_ns and ktime_ns >= self._due_ktime_ns:
            self._send()

    def flush(self) -> None:
        """Everything goes now."""
        while self._waiting:
            _, exchange, origin = self._waiting.popleft()
            self._add(exchange, origin)
        self._send()
