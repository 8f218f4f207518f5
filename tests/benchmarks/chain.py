"""The bare chain by itself: `python -m tests.benchmarks.chain`, or `make bench-chain`.

Ring records of whole HTTP/1 exchanges (two events, 18 header fields, ids and dates that change) go
through ring, wire, connections, HTTP/1, pipeline and encoding to OTLP chunks. No kernel, nothing
is sent, no rights are needed. Says the least CPU per exchange of many rounds: a machine that is
busy with other things makes rounds slower, never faster.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from collections.abc import Sequence
from functools import partial

from otel_tap import connections
from otel_tap.capture import ring, wire
from otel_tap.events import Event
from otel_tap.exchange import Exchange
from otel_tap.filters import ExchangeFilter
from otel_tap.origin import Host, Origin
from otel_tap.pipeline import Pipeline
from otel_tap.privacy import Redactor
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, TelemetrySettings
from otel_tap.turn import Turn

EXCHANGES = 4000  # what the ring holds at once
ROUNDS = 15
SIZE = 8 * 1024 * 1024
TGID = 4242
_BATCH = 2048  # records that the agent takes at once
_SINCE_NS = 10**9
_FIXED = b"".join(b"X-Field-%d: a value of field %d\r\n" % (one, one) for one in range(6))


class NoWait:
    """Stands in for epoll, which takes no plain files."""

    def register(self, *_: object) -> None:
        """Nothing ever wakes us."""

    def close(self) -> None:
        """Nothing was opened."""


class OneOrigin:
    """Every process is this one."""

    def __init__(self) -> None:
        host = Host("bench", None, "00000000-0000-4000-8000-000000000000", "amd64", "linux", "6.1")
        self._origin = Origin(
            TGID, 1, 1, 1, "shop", "/usr/bin/shop", "shop", None, "shop", None, "shop", (), host
        )

    def process_started(self, event: object) -> None:
        """It is known."""

    def met(self, tgid: int, ktime_ns: int) -> Origin:
        """It is known."""
        return self._origin

    def origin(self, tgid: int) -> Origin:
        """It is known."""
        return self._origin

    def process_exited(self, tgid: int) -> None:
        """It is never forgotten."""


def _opened() -> bytes:
    local, peer = (b"\0" * 10 + b"\xff\xff" + bytes(one) for one in ((10, 0, 0, 1), (10, 0, 0, 2)))
    return wire.OPENED_RECORD.pack(
        wire.OPENED, TGID, _SINCE_NS, 7, 7, local, peer, 40000, 80, 1, 2, 5, 0, 1, 1, 1, 0,
        0, 1,
    )  # fmt: skip


def _data(now: int, offset: int, payload: bytes, direction: int) -> bytes:
    return (
        wire.DATA_RECORD.pack(
            wire.DATA, TGID, now, now - 500, 7, offset, -1, 11, len(payload), len(payload),
            direction, 0,
        )
        + payload
    )  # fmt: skip


def records() -> list[bytes]:
    """One client's keep-alive connection: request and response in turn."""
    made = [_opened()]
    sent, received, now = 1, 0, _SINCE_NS
    for number in range(EXCHANGES):
        request = (
            b"GET /api/v1/items/%d?page=%d HTTP/1.1\r\nHost: shop.example.com\r\n"
            b"User-Agent: curl/8.5.0\r\nAccept: */*\r\nX-Request-Id: %032x\r\n"
            b"Cookie: session=%d\r\n%b\r\n" % (number, number, number * 7919, number, _FIXED[:62])
        )
        response = (
            b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 01 Jan 2024 00:00:%02d GMT\r\n"
            b"Content-Type: application/json\r\nContent-Length: 120\r\nX-Request-Id: %032x\r\n"
            b"%b\r\n" % (number // 100 % 60, number * 7919, _FIXED)
        ) + b"x" * 120
        now += 10_000
        made.append(_data(now, sent, request, 1))
        made.append(_data(now + 5_000, received, response, 0))
        sent += len(request)
        received += len(response)
    return made


def ring_file(payloads: Sequence[bytes]) -> int:
    """A file laid out as the kernel lays out a ring buffer with these records in it."""
    page = mmap.PAGESIZE
    fd = os.memfd_create("ring")
    os.ftruncate(fd, 2 * page + SIZE)
    at = 0
    with mmap.mmap(fd, 2 * page + SIZE) as memory:
        for payload in payloads:
            begin = 2 * page + at
            struct.pack_into("=II", memory, begin, len(payload), 0)
            memory[begin + 8 : begin + 8 + len(payload)] = payload
            at += (len(payload) + 8 + 7) & ~7
        struct.pack_into("=Q", memory, page, at)
    return fd


def _rewind(fd: int) -> None:
    os.pwrite(fd, bytes(8), 0)


def _drained(source: ring.Ring) -> tuple[float, list[Event]]:
    start = time.process_time()
    taken: list[Event] = []
    while more := source.drain(wire.decode_at, _BATCH):
        taken += more
    return time.process_time() - start, taken


def _through(events: Sequence[Event], *, encoding: bool) -> tuple[float, int]:
    identities = Identities("00000000-0000-4000-8000-000000000000")
    redactor = Redactor()
    chunks: list[Chunk] = []
    encoder = RecordEncoder(TelemetrySettings(), identities, 0, redactor)
    batcher = Batcher(encoder, chunks.append)
    exchanges = 0

    def count(_exchange: Exchange, _origin: Origin) -> None:
        nonlocal exchanges  # none is kept, as in the agent
        exchanges += 1

    def count_turn(_turn: Turn, _origin: Origin) -> None:
        nonlocal exchanges
        exchanges += 1

    pipeline = Pipeline(
        body_limit=0,
        idle_timeout_ns=60_000_000_000,
        origins=OneOrigin(),
        exchange_filter=ExchangeFilter({}, {}),
        redactor=redactor,
        takers=(),
        encoders=(batcher.add,) if encoding else (count,),
        take_turn=batcher.add_turn if encoding else count_turn,
        on_end_met=identities.client_ends.add,
    )
    start = time.process_time()
    for begin in range(0, len(events), _BATCH):
        pipeline.handle_all(events[begin : begin + _BATCH])
    batcher.tick(events[-1].ktime_ns + 2_000_000_000)
    took = time.process_time() - start
    spans = sum(chunk.record_count for chunk in chunks) // 2 if encoding else exchanges
    return took, spans


def main() -> None:
    """Print where the time goes."""
    select.epoll = NoWait  # type: ignore[assignment,misc]
    fd = ring_file(records())
    source = ring.Ring(fd, SIZE)
    least = {"ring and wire": 9e9, "connections, HTTP/1, pipeline": 9e9, "with encoding": 9e9}
    for _ in range(ROUNDS):
        _rewind(fd)
        took, events = _drained(source)
        for name, run in (
            ("ring and wire", lambda took=took: (took, EXCHANGES)),
            ("connections, HTTP/1, pipeline", partial(_through, events, encoding=False)),
            ("with encoding", partial(_through, events, encoding=True)),
        ):
            seconds, count = run()
            if count != EXCHANGES:
                raise RuntimeError(f"{name}: {count} of {EXCHANGES} exchanges came out")
            least[name] = min(least[name], seconds)
    source.close()
    print(f"{'compiled' if connections.__file__.endswith('.so') else 'pure'}, us per exchange:")
    least["redaction, encoding, batching"] = (
        least.pop("with encoding") - least["connections, HTTP/1, pipeline"]
    )
    for name, seconds in least.items():
        print(f"  {name:32} {seconds / EXCHANGES * 1e6:6.2f}")
    print(f"  {'in all':32} {sum(least.values()) / EXCHANGES * 1e6:6.2f}")


if __name__ == "__main__":
    main()
