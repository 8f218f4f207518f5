"""One direction of HTTP/2 as frames (RFC 9113, 4 and 6): bytes and gaps in, frames out.

Owns where frames begin and end. Promises: any chunking gives the same frames; a gap inside a frame
costs just that frame's bytes; behind any other gap frames are found again only where the payload
of an event begins with them (`plausible`), never by searching. It must not know what frames mean,
but for the rules by which bytes are seen not to be HTTP/2.

Content is passed on in the pieces in which it came, other frames whole. Frames that say nothing of
exchanges (windows, priorities, pings, unknown types) are counted over.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from otel_tap.events import DataEvent
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http2.fields import BLOCK_LIMIT, Malformed

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

REQUESTS: Final = 0
RESPONSES: Final = 1

_HEADER_SIZE: Final = 9
_unpack_header: Final = struct.Struct(">HBBBI").unpack_from
_STREAM_BITS: Final = 0x7FFFFFFF
# Types whose length is fixed, and types of a stream or of the connection (RFC 9113 6).
_LENGTHS: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION = (SETTINGS, PING, GOAWAY)
_OF_STREAM = (DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION)
_FLAGS = (
    END_STREAM | PADDED,
    END_STREAM | END_HEADERS | PADDED | HAS_PRIORITY,
    0,
    0,
    ACK,
    END_HEADERS | PADDED,
    ACK,
    0,
    0,
    END_HEADERS,
)
_WANTED: Final = frozenset({HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION})
# Those of a HEADERS frame that holds more or less than a section.
_SECTION_FLAGS: Final = END_HEADERS | PADDED | HAS_PRIORITY
_WITH_BLOCK = (HEADERS, PUSH_PROMISE, CONTINUATION)

_SEEK: Final = 0
_PREFACE: Final = 1
_FRAMES: Final = 2
_DONE: Final = 3

_PAD_UNREAD: Final = -1
_PAD_LOST: Final = -2


class Frame(NamedTuple):
    """A frame that is not content. `payload` is shorter than `length` if its end is not known."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes
    length: int

    @property
    def torn(self) -> bool:
        """Whether its end is missing."""
        return len(self.payload) < self.length


class FrameListener:
    """Who is told of the frames of one connection; `side` is REQUESTS or RESPONSES.

    What it cannot take raises `Malformed`.
    """

    __slots__ = ()

    def frame(self, side: int, frame: Frame) -> None:
        """A frame that is neither content nor a `section`."""
        raise NotImplementedError

    def section(self, side: int, stream_id: int, block: bytes, wire: int, *, ends: bool) -> None:
        """A HEADERS frame of `wire` bytes with a whole field section and nothing else: most are."""
        raise NotImplementedError

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
        """Content is `payload[at:stop]`; with framing and padding `wire` bytes moved for it.

        `ends`: it is the last of its message.
        """
        raise NotImplementedError

    def content_lost(
        self, side: int, stream_id: int, count: int, wire: int, *, ends: bool, unsure: bool
    ) -> None:
        """`count` bytes of content fell into a gap; `unsure`: or fewer, the rest being padding."""
        raise NotImplementedError

    def framing_lost(self, side: int, length: int) -> None:
        """Any frames may have passed unseen; `length` bytes of them, 0: an unknown number."""
        raise NotImplementedError

    def is_plausible(self, stream_id: int) -> bool:
        """Whether a frame of this stream may come next, behind a gap."""
        raise NotImplementedError

    def malformed(self, side: int) -> None:
        """These bytes are not HTTP/2."""
        raise NotImplementedError


def valid(length: int, kind: int, flags: int, stream_id: int) -> bool:
    """Whether RFC 9113 allows such a header at all."""
    if kind in _OF_STREAM:
        if stream_id == 0:
            return False
    elif kind in _OF_CONNECTION and stream_id != 0:
        return False
    if kind == SETTINGS:
        return length == 0 if flags & ACK else length % 6 == 0
    if kind == GOAWAY:
        return length >= 8
    return _LENGTHS.get(kind, length) == length


def frames_at(payload: bytes, at: int = 0) -> list[Frame] | None:
    """The frames of defined types that `payload` consists of; the last may be torn.

    None if anything in it cannot be a frame as senders make them, or not even one header is there.
    """
    frames: list[Frame] = []
    size = len(payload)
    continued = 0
    while size - at >= _HEADER_SIZE:
        high, low, kind, flags, stream_id = _unpack_header(payload, at)
        length = high << 8 | low
        if (
            kind > CONTINUATION
            or flags & ~_FLAGS[kind]
            or stream_id > _STREAM_BITS
            or not valid(length, kind, flags, stream_id)
            or (continued and (kind != CONTINUATION or stream_id != continued))
            or (kind == CONTINUATION and not continued and frames)
        ):
            return None
        if kind in _WITH_BLOCK:
            continued = 0 if flags & END_HEADERS else stream_id
        at += _HEADER_SIZE
        frames.append(Frame(kind, flags, stream_id, payload[at : at + length], length))
        at += length
    return frames or None


