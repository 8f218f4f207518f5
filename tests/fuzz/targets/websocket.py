"""WebSocket sessions: any frames, pieces, gaps and ends give one session, and nothing false.

1. Behind a handshake, the invariant of `tests.fuzz.conversation`.
2. Any pieces give the same messages, counts and close; of a compressed message that is said to be
   cut, more or less content (what zlib gives before it fails, and when a bomb is one, is by call).
3. With gaps, counts that say that they are exact are those without; and so is the content of a
   message that has a number and is not said to be cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from otel_tap.messages import Body
from otel_tap.protocols.websocket.handshake import Agreed, agreed
from otel_tap.protocols.websocket.session import WebSocketReader
from otel_tap.websocket import Flow
from tests.fuzz import conversation
from tests.fuzz.conversation import (
    CLIENT,
    CLOSES,
    LOST_BEFORE,
    LOST_BEHIND,
    REQUESTS,
    STEP,
    TLS,
    script,
)
from tests.unit.websocket_talk import (
    ASK,
    BINARY,
    DEFLATE,
    GRANT,
    KEY,
    PING,
    PONG,
    TEXT,
    Deflater,
    closing,
    frame,
    message,
)

# The first byte of the input chooses the extensions, its second the rest of the conversation.
_EXTENSIONS = (
    b"",
    DEFLATE % b"",
    DEFLATE % b"; server_no_context_takeover; client_no_context_takeover",
    b"Sec-WebSocket-Extensions: x-any\r\n",
)
_LIMITS = (1 << 16, 0, 5, 300)
_LIMIT_SHIFT = 2
_GAPS = LOST_BEHIND | LOST_BEFORE


def _session(how: int, first: int, *steps: tuple[int, int, bytes]) -> bytes:
    return bytes([how]) + script(first, *steps)


def _packed(*contents: bytes, masked: bool) -> bytes:
    pack = Deflater()
    return b"".join(message(TEXT, pack(one), masked=masked, compressed=True) for one in contents)


_HELLO = message(TEXT, b"hello", 2, 4, masked=True)
_LONG = message(BINARY, b"\0\1" * 100)
_BYE = (REQUESTS, 0, closing(1000, b"bye", masked=True)), (0, 0, closing(1000))
SEEDS = (
    _session(0, CLIENT, (REQUESTS, 0, _HELLO + frame(PING, b"?", masked=True)), (0, 0, _LONG)),
    _session(0, 0, (0, 0, frame(PING)), (REQUESTS, 0, frame(PONG, masked=True) + _HELLO), *_BYE),
    _session(1, CLIENT | TLS, (REQUESTS, 0, _packed(b"tick", b"tick", masked=True)), *_BYE),
    _session(2, 0, (0, 0, _packed(b"a" * 400, masked=False)), (CLOSES, 1, _LONG)),
    _session(3, CLIENT, (0, 0, frame(TEXT, b"?", rsv=0x30)), *_BYE),
    _session(
        4,
        CLIENT,
        (REQUESTS | LOST_BEHIND, 9, _HELLO),
        (LOST_BEFORE, 7, _LONG[:9]),
        (0, 0, _LONG),
        (0, 0, _LONG),
        (LOST_BEFORE, 3, _LONG),
    ),
    _session(12, CLIENT, (0, 0, frame(TEXT, b"ab", final=False) + frame(0, b"c", rsv=0x40))),
)
TOKENS = (
    STEP,
    frame(TEXT, b"x", masked=True),
    frame(TEXT, b"x"),
    frame(TEXT, b"x", final=False),
    frame(0, b"y", masked=True),
    frame(BINARY, rsv=0x40),
    frame(PING),
    closing(1000),
    closing(1001, masked=True),
    KEY,
    b"\x82\x7e\0\x80",
    b"\x82\x7f\0\0\0\0\0\1\0\0",
    b"\xca\xff\0",
    b"\0\0\xff\xff",
)


class _Step(NamedTuple):
    """Bytes that one call moved; `lost`: they are not seen."""

    client: bool
    payload: bytes
    lost: bool


class _Told(NamedTuple):
    text: bool
    compressed: bool
    number: int | None
    body: Body


class _Read:
    """What one reader made of a session."""

    def __init__(self, how: Agreed, limit: int, steps: list[_Step], size: int = 1 << 20) -> None:
        self.told: dict[bool, list[_Told]] = {True: [], False: []}
        self.reader = WebSocketReader(how, limit, self._take)
        for at, step in enumerate(steps):
            client = step.client
            if self.reader.frames.closed or self.reader.malformed:
                return  # as WebSocket does
            if step.lost:
                self.reader.gap(len(step.payload), at, client=client)
                continue
            for begin in range(0, len(step.payload), size):
                self.reader.data(step.payload[begin : begin + size], at, client=client)

    def _take(self, *said: Any) -> None:
        client, text, compressed, number, body, _ = said
        self.told[client].append(_Told(text, compressed, number, body))

    def flow(self, client: bool) -> Flow:
        return self.reader.frames.flow(client=client)

    @property
    def all(self) -> tuple[Any, ...]:
        frames = self.reader.frames
        flows = self.flow(client=True), self.flow(client=False)
        told = [[(*one[:3], one.body.size) for one in side] for side in self.told.values()]
        return told, flows, frames.close(), frames.closed_by_client, self.reader.malformed


def check(data: bytes) -> None:
    """Reads the session behind its handshake, then in pieces, then with gaps."""
    if len(data) < 2:
        return
    extensions = _EXTENSIONS[data[0] & 3]
    handshake = (REQUESTS, 0, ASK), (0, 0, GRANT % extensions)
    conversation.check(script(data[1], *handshake) + STEP + data[2:])

    limit = _LIMITS[data[0] >> _LIMIT_SHIFT & 3]
    name, _, value = extensions.strip().partition(b": ")
    how = agreed(((name.lower(), value),))
    steps = [
        _Step(bool(one[0] & REQUESTS), one[2:], one[0] & _GAPS == _GAPS)
        for one in data[2:].split(STEP)
        if len(one) > 2
    ]
    seen = [step._replace(lost=False) for step in steps]
    whole = _Read(how, limit, seen)
    _check_bounds(whole, limit, sum(len(step.payload) for step in steps))
    for size in (1, 2 + data[1] % 9):
        cut = _Read(how, limit, seen, size)
        assert cut.all == whole.all
        for client in (True, False):
            for one, other in zip(cut.told[client], whole.told[client], strict=True):
                _check_same(one, other)
    if any(step.lost for step in steps):
        lossy = _Read(how, limit, steps)
        _check_bounds(lossy, limit, sum(len(step.payload) for step in steps))
        if not whole.reader.malformed:
            _check_losses(whole, lossy)


def _check_same(one: _Told, other: _Told) -> None:
    if one.compressed and (one.body.truncated or other.body.truncated):
        short, long = sorted((one.body.content, other.body.content), key=len)
        assert long.startswith(short)
    else:
        assert one.body == other.body


def _check_bounds(read: _Read, limit: int, moved: int) -> None:
    for client in (True, False):
        flow = read.flow(client)
        assert flow.message_bytes + flow.lost_bytes <= 2 * moved
        assert flow.text_messages <= flow.messages <= flow.frames
        assert flow.compressed_messages <= flow.messages
        told = read.told[client]
        assert len(told) == flow.messages
        assert all(len(one.body.content) <= limit for one in told)
        numbers = [one.number for one in told if one.number is not None]
        assert numbers == list(range(len(numbers)))


def _check_losses(whole: _Read, lossy: _Read) -> None:
    for client in (True, False):
        true, flow = whole.flow(client), lossy.flow(client)
        if flow.exact and not lossy.reader.frames.closed:
            # Up to where a close frame that was lost would have ended it.
            assert flow.messages >= true.messages
            if not whole.reader.frames.closed:
                assert (flow.messages, flow.text_messages) == (true.messages, true.text_messages)
                assert (flow.message_bytes, flow.frames) == (true.message_bytes, true.frames)
                assert (flow.pings, flow.pongs) == (true.pings, true.pongs)
        for one in lossy.told[client]:
            if one.number is None or one.number >= len(whole.told[client]):
                continue
            meant = whole.told[client][one.number]
            assert (one.text, one.compressed) == (meant.text, meant.compressed)
            assert one.body.size == meant.body.size
            if not one.body.truncated:
                assert one.body == meant.body
