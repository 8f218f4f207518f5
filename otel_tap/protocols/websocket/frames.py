"""Frames of one direction of a WebSocket (RFC 6455 5): bytes and gaps in, frames out.

Owns where frames begin and end. Promises: any chunking gives the same frames; any bytes give frames
or one `malformed`; a gap inside a payload costs its bytes only, for the length of the frame is
known. Payloads are neither kept nor unmasked here.

After a gap that hid where frames begin, the stream is taken up again where two calls in a row each
moved frames and nothing else: a payload that looks so by chance would have to do it twice. The
frames of the first are not told: nobody knows yet that they are frames.
"""

from __future__ import annotations

from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_CONTROL: Final = 8  # set in the opcodes of control frames

_KNOWN: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_CONTROL_LIMIT: Final = 125  # bytes of payload (5.5)
_FIN: Final = 0x80
_RSV: Final = 0x70
RSV1: Final = 0x40

# The rest of a payload that nobody needs is not copied when it is as long as this: a shorter one
# is over before the kernel side knows.
_SPARE_FROM: Final = 256 * 1024

_SEEK: Final = 0
_HEADER: Final = 1
_PAYLOAD: Final = 2
_DONE: Final = 3

NO_KEY: Final = b""


class FrameListener:
    """Who is told of frames; `client`: sent by the client."""

    __slots__ = ()

    def frame_begins(self, opcode: int, *, final: bool, compressed: bool, client: bool) -> bool:
        """A frame. False: it cannot stand here."""
        raise NotImplementedError

    def payload(self, piece: bytes, key: bytes, position: int, *, client: bool) -> None:
        """The next bytes of the payload, masked with `key`, from its byte `position` on."""
        raise NotImplementedError

    def payload_lost(self, count: int, *, client: bool, spared: bool) -> None:
        """The next bytes of the payload are unknown; `spared`: nobody wanted them."""
        raise NotImplementedError

    def frame_ends(self, *, client: bool) -> None:
        """The frame is over."""
        raise NotImplementedError

    def frames_hidden(self, *, client: bool) -> None:
        """Frames may have passed unseen, and the one under way will not end."""
        raise NotImplementedError

    def wants_payload(self, *, client: bool) -> bool:
        """Whether anybody needs the rest of this payload."""
        raise NotImplementedError