def plausible(payload: bytes, listener: FrameListener) -> bool:
    """Whether frames begin with this payload, so that framing can be taken up again.

    Two consecutive headers that are valid and name streams that there may be; or a single one
    whose length, 24 bits, is just that of the payload: what a frame written alone looks like.
    """
    frames = frames_at(payload)
    if frames is None:
        return False
    if len(frames) < 2 and len(payload) != _HEADER_SIZE + frames[0].length:
        return False
    return all(frame.stream_id == 0 or listener.is_plausible(frame.stream_id) for frame in frames)


def block_of(frame: Frame) -> tuple[bytes, int]:
    """The part of a field block in a frame, without padding and priority, and the promised stream.

    Raises `Malformed`.
    """
    payload = frame.payload
    if frame.kind == CONTINUATION:
        return payload, 0
    if frame.kind == HEADERS and not frame.flags & (PADDED | HAS_PRIORITY):
        return payload, 0
    at = 0
    stop = frame.length
    if frame.flags & PADDED:
        if not payload:
            return _nothing(frame)
        at = 1
        stop -= payload[0]
    promised = 0
    if frame.kind == PUSH_PROMISE:
        if len(payload) < at + 4:
            return _nothing(frame)
        promised = int.from_bytes(payload[at : at + 4]) & _STREAM_BITS
        at += 4
    elif frame.flags & HAS_PRIORITY:
        at += 5
    if at > stop:
        raise Malformed
    return payload[at:stop], promised


def _nothing(frame: Frame) -> tuple[bytes, int]:
    if frame.torn:
        return b"", 0
    raise Malformed


