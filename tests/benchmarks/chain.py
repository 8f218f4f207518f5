"""The bare chain by itself: `python -m tests.benchmarks.chain`, or `make bench-chain`.

Ring records of whole HTTP/1 exchanges as `programs/varied.c` makes them, at the server's end of 20
connections, go from the ring to OTLP chunks: once as turns, which is how most of them go, and once
as exchanges, which is how all else goes. No kernel, nothing is sent, no rights are needed. Says
the least CPU per exchange of many rounds: a machine that is busy with other things makes rounds
slower, never faster.
"""

from __future__ import annotations

import mmap
import os
import random
import select
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from otel_tap import connections
from otel_tap.capture import ring, wire
from otel_tap.exchange import Exchange
from otel_tap.filters import ExchangeFilter
from otel_tap.origin import Host, Origin
from otel_tap.pipeline import Pipeline
from otel_tap.privacy import Redactor
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, TelemetrySettings
from otel_tap.turn import Turn

EXCHANGES = 5000  # what the ring holds at once
WARM_UP = 1000  # of them, which are not measured: the first of each connection are odd
CONNECTIONS = 20
ROUNDS = 15
SIZE = 16 * 1024 * 1024
TGID = 4242
_BATCH = 256  # records that the agent takes at once
_SINCE_NS = 10**9
_BETWEEN_NS = 500_000
_TICK_NS = 100_000_000


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


def _opened(number: int) -> bytes:
    local = peer = b"\0" * 10 + b"\xff\xff" + bytes((127, 0, 0, 1))
    return wire.OPENED_RECORD.pack(
        wire.OPENED, TGID, _SINCE_NS, number, number, local, peer, 8080, 40_000 + number,
        1000 + number, 2000 + number, 5, 0, 1, 1, 1, 0, 0, 0,
    )  # fmt: skip


def _data(now: int, number: int, offset: int, payload: bytes, direction: int) -> bytes:
    return (
        wire.DATA_RECORD.pack(
            wire.DATA, TGID, now, now - 500, number, offset, -1, 11, len(payload), len(payload),
            direction, 0,
        )
        + payload
    )  # fmt: skip


class _Varied:
    """What differs from request to request; the same in every run."""

    def __init__(self) -> None:
        self._dice = random.Random(1)

    def _hex(self, digits: int) -> str:
        return f"{self._dice.getrandbits(4 * digits):0{digits}x}"

    def request(self) -> bytes:
        dice = self._dice
        return (
            f"GET /shop/{dice.choice(('items', 'users', 'carts'))}/{dice.randrange(10**6)}"
            f"?page={dice.randrange(100)}&sort=name HTTP/1.1\r\n"
            f"Host: shop.example:8080\r\nUser-Agent: varied/1.{dice.randrange(5)}\r\n"
            f"Accept: application/json\r\nAuthorization: Bearer {self._hex(48)}\r\n"
            f"Cookie: session={self._hex(32)}; theme=dark\r\nX-Request-Id: {self._hex(32)}\r\n"
            f"traceparent: 00-{self._hex(32)}-{self._hex(16)}-01\r\n\r\n"
        ).encode()

    def answer(self, number: int) -> bytes:
        length = 900 + self._dice.randrange(200)
        return (
            f"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:{number // 2000 % 60:02} GMT\r\n"
            f"Server: varied\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
            f'ETag: "{self._hex(32)}"\r\nSet-Cookie: seen={self._hex(16)}; Path=/\r\n\r\n'
        ).encode() + b"x" * length


def records() -> list[bytes]:
    """Requests and responses in turn, on one connection after another."""
    varied = _Varied()
    made = [_opened(number) for number in range(1, CONNECTIONS + 1)]
    offsets = [[0, 0] for _ in range(CONNECTIONS + 1)]
    now = _SINCE_NS
    for count in range(EXCHANGES):
        number = 1 + count % CONNECTIONS
        now += _BETWEEN_NS
        for direction, payload in enumerate((varied.request(), varied.answer(count))):
            offset = offsets[number][direction]
            made.append(_data(now + direction * 50_000, number, offset, payload, direction))
            offsets[number][direction] = offset + len(payload)
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
        if at > SIZE:
            raise ValueError(f"{at} bytes do not fit into the ring")
        struct.pack_into("=Q", memory, page, at)
    return fd


@dataclass
class _Way:
    """How exchanges go, and what it took, seconds."""

    turns: bool
    encoding: bool
    least_s: float = 9e9

    def run(self, source: ring.Ring) -> None:
        """Everything that is in the ring."""
        identities = Identities("00000000-0000-4000-8000-000000000000")
        redactor = Redactor()
        chunks: list[Chunk] = []
        encoder = RecordEncoder(TelemetrySettings(), identities, 0, redactor)
        batcher = Batcher(encoder, chunks.append)
        seen = 0

        def count(_one: Exchange | Turn, _origin: Origin) -> None:
            nonlocal seen  # none is kept, as in the agent
            seen += 1

        take_turn = batcher.add_turn if self.encoding else count
        pipeline = Pipeline(
            body_limit=0,
            idle_timeout_ns=60_000_000_000,
            origins=OneOrigin(),
            exchange_filter=ExchangeFilter({"pid": [str(TGID)]}, {}),
            redactor=redactor,
            takers=(),
            encoders=(batcher.add if self.encoding else count,),
            on_end_met=identities.client_ends.add,
            take_turn=take_turn if self.turns else None,
        )

        def handle(memory: mmap.mmap | bytes, at: int, size: int) -> bool:
            pipeline.handle(wire.decode_at(memory, at, size))
            return True

        begun, warm, ticked = 0.0, 0, 0
        while source.feed(pipeline.take, handle, _BATCH):
            now = pipeline.taken_ktime_ns
            if now - ticked >= _TICK_NS:
                pipeline.tick(now)
                batcher.tick(now)
                ticked = now
            if not warm and pipeline.exchange_count >= WARM_UP:
                begun, warm = time.process_time(), pipeline.exchange_count
        took = time.process_time() - begun
        batcher.flush()
        done = sum(chunk.record_count for chunk in chunks) // 2 if self.encoding else seen
        if done != EXCHANGES:
            raise RuntimeError(f"{done} of {EXCHANGES} exchanges came out")
        self.least_s = min(self.least_s, took / (EXCHANGES - warm))


def main() -> None:
    """Print where the time goes."""
    select.epoll = NoWait  # type: ignore[assignment,misc]
    fd = ring_file(records())
    source = ring.Ring(fd, SIZE)
    ways = {
        name: (_Way(turns, encoding=False), _Way(turns, encoding=True))
        for name, turns in (("as turns", True), ("as exchanges", False))
    }
    for _ in range(ROUNDS):
        for pair in ways.values():
            for way in pair:
                os.pwrite(fd, bytes(8), 0)  # to the beginning of the ring
                way.run(source)
    source.close()
    kind = "compiled" if connections.__file__.endswith(".so") else "pure"
    print(f"{kind}, us per exchange: ring to HTTP/1, redaction and encoding, in all")
    for name, (read, encoded) in ways.items():
        figures = (read.least_s, encoded.least_s - read.least_s, encoded.least_s)
        print(f"  {name:14}" + "".join(f"{figure * 1e6:8.2f}" for figure in figures))


if __name__ == "__main__":
    main()