class FrameReader:
    """The frames of one direction. `reserved`: which of the reserved bits may be set (5.2)."""

    __slots__ = (
        "_buffer",
        "_client",
        "_key",
        "_likely",
        "_listener",
        "_position",
        "_remaining",
        "_reserved",
        "_spared",
        "_state",
        "malformed",
        "skipped_bytes",
    )

    def __init__(self, listener: FrameListener, *, client: bool, reserved: int) -> None:
        self._listener = listener
        self._client = client
        self._reserved = reserved
        self._state = _HEADER
        self._buffer = b""
        self._remaining = 0
        self._key = NO_KEY
        self._position = 0
        self._likely = False  # the last call moved what may be whole frames
        self._spared = False
        self.malformed = False
        self.skipped_bytes = 0  # while it was not known where frames begin

    def data(self, payload: bytes) -> None:
        """The bytes that one call moved next."""
        if self._state == _SEEK and not self._take_up(payload):
            self.skipped_bytes += len(payload)
            return
        at = 0
        size = len(payload)
        while at < size:
            state = self._state
            if state == _PAYLOAD:
                count = min(self._remaining, size - at)
                piece = payload if count == size else payload[at : at + count]
                self._listener.payload(piece, self._key, self._position, client=self._client)
                at += count
                self._advance(count)
            elif state == _HEADER:
                at = self._read_header(payload, at)
            else:
                self.skipped_bytes += size - at
                return

    def gap(self, length: int) -> int:
        """The next `length` bytes are unknown; 0: what came before was never seen.

        Returns how many of them nobody wanted.
        """
        if self._state == _DONE:
            return 0
        spared = 0
        if self._state == _PAYLOAD and length:
            count = min(self._remaining, length)
            if self._spared:
                spared = count
            self._listener.payload_lost(count, client=self._client, spared=self._spared)
            self._advance(count)
            if count == length:
                return spared
        self._likely = False
        self._buffer = b""
        self._state = _SEEK
        self._listener.frames_hidden(client=self._client)
        return spared

    def stop(self) -> None:
        """Nothing that follows is a frame."""
        self._state = _DONE

    def spare(self) -> int:
        """How many bytes from here on nobody needs; says so once for a frame."""
        if (
            self._state != _PAYLOAD
            or self._remaining < _SPARE_FROM
            or self._spared
            or self._listener.wants_payload(client=self._client)
        ):
            return 0
        self._spared = True
        return self._remaining

    def _advance(self, count: int) -> None:
        self._position += count
        self._remaining -= count
        if self._remaining == 0:
            self._state = _HEADER
            self._listener.frame_ends(client=self._client)

    def _read_header(self, payload: bytes, at: int) -> int:
        buffer = self._buffer
        if buffer:
            # A header has 14 bytes at most; what is behind it is not consumed.
            header = buffer + payload[at : at + 14]
            length = header_length(header, 0)
            if length < 0 or length > len(header):
                self._buffer = header
                return len(payload)
            self._buffer = b""
            self._begin(header, 0, length)
            return at + length - len(buffer)
        length = header_length(payload, at)
        if length < 0 or at + length > len(payload):
            self._buffer = payload[at:]
            return len(payload)
        self._begin(payload, at, length)
        return at + length

    def _begin(self, data: bytes, at: int, header: int) -> None:
        first = data[at]
        masked = data[at + 1] & 0x80 != 0
        length = payload_length(data, at)
        final = first & _FIN != 0
        opcode = first & 0x0F
        control = opcode >= _CONTROL
        if (
            first & _RSV & ~self._reserved
            or opcode not in _KNOWN
            or length < 0
            or (control and (length > _CONTROL_LIMIT or not final))
            or not self._listener.frame_begins(
                opcode, final=final, compressed=first & RSV1 != 0, client=self._client
            )
        ):
            self.malformed = True
            self._state = _DONE
            return
        # Frames of a client must be masked, those of a server must not (5.1); what does it the
        # other way reads just as well, and some ends take it.
        self._key = data[at + header - 4 : at + header] if masked else NO_KEY
        self._position = 0
        self._remaining = length
        self._spared = False
        if length:
            self._state = _PAYLOAD
        else:
            self._listener.frame_ends(client=self._client)

    def _take_up(self, payload: bytes) -> bool:
        whole = is_whole_frames(payload, masked=self._client, reserved=self._reserved)
        likely = self._likely
        self._likely = whole
        if not (whole and likely):
            return False
        self._state = _HEADER
        return True


def header_length(data: bytes, at: int) -> int:
    """Bytes of the frame header at `at`; -1 while that cannot be said."""
    if len(data) - at < 2:
        return -1
    second = data[at + 1]
    short = second & 0x7F
    length = 2 if short < 126 else 4 if short == 126 else 10
    return length + 4 if second & 0x80 else length


def payload_length(data: bytes, at: int) -> int:
    """Bytes of payload, by the whole header at `at`; -1: more than the protocol allows."""
    short = data[at + 1] & 0x7F
    if short < 126:
        return short
    if short == 126:
        return int.from_bytes(data[at + 2 : at + 4])
    length = int.from_bytes(data[at + 2 : at + 10])
    return length if length < 1 << 63 else -1


def is_whole_frames(payload: bytes, *, masked: bool, reserved: int) -> bool:
    """Whether the bytes read as frames of one direction, and end where one of them ends."""
    at = 0
    size = len(payload)
    while at < size:
        header = header_length(payload, at)
        if header < 0 or at + header > size or (payload[at + 1] & 0x80 != 0) != masked:
            return False
        first = payload[at]
        opcode = first & 0x0F
        length = payload_length(payload, at)
        if first & _RSV & ~reserved or opcode not in _KNOWN or length < 0:
            return False
        if opcode >= _CONTROL and (length > _CONTROL_LIMIT or not first & _FIN):
            return False
        at += header + length
    return size > 0 and at == size


def unmask(piece: bytes, key: bytes, position: int) -> bytes:
    """A piece of a payload that begins at its byte `position` (5.3). Linear in its length."""
    if not key:
        return piece
    turn = position & 3
    size = len(piece)
    mask = (key[turn:] + key[:turn]) * (size // 4 + 1)
    masked = int.from_bytes(piece) ^ int.from_bytes(mask[:size])
    return masked.to_bytes(size)
