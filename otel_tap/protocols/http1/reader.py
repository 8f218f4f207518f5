"""One direction of HTTP/1: bytes and gaps in, messages out (RFC 9112, sections 6 to 8).

Owns framing: where a message begins and ends, and which of its bytes are content. Promises: any
chunking gives the same messages; any bytes give messages or one `malformed`; a gap inside a body
whose length is known costs its bytes only. Content beyond the body limit is counted, not copied.
It must not know the other direction but for what `Listener.response_begins` answers.

States: SEEK skips events until one begins with a start line. START is between messages. HEAD and
the line states buffer an unfinished line or section. FIXED and CHUNK_DATA know how many bytes
follow. HOLD follows a request to switch protocols, until its response decides. DONE is final.
"""

from __future__ import annotations

from typing import Final

from otel_tap.events import DataEvent
from otel_tap.exchange import ExchangeError
from otel_tap.messages import EMPTY_BODY, Body, Field
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http1.ambiguity import (
    BAD_CHUNK,
    BARE_CR,
    BARE_LF,
    NO_WORDS,
    SPACE_IN_CHUNK_SIZE,
    with_word,
)
from otel_tap.protocols.http1.head import (
    HEAD_LIMIT,
    HeadParser,
    Malformed,
)
from otel_tap.protocols.http1.listener import Listener
from otel_tap.protocols.http2.grpc import Messages
from otel_tap.protocols.reading import ContentReader

SEEK: Final = 0
HOLD: Final = 1
START: Final = 2
HEAD: Final = 3
FIXED: Final = 4
CHUNK_SIZE: Final = 5
CHUNK_DATA: Final = 6
CHUNK_END: Final = 7
TRAILERS: Final = 8
UNTIL_CLOSE: Final = 9
DONE: Final = 10

# The rest of a content that is not kept is not copied either, when it is as long as this: a
# shorter one is over before the kernel side knows.
_SPARE_FROM: Final = 256 * 1024

_CHUNK_LINE_LIMIT: Final = 16 * 1024  # bytes of a chunk-size line with its extensions

_CHUNK_DIGITS: Final = 15  # hexadecimal ones that count; more than fits into 63 bits is no size

_STATUS_LINE_SIZE: Final = len(b"HTTP/1.1 200 ")

_CR: Final = 13
_LF: Final = 10


