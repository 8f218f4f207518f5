"""HTTP/2 (RFC 9113) as an observer reads it; `grpc` says what it carries as calls.

Owns the protocol of one connection: what its frames do to field sections and streams. `frames`
finds frames, `fields` decodes field sections, `streams` makes exchanges. Why not the h2 library:
it is a peer, which refuses what it has not negotiated and ends with the first loss. It is the
oracle of the tests.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import Request
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http2.fields import (
    BLOCK_LIMIT,
    UNKNOWN_SIZE,
    FieldDecoder,
    Malformed,
)
from otel_tap.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PUSH_PROMISE,
    REQUESTS,
    RESPONSES,
    RST_STREAM,
    SETTINGS,
    Frame,
    FrameListener,
    FrameReader,
    block_of,
)
from otel_tap.protocols.http2.streams import Streams

__all__ = ["Http2", "Upgraded"]

_FRAME_HEADER: Final = 9
_unpack_setting: Final = struct.Struct(">HI").unpack_from
_HEADER_TABLE_SIZE: Final = 1
_STREAM_BITS: Final = 0x7FFFFFFF
# Numbers of streams that may be met behind a gap: so many more than were lost bytes for.
_SPARE_STREAMS: Final = 64
_BYTES_PER_STREAM: Final = 10  # a HEADERS frame with one field


class Upgraded(NamedTuple):
    """The HTTP/1.1 request that asked for h2c and was granted it: stream 1 (RFC 7540 3.2)."""

    request: Request
    tid: int
    start_ns: int
    end_ns: int
    reused: bool


class _Block:
    """A field section that is not whole yet."""

    __slots__ = ("begin_ns", "ends", "number", "parts", "promised", "size", "tid", "torn", "wire")

    def __init__(self, number: int, promised: int, begin_ns: int, tid: int, *, ends: bool) -> None:
        self.number = number
        self.tid = tid
        self.promised = promised  # the stream that a PUSH_PROMISE announces, 0 for HEADERS
        self.begin_ns = begin_ns
        self.ends = ends
        self.parts: list[bytes] = []
        self.size = 0
        self.wire = 0
        self.torn = False  # only the beginning is known


class _Wires(FrameListener):
    """What the frames of both sides mean."""

    __slots__ = (
        "_blocks",
        "_counters",
        "_decoders",
        "_lost",
        "_midway",
        "_streams",
        "broken",
        "readers",
    )

    def __init__(self, streams: Streams, counters: Counters) -> None:
        self._streams = streams
        self._counters = counters
        self._decoders = (FieldDecoder(), FieldDecoder())
        self._blocks: list[_Block | None] = [None, None]
        self._lost = 0
        self._midway = False
        self.broken = False
        self.readers = (
            FrameReader(self, REQUESTS, counters),
            FrameReader(self, RESPONSES, counters),
        )

    def frame(self, side: int, frame: Frame) -> None:
        """A frame that is not content."""
        kind = frame.kind
        if kind == HEADERS:
            self._block_begins(side, frame)
        elif kind == CONTINUATION:
            block = self._blocks[side]
            if block is not None:
                self._block_goes_on(side, frame, block, frame.payload)
            else:
                self._decoders[side].table.lose()  # its beginning passed unseen
        elif kind == RST_STREAM:
            code = None if frame.torn else int.from_bytes(frame.payload)
            # The rest of a frame that has begun is sent in any case (RFC 9113 8.1).
            due = side == RESPONSES and self.readers[REQUESTS].is_inside(frame.stream_id)
            self._streams.reset(frame.stream_id, code, due=due)
        elif kind == SETTINGS:
            self._settings(side, frame)
        elif kind == PUSH_PROMISE:
            if side == REQUESTS:
                raise Malformed  # RFC 9113 8.4: a client cannot push
            self._block_begins(side, frame)
        elif kind == GOAWAY and side == RESPONSES and len(frame.payload) >= 4:
            self._streams.refuse_beyond(int.from_bytes(frame.payload[:4]) & _STREAM_BITS)

    def section(self, side: int, stream_id: int, block: bytes, wire: int, *, ends: bool) -> None:
        """A field section in a frame of its own."""
        section = self._decoders[side].decode(block)
        counters = self._counters
        counters.field_blocks += 1
        if section.incomplete:
            counters.field_blocks_incomplete += 1
        reader = self.readers[side]
        streams = self._streams
        streams.tid = reader.tid
        streams.section(side, stream_id, section, reader.began_ns, wire, ends=ends)

    def content(
        self,
        side: int,
        stream_id: int,
        payload: bytes,
        at: int,
        stop: int,
        wire: int,
        *,
        ends: bool,
    ) -> None:
        """Content of a stream."""
        self._streams.content(side, stream_id, payload, at, stop, wire, ends=ends)

    def content_lost(
        self, side: int, stream_id: int, count: int, wire: int, *, ends: bool, unsure: bool
    ) -> None:
        """Content that fell into a gap."""
        self._streams.content_lost(side, stream_id, count, wire, ends=ends, unsure=unsure)

    def framing_lost(self, side: int, length: int) -> None:
        """Any frames may have passed unseen."""
        block = self._blocks[side]
        if block is not None:
            block.torn = True
            try:
                self._block_ends(side, block)
            except Malformed:
                # What is known of it is no HPACK. Its table is lost in any case.
                self._counters.messages_malformed += 1
        self._decoders[side].table.lose()
        # The settings that passed may allow the other side a larger table.
        other = self._decoders[1 - side].table
        other.bound = UNKNOWN_SIZE
        if length == 0:
            self._midway = True
        self._lost += length
        if side == RESPONSES:
            self._streams.responses_pass = True
        self._streams.hide(side)

    def is_plausible(self, stream_id: int) -> bool:
        """Whether a frame of this stream may come next, behind a gap."""
        highest = self._streams.highest
        if self._streams.is_open(stream_id) or (self._midway and highest == 0):
            return True
        # An even one is the server's: those are announced, and open.
        spare = _SPARE_STREAMS + self._lost // _BYTES_PER_STREAM
        return stream_id & 1 == 1 and stream_id <= highest + 2 * spare

    def malformed(self, side: int) -> None:  # noqa: ARG002 - the contract's
        """The connection is given up by whoever drives the readers."""
        self.broken = True

    def _block_begins(self, side: int, frame: Frame) -> None:
        part, promised = block_of(frame)
        block = _Block(
            frame.stream_id,
            promised,
            self.readers[side].began_ns,
            self.readers[side].tid,
            ends=frame.kind == HEADERS and bool(frame.flags & END_STREAM),
        )
        self._block_goes_on(side, frame, block, part)

    def _block_goes_on(self, side: int, frame: Frame, block: _Block, part: bytes) -> None:
        block.wire += _FRAME_HEADER + frame.length
        if not block.torn:
            block.torn = frame.torn or block.size + len(part) > BLOCK_LIMIT
            if block.size + len(part) <= BLOCK_LIMIT:
                block.parts.append(part)
                block.size += len(part)
        if frame.flags & END_HEADERS:
            self._block_ends(side, block)
        else:
            self._blocks[side] = block

    def _block_ends(self, side: int, block: _Block) -> None:
        self._blocks[side] = None
        section = self._decoders[side].decode(b"".join(block.parts), torn=block.torn)
        self._counters.field_blocks += 1
        if section.incomplete:
            self._counters.field_blocks_incomplete += 1
        self._streams.tid = block.tid
        if block.promised:
            self._streams.promised(block.promised, section, block.begin_ns, block.wire)
        elif block.number:
            self._streams.section(
                side, block.number, section, block.begin_ns, block.wire, ends=block.ends
            )

    def _settings(self, side: int, frame: Frame) -> None:
        if frame.flags & ACK:
            return
        table = self._decoders[1 - side].table
        if frame.torn:
            table.bound = UNKNOWN_SIZE
            return
        payload = frame.payload
        for at in range(0, len(payload), 6):
            identifier, value = _unpack_setting(payload, at)
            if identifier == _HEADER_TABLE_SIZE and table.bound != UNKNOWN_SIZE:
                # The encoder says in its stream what it uses of it; until then it may be either.
                table.bound = max(table.bound, value)


class Http2(Protocol):
    """One HTTP/2 connection; `request_direction` is the direction that carries requests.

    `upgraded`: the request that HTTP/1.1 was left with; the streams then begin behind the head of
    its response, with status 101.
    """

    __slots__ = ("_carrier", "_client", "_readers", "_request_direction", "_streams", "_wires")

    def __init__(
        self, carrier: Carrier, request_direction: Direction, upgraded: Upgraded | None = None
    ) -> None:
        super().__init__()
        self._carrier = carrier
        self._client = request_direction == Direction.EGRESS
        self._request_direction = request_direction
        self._streams = Streams(carrier, Role.CLIENT if self._client else Role.SERVER)
        self._wires = _Wires(self._streams, carrier.counters)
        self._readers = self._wires.readers
        if upgraded is not None:
            self._streams.tid = upgraded.tid
            self._streams.adopt(
                upgraded.request, upgraded.start_ns, upgraded.end_ns, reused=upgraded.reused
            )

    @property
    def busy(self) -> bool:
        """Whether an exchange is open that was not emitted."""
        return self._streams.busy

    @property
    def egress_begins_at_one(self) -> bool:
        """A client opened the connection."""
        return self._client

    def data(self, event: DataEvent) -> None:
        """The next captured bytes of one stream."""
        streams = self._streams
        direction = event.direction
        side = REQUESTS if direction == self._request_direction else RESPONSES
        streams.now_ns = event.ktime_ns
        # A write began when it was entered, a read when it returned.
        reader = self._readers[side]
        reader.data(event, event.begin_ktime_ns if direction == 1 else event.ktime_ns)
        if reader.seeking or streams.responses_pass or self._wires.broken:
            self._look(side, reader)

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """The next `length` bytes of one stream are unknown."""
        self._streams.now_ns = ktime_ns
        side = REQUESTS if direction == self._request_direction else RESPONSES
        reader = self._readers[side]
        reader.gap(length)
        self._look(side, reader)

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """A stream ended in order."""
        self._streams.now_ns = ktime_ns
        side = REQUESTS if direction == self._request_direction else RESPONSES
        self._readers[side].stop()
        self._streams.end(side)

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """Everything open ends; after a time-out the readers go on."""
        self._streams.now_ns = ktime_ns
        self._streams.finish_all(error)

    def time_out(self, ktime_ns: int, *, streams: bool) -> None:
        """A response without a known length may be silent for long."""
        self._streams.now_ns = ktime_ns
        self._streams.time_out(streams=streams)

    def under_way(self, ktime_ns: int) -> list[Exchange]:
        """The open streams, oldest first."""
        return self._streams.under_way(ktime_ns)

    def tick(self, ktime_ns: int) -> None:
        """Time has passed."""
        self._streams.tick(ktime_ns)

    def _look(self, side: int, reader: FrameReader) -> None:
        if side == RESPONSES:
            self._streams.responses_pass = reader.seeking
        if self._wires.broken:
            self._carrier.counters.opaque_malformed += 1
            self._streams.finish_all(ExchangeError.MALFORMED)
            self.successor = self._carrier.opaque
