"""Protocols: what reads the two streams of one connection and makes exchanges of them.

Owns the contract between a connection and whatever protocol it speaks. A protocol is pure: bytes
and gaps in, exchanges out, time only from its arguments. It must not know sockets, processes or
where exchanges go. It may carry any number of concurrent exchanges.

A connection begins with `detection.Detection` and hands its streams to `Protocol.successor`
whenever one is set: HTTP/1, HTTP/2, WebSocket, or `Opaque` for what is not read any further.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Connection, Exchange, ExchangeError
from otel_tap.protocols.content import ContentRules
from otel_tap.protocols.counters import Counters
from otel_tap.turn import Turn

Spare = Callable[[int, Direction, int, int], None]
"""Takes a connection id, a direction, and the stream offsets [begin, end) that nobody needs."""


class Carrier:
    """What a protocol may know of the connection that carries it.

    `connection` is replaced when more is learned; a protocol reads it when it emits. `opaque` is
    the successor to choose when the streams are not to be read any further. `spare` takes the
    id of the connection and a range of offsets of one of its streams that need not be copied.
    `detect` makes who finds out what is spoken inside a tunnel through the connection.
    `content_rules` choose exchanges whose contents are read while they flow. `deliver_turn` takes
    exchanges that are turns; None where all are to be delivered in full.
    """

    __slots__ = (
        "body_limit",
        "connection",
        "content_rules",
        "counters",
        "deliver",
        "deliver_turn",
        "detect",
        "exchange_count",
        "opaque",
        "spare",
        "tunnels",
    )

    def __init__(
        self,
        connection: Connection,
        counters: Counters,
        body_limit: int,
        deliver: Callable[[Exchange], None],
        opaque: Protocol,
        spare: Spare | None = None,
        detect: Callable[[Carrier], Protocol] | None = None,
        content_rules: ContentRules | None = None,
        deliver_turn: Callable[[Turn], None] | None = None,
    ) -> None:
        self.connection = connection
        self.counters = counters
        self.body_limit = body_limit
        self.deliver = deliver
        self.deliver_turn = deliver_turn
        self.opaque = opaque
        self.spare = spare
        self.detect = detect
        self.tunnels = 0  # that lead through this connection, one inside the other
        self.content_rules = content_rules
        self.exchange_count = 0  # begun so far, over all protocols of the connection


class Protocol:
    """Reads both streams of one connection.

    After every call the connection looks at `successor`; when it is set, the successor gets all
    later calls. `busy` says whether an exchange is open.
    """

    __slots__ = ("successor",)

    def __init__(self) -> None:
        self.successor: Protocol | None = None

    @property
    def busy(self) -> bool:
        """Whether an exchange is open that was not emitted yet."""
        return False

    @property
    def egress_begins_at_one(self) -> bool:
        """Whether a TCP egress stream is numbered from 1: the process opened the connection."""
        return True

    def data(self, event: DataEvent) -> None:
        """The next captured bytes of one stream: exactly `event.payload`."""
        raise NotImplementedError

    def take(
        self,
        memory: mmap.mmap | bytes,  # noqa: ARG002 - for others
        begin: int,  # noqa: ARG002
        end: int,  # noqa: ARG002
        direction: int,  # noqa: ARG002
        ktime_ns: int,  # noqa: ARG002
        begin_ktime_ns: int,  # noqa: ARG002
        offset: int,  # noqa: ARG002
        tcp_position: int,  # noqa: ARG002
        tid: int,  # noqa: ARG002
    ) -> bool:
        """The next captured bytes of one stream, `memory[begin:end]`, where they lie.

        The short way, without an event: the other arguments are its. False where nothing was done,
        and `data` is to get them.
        """
        return False

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """The next `length` bytes of a stream are unknown.

        A length of 0 says that the stream is met midway: what came before was never seen.
        """
        raise NotImplementedError

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """A stream ended in order; no byte of it follows."""
        raise NotImplementedError

    def finish(self, ktime_ns: int, error: ExchangeError) -> None:
        """Both streams ended in order; what needed more bytes is emitted with `error`."""
        self.abort(ktime_ns, error)

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """Emit all that is open, with `error`. Bytes may follow after a time-out only."""
        raise NotImplementedError

    def time_out(self, ktime_ns: int, *, streams: bool) -> None:  # noqa: ARG002 - for others
        """Nothing moved for the idle limit: what waits is over.

        `streams`: nor for the limit of responses whose end only their end tells; before that, such
        a response goes on.
        """
        self.abort(ktime_ns, ExchangeError.TIMEOUT)

    def under_way(self, ktime_ns: int) -> list[Exchange]:  # noqa: ARG002 - for others
        """The open exchanges as they are now, without an effect; `ktime_ns` is now."""
        return []

    def tick(self, ktime_ns: int) -> None:
        """Time has passed, about a second since the last call."""


class Opaque(Protocol):
    """Counts bytes and reads nothing: one instance serves all connections."""

    __slots__ = ("_counters",)

    def __init__(self, counters: Counters) -> None:
        super().__init__()
        self._counters = counters

    def data(self, event: DataEvent) -> None:
        """Count."""
        self._counters.opaque_bytes += len(event.payload)

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """Nothing is lost where nothing is read."""

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """Nothing is open."""

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """Nothing is open."""