class FrameReader:
    """The frames of one direction. `began_ns` and `tid` are those of the current frame."""

    __slots__ = (
        "_buffer",
        "_continued",
        "_counters",
        "_extra",
        "_flags",
        "_guessed",
        "_held",
        "_kind",
        "_length",
        "_listener",
        "_pad",
        "_rest",
        "_side",
        "_state",
        "_stream_id",
        "_torn",
        "began_ns",
        "seeking",
        "tid",
    )

    def __init__(self, listener: FrameListener, side: int, counters: Counters) -> None:
        self._listener = listener
        self._side = side
        self._counters = counters
        self._state = _PREFACE if side == REQUESTS else _FRAMES
        self._guessed = False  # framing was lost once, and taken up where it seemed to be
        self._held = bytearray()  # of the preface or a header
        self._buffer = bytearray()  # of a payload
        self._kind = SETTINGS
        self._flags = 0
        self._stream_id = 0
        self._length = 0
        self._rest = 0  # bytes of the current frame that are due
        self._pad = 0  # the last so many of them are padding
        self._extra = 0  # bytes of framing not told yet
        self._torn = False
        self._continued = 0  # the stream of which a CONTINUATION must follow
        self.began_ns = 0
        self.tid = 0
        self.seeking = False  # framing is lost

    def data(self, event: DataEvent, begin_ktime_ns: int) -> None:
        """The next bytes of the stream."""
        state = self._state
        payload = event.payload
        if state == _SEEK:
            if not plausible(payload, self._listener):
                self._counters.skipped_bytes += len(payload)
                self._listener.framing_lost(self._side, len(payload))
                return
            self._state = state = _FRAMES
            self.seeking = False
            self._guessed = True
            self._continued = 0
        elif state == _DONE:
            return
        try:
            at = 0
            if state == _PREFACE:
                at = self._read_preface(payload)
            self._read(event, payload, at, begin_ktime_ns)
        except Malformed:
            self._fail()

    def gap(self, length: int) -> None:
        """The next `length` bytes are unknown; 0: the stream is met midway."""
        state = self._state
        if state == _DONE:
            return
        rest = self._rest
        try:
            if rest and length:
                self._lose_inside(min(rest, length))
                if length <= rest:
                    return
        except Malformed:
            self._fail()
            return
        self._lose(length)

    def is_inside(self, stream_id: int) -> bool:
        """Whether a part of a frame of this stream is still due."""
        return self._rest > 0 and self._stream_id == stream_id

    def stop(self) -> None:
        """No frame follows."""
        self._state = _DONE
        self.seeking = False

    def _lose(self, length: int) -> None:
        self._state = _SEEK
        self.seeking = True
        self._rest = 0
        self._continued = 0
        self._held.clear()
        self._buffer = bytearray()
        self._torn = False
        self._listener.framing_lost(self._side, length)

    def _fail(self) -> None:
        self._counters.messages_malformed += 1
        if self._guessed:
            self._lose(0)
        else:
            self._state = _DONE
            self._listener.malformed(self._side)

    def _read_preface(self, payload: bytes) -> int:
        held = self._held
        before = len(held)
        held += payload[: len(PREFACE) - before]
        if not PREFACE.startswith(held):
            raise Malformed
        at = len(held) - before
        if len(held) == len(PREFACE):
            held.clear()
            self._state = _FRAMES
        return at

    def _read(self, event: DataEvent, payload: bytes, at: int, begin_ns: int) -> None:
        size = len(payload)
        held = self._held
        # Compiled, numbers of unknown types are slow.
        high: int
        low: int
        kind: int
        flags: int
        stream_id: int
        while at < size:
            if self._rest:
                at = self._read_payload(payload, at, size)
                continue
            if held:
                need = _HEADER_SIZE - len(held)
                held += payload[at : at + need]
                at += need
                if len(held) < _HEADER_SIZE:
                    return
                high, low, kind, flags, stream_id = _unpack_header(held)
                held.clear()
            else:
                self.began_ns = begin_ns
                self.tid = event.tid
                if size - at < _HEADER_SIZE:
                    held += payload[at:]
                    return
                high, low, kind, flags, stream_id = _unpack_header(payload, at)
                at += _HEADER_SIZE
            length = high << 8 | low
            stream_id &= _STREAM_BITS
            if (kind > HEADERS or not stream_id) and not valid(length, kind, flags, stream_id):
                raise Malformed
            continued = self._continued
            if continued:
                if kind != CONTINUATION or stream_id != continued:
                    raise Malformed
            elif kind == CONTINUATION and not self._guessed:
                raise Malformed
            self._continued = 0
            if kind in _WITH_BLOCK and not flags & END_HEADERS:
                self._continued = stream_id
            stop = at + length
            if kind == DATA:
                if length == 0 or (stop <= size and not flags & PADDED):
                    self._listener.content(
                        self._side,
                        stream_id,
                        payload,
                        at,
                        stop,
                        _HEADER_SIZE + length,
                        ends=flags & END_STREAM != 0,
                    )
                    at = stop
                    continue
                self._extra = _HEADER_SIZE
                self._pad = _PAD_UNREAD if flags & PADDED else 0
            elif kind in _WANTED and stop <= size:
                part = payload[at:stop]
                at = stop
                if kind == HEADERS:
                    self._tell_headers(flags, stream_id, part, length)
                else:
                    self._listener.frame(self._side, Frame(kind, flags, stream_id, part, length))
                continue
            self._kind = kind
            self._flags = flags
            self._stream_id = stream_id
            self._length = self._rest = length

    def _read_payload(self, payload: bytes, at: int, size: int) -> int:
        kind = self._kind
        if kind == DATA:
            return self._read_content(payload, at, size)
        count = min(self._rest, size - at)
        self._rest -= count
        if kind in _WANTED:
            buffer = self._buffer
            if not self._torn:
                buffer += payload[at : at + min(count, BLOCK_LIMIT - len(buffer))]
            if self._rest == 0:
                self._pass_on()
        return at + count

    def _pass_on(self) -> None:
        payload = bytes(self._buffer)
        self._buffer = bytearray()
        self._torn = False
        kind, flags, stream_id, length = self._kind, self._flags, self._stream_id, self._length
        if kind == HEADERS:
            self._tell_headers(flags, stream_id, payload, length)
        else:
            self._listener.frame(self._side, Frame(kind, flags, stream_id, payload, length))

    def _tell_headers(self, flags: int, stream_id: int, payload: bytes, length: int) -> None:
        if flags & _SECTION_FLAGS == END_HEADERS and len(payload) == length:
            self._listener.section(
                self._side, stream_id, payload, _HEADER_SIZE + length, ends=flags & END_STREAM != 0
            )
        else:
            self._listener.frame(self._side, Frame(HEADERS, flags, stream_id, payload, length))

    def _read_content(self, payload: bytes, at: int, size: int) -> int:
        if self._pad == _PAD_UNREAD:
            self._pad = payload[at]
            at += 1
            self._rest -= 1
            self._extra += 1
            if self._pad > self._rest:
                raise Malformed
            if self._rest and at == size:
                return at
        rest = self._rest
        count = min(rest, size - at)
        self._rest = rest - count
        wire = count + self._extra
        self._extra = 0
        ends = count == rest and bool(self._flags & END_STREAM)
        if self._pad == _PAD_LOST:
            self._listener.content_lost(
                self._side, self._stream_id, 0, wire, ends=ends, unsure=True
            )
        else:
            stop = at + max(0, min(count, rest - self._pad))
            self._listener.content(self._side, self._stream_id, payload, at, stop, wire, ends=ends)
        return at + count

    def _lose_inside(self, count: int) -> None:
        rest = self._rest
        self._rest = rest - count
        if self._kind == DATA:
            if self._pad == _PAD_UNREAD:
                self._pad = _PAD_LOST
            unsure = self._pad == _PAD_LOST
            content = count if unsure else max(0, min(count, rest - self._pad))
            wire = count + self._extra
            self._extra = 0
            ends = count == rest and bool(self._flags & END_STREAM)
            self._listener.content_lost(
                self._side, self._stream_id, content, wire, ends=ends, unsure=unsure
            )
        elif self._kind in _WANTED:
            self._torn = True
            if self._rest == 0:
                self._pass_on()