class MessageReader:
    """The framing that requests and responses share."""

    __slots__ = (
        "_ambiguity",
        "_body_limit",
        "_body_size",
        "_buffer",
        "_counters",
        "_fields",
        "_first_begin_ns",
        "_head_is_cut",
        "_heads",
        "_listener",
        "_lost",
        "_messages",
        "_parts",
        "_reading",
        "_remaining",
        "_room",
        "_spared",
        "_state",
        "_tid",
        "_trailers",
        "_unsure",
        "_wire",
        "begin_ktime_ns",
        "failed",
        "ktime_ns",
    )

    def __init__(
        self, listener: Listener, heads: HeadParser, counters: Counters, body_limit: int
    ) -> None:
        self._listener = listener
        self._heads = heads
        self._counters = counters
        self._body_limit = body_limit
        self.ktime_ns = 0  # of the last byte or gap
        self.begin_ktime_ns = 0  # entry of the call that moved it
        self.failed = False  # met bytes that are not HTTP/1, or whose end nobody can say
        self._state = START
        self._buffer = bytearray()
        self._first_begin_ns = 0
        self._tid = 0
        self._unsure = False  # the body may be absent: the request is unknown
        self._spared = False  # the rest of this content was said not to be needed
        self._clear()

    def _clear(self) -> None:
        self._fields: tuple[Field, ...] = ()
        self._trailers: tuple[Field, ...] = ()
        self._head_is_cut = False  # fields may have followed those that are known
        self._parts: list[bytes] | None = None
        self._reading: ContentReader | None = None
        self._room = self._body_limit
        self._body_size = 0
        self._remaining = 0
        self._wire = 0
        self._lost = 0
        self._ambiguity = NO_WORDS
        self._messages: Messages | None = None  # of a gRPC call, who counts them

    @property
    def amid_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return HEAD <= self._state <= UNTIL_CLOSE

    @property
    def at_rest(self) -> bool:
        """Whether the next byte begins a message."""
        return self._state == START

    @property
    def open_ended(self) -> bool:
        """Whether content is under way of which nobody knows how much there will be."""
        return CHUNK_SIZE <= self._state <= UNTIL_CLOSE

    # What a direction adds to the framing.

    def _begins(self, payload: bytes, at: int) -> bool:
        raise NotImplementedError

    def _first_byte(self, event: DataEvent, at: int) -> None:
        raise NotImplementedError

    def _may_begin_head(self, head: bytearray) -> bool:  # noqa: ARG002 - for responses
        """Whether what is there of a head can be the beginning of one."""
        return True

    def _take_head(self, head: bytes) -> None:
        raise NotImplementedError

    def _take_partial_head(self, head: bytes) -> None:
        raise NotImplementedError

    def _deliver(self, error: ExchangeError | None) -> None:
        raise NotImplementedError

    def _hidden(self, *, whole: bool, lost: bool, skipped: bool = False) -> None:
        raise NotImplementedError

    def _leave(self, event: DataEvent, at: int) -> None:
        """What is behind `at` is not read here: HTTP/1 is over, or waits (HOLD)."""
        self._skip(len(event.payload) - at)

    # Input.

    def data(self, event: DataEvent, begin_ktime_ns: int) -> None:
        """The next bytes of the stream."""
        payload = event.payload
        state = self._state
        if state <= HOLD:
            if not self._begins(payload, 0):
                if state == HOLD:
                    self._leave(event, 0)
                else:
                    self._skip(len(payload))
                    # A message may be in what is skipped.
                    self._hidden(whole=True, lost=True, skipped=True)
                return
            self._state = START
        elif self._unsure and self._body_size == 0:
            if self._begins(payload, 0):
                # A status line where content was due: the response had none (HEAD, or the like).
                self._finish(None)
            elif _may_begin(payload, 0):
                self._skip(len(payload))
                self._lose(lost=True)
                return
        self.ktime_ns = event.ktime_ns
        self.begin_ktime_ns = begin_ktime_ns
        try:
            self._read(event, payload)
        except Malformed:
            self._fail()

    def gap(self, ktime_ns: int, length: int) -> None:
        """The next `length` bytes are unknown; 0: the stream is met midway."""
        state = self._state
        if state == DONE:
            return
        if state == SEEK:
            self._hidden(whole=True, lost=length > 0)
            return
        known = 0
        if self._unsure and self._body_size == 0:
            pass  # whether a body is here is not known: neither is where it ends
        elif state in (FIXED, CHUNK_DATA):
            known = min(length, self._remaining)
        elif state == UNTIL_CLOSE:
            known = length
        if self.amid_message:
            self.ktime_ns = ktime_ns
            self.begin_ktime_ns = ktime_ns
        if known:
            self._body_size += known
            self._wire += known
            if self._messages is not None:
                self._messages.lost(known)
            if self._spared:
                self._counters.gap_bytes -= known
                self._counters.spared_bytes += known
            else:
                self._lost += known
            self._room = 0
            if self._reading is not None:
                self._reading.lost()
            if state != UNTIL_CLOSE:
                self._remaining -= known
                if self._remaining == 0:
                    if state == FIXED:
                        self._finish(None)
                    else:
                        self._state = CHUNK_END
            if known == length:
                return
        self._lose(lost=length > 0)

    def spare(self) -> int:
        """How many bytes from here on are not needed; says so once for a message."""
        if (
            self._room > 0
            or self._spared
            or self._state != FIXED
            or self._unsure
            or self._remaining < _SPARE_FROM
            or (self._reading is not None and not self._reading.unknown)
            or self._messages is not None
        ):
            return 0
        self._spared = True
        return self._remaining

    def end(self, error: ExchangeError) -> None:
        """The stream ended in order; `error` is that of a message that needed more."""
        if self._state == UNTIL_CLOSE:
            self._finish(None)
        elif self.amid_message:
            self.cut(error)
        self._state = DONE

    def cut(self, error: ExchangeError) -> None:
        """The message under way ends here, unfinished."""
        if self._state == HEAD:
            self._take_partial()
        self._finish(error)

    def reveal(self) -> None:
        """Read what is there of an unfinished head; no byte of it follows."""
        if self._state == HEAD and self._buffer:
            self._take_partial()

    def stop(self) -> None:
        """No message follows: the connection switched to something else."""
        self._state = DONE

    def _lose(self, *, lost: bool) -> None:
        amid = self.amid_message
        if self._messages is not None:
            self._messages.cut()
        held = self._state == HOLD
        if amid:
            if self._reading is not None:
                self._reading.lost()
            self.cut(ExchangeError.TRUNCATED)
        self._state = SEEK
        self._hidden(whole=not amid and not held, lost=lost)

    def _fail(self) -> None:
        self._counters.messages_malformed += 1
        self.failed = True
        if self.amid_message:
            if CHUNK_SIZE <= self._state <= CHUNK_END:
                self._doubt(BAD_CHUNK)
            if self._state == HEAD and self._buffer:
                self._take_partial()
            self._finish(ExchangeError.MALFORMED)
        self._state = DONE
        self._listener.malformed()

    def _skip(self, count: int) -> None:
        self._counters.skipped_bytes += count

    # The machine: each step consumes something or ends the loop.

    def _read(self, event: DataEvent, payload: bytes) -> None:
        at = 0
        size = len(payload)
        while at < size:
            state = self._state
            if state == START:
                at = self._read_start(event, payload, at)
            elif self._remaining:  # FIXED or CHUNK_DATA
                count = min(self._remaining, size - at)
                self._take(payload, at, count)
                at += count
                self._remaining -= count
                if self._remaining == 0:
                    if state == FIXED:
                        self._finish(None)
                    else:
                        self._state = CHUNK_END
            elif state == CHUNK_SIZE:
                at = self._read_chunk_size(payload, at)
            elif state == CHUNK_END:
                at = self._read_chunk_end(payload, at)
            elif state == HEAD:
                at = self._read_head(payload, at)
            elif state == TRAILERS:
                at = self._read_trailers(payload, at)
            elif state == UNTIL_CLOSE:
                self._take(payload, at, size - at)
                at = size
            else:
                self._leave(event, at)
                at = size

    def _take(self, payload: bytes, at: int, count: int) -> None:
        self._body_size += count
        self._wire += count
        if self._reading is not None:
            self._reading.moved(payload, at, at + count, self.ktime_ns)
        if self._messages is not None:
            self._messages.moved(payload, at, at + count)
        room = self._room
        if room > 0:
            kept = min(count, room)
            part = payload[at : at + kept]
            if self._parts is None:
                self._parts = [part]
            else:
                self._parts.append(part)
            self._room = room - kept

    def _read_start(self, event: DataEvent, payload: bytes, at: int) -> int:
        first = payload[at]
        if first in b"\r\n":
            return at + 1  # RFC 9112 2.2: empty lines before a request line; servers do it too
        self._first_byte(event, at)
        self._first_begin_ns = self.begin_ktime_ns
        self._tid = event.tid
        stop = _head_end(payload, at)
        self._state = HEAD
        if stop < 0:
            self._buffer = bytearray(payload[at:])
            if len(self._buffer) > HEAD_LIMIT or not self._may_begin_head(self._buffer):
                raise Malformed
            return len(payload)
        if stop - at > HEAD_LIMIT:
            raise Malformed
        self._wire = stop - at
        self._take_head(payload[at:stop])
        self._settle_doubt(payload, stop)
        return stop

    def _read_head(self, payload: bytes, at: int) -> int:
        buffer = self._buffer
        before = len(buffer)
        buffer += payload if at == 0 else payload[at:]
        stop = _head_end(buffer, max(0, before - 2))
        if stop < 0:
            if len(buffer) > HEAD_LIMIT or not self._may_begin_head(buffer):
                raise Malformed
            return len(payload)
        if stop > HEAD_LIMIT:
            raise Malformed
        head = bytes(buffer[:stop])
        self._buffer = bytearray()
        self._wire = stop
        self._take_head(head)
        at += stop - before
        self._settle_doubt(payload, at)
        return at

    def _settle_doubt(self, payload: bytes, at: int) -> None:
        # A status line right behind, in one call: of the next response, or content? Unknown.
        if self._unsure and (self._begins(payload, at) or _may_begin(payload, at)):
            self._lose(lost=True)

    def _take_partial(self) -> None:
        buffer = bytes(self._buffer)
        self._buffer = bytearray()
        self._wire = len(buffer)
        self._head_is_cut = True
        self._take_partial_head(buffer)

    def _doubt(self, word: str) -> None:
        """Readers may differ about the message under way."""
        self._ambiguity = with_word(self._ambiguity, word)

    def _take_doubts(self) -> None:
        for word in self._heads.doubts:
            self._doubt(word)

    def _read_line(self, payload: bytes, at: int, limit: int) -> int:
        """Moves one line or its piece into the buffer; returns where it stopped."""
        stop = payload.find(b"\n", at)
        stop = len(payload) if stop < 0 else stop + 1
        if len(self._buffer) + stop - at > limit:
            raise Malformed
        self._buffer += payload[at:stop]
        self._wire += stop - at
        return stop

    def _read_chunk_size(self, payload: bytes, at: int) -> int:
        at = self._read_line(payload, at, _CHUNK_LINE_LIMIT)
        if self._buffer[-1] != _LF:
            return at
        line = bytes(self._buffer)
        self._buffer.clear()
        digits = line[:-2]
        if not digits.isalnum() or line[-2] != _CR:
            digits = self._odd_chunk_size(line)
        # int() would take signs, underscores and a prefix as well.
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise Malformed
        if len(digits) > _CHUNK_DIGITS and len(digits.lstrip(b"0")) > _CHUNK_DIGITS:
            raise Malformed
        self._remaining = int(digits, 16)
        self._state = CHUNK_DATA if self._remaining else TRAILERS
        if self._remaining:
            self._unsure = False
        return at

    def _odd_chunk_size(self, line: bytes) -> bytes:
        """The digits of a chunk-size line that has more than digits and CRLF."""
        if line.endswith(b"\r\n"):
            line = line[:-2]
        else:
            line = line[:-1]
            self._doubt(BARE_LF)
        if b"\r" in line:
            self._doubt(BARE_CR)
        size, _, _ = line.partition(b";")
        digits = size.strip(b" \t\r")
        if size != digits:
            self._doubt(SPACE_IN_CHUNK_SIZE)
        return digits

    def _read_chunk_end(self, payload: bytes, at: int) -> int:
        byte = payload[at]
        self._wire += 1
        if byte == _LF:
            if not self._buffer:
                self._doubt(BARE_LF)
            self._buffer.clear()
            self._state = CHUNK_SIZE
        elif byte == _CR and not self._buffer:
            self._buffer.append(_CR)
        else:
            raise Malformed
        return at + 1

    def _read_trailers(self, payload: bytes, at: int) -> int:
        before = len(self._buffer)
        at = self._read_line(payload, at, HEAD_LIMIT)
        buffer = self._buffer
        if buffer[-1] != _LF:
            return at
        lines = len(buffer)
        start = buffer.rfind(b"\n", 0, lines - 1) + 1
        if bytes(buffer[start:]) not in (b"\r\n", b"\n"):
            return at
        if lines - start == 1:
            self._doubt(BARE_LF)
        if before or start:
            split = bytes(buffer).split(b"\n")
            self._trailers, broken = self._heads.trailers(split, len(split) - 2)
            self._take_doubts()
            if broken:
                raise Malformed
        buffer.clear()
        self._finish(None)
        return at

    def _body(self) -> Body:
        size = self._body_size
        if size == 0:
            return EMPTY_BODY
        parts = self._parts
        if parts is None:
            content = b""
        elif len(parts) == 1:
            content = parts[0]
        else:
            content = b"".join(parts)
        return Body(content, size, len(content) < size)

    def _finish(self, error: ExchangeError | None) -> None:
        self._state = START
        self._unsure = self._spared = False
        if self._buffer:
            self._buffer = bytearray()
        self._deliver(error)
        self._clear()


def _head_end(data: bytes | bytearray, at: int) -> int:
    """Where the head that begins before `at` ends, behind its empty line; -1 not yet."""
    stop = data.find(b"\n\r\n", at)
    bare = data.find(b"\n\n", at, stop + 1 if stop >= 0 else len(data))
    if bare >= 0:
        return bare + 2
    return stop + 3 if stop >= 0 else -1


def _may_begin(payload: bytes, at: int) -> bool:
    """Whether a status line may begin at `at` whose end is not there yet."""
    rest = payload[at : at + _STATUS_LINE_SIZE]
    return 0 < len(rest) < _STATUS_LINE_SIZE and b"HTTP/1.".startswith(rest[:7])
