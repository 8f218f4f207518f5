"""One WebSocket session: what both directions' frames make of messages, counts and its close.

Owns the messages under way and the counts; sans-IO, and it knows neither the connection nor how
the session was agreed upon, so the same reader serves HTTP/1.1 upgrades (RFC 6455) and a stream of
HTTP/2 (RFC 8441): bytes and gaps of the client and of the server in, `Message`s and two `Flow`s
out. Memory is bounded by the body limit and one control frame per direction.

A message after a loss is told where its frames are known again; counts are then lower bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otel_tap.messages import Body
from otel_tap.protocols.websocket.deflate import Inflater
from otel_tap.protocols.websocket.frames import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameListener,
    FrameReader,
    unmask,
)
from otel_tap.protocols.websocket.handshake import Agreed
from otel_tap.websocket import Flow

NO_CODE: Final = 1005  # RFC 6455 7.1.5: a close frame without a code

_NONE: Final = -1  # no message, or frame, is under way
_HIDDEN: Final = -2  # the beginning of the message under way passed unseen
# Data frames are told apart by whether they end their message, not by their opcode.
_LAST: Final = 0
_MORE: Final = 1


class _Sender:
    """What one end sends."""

    __slots__ = (
        "close_code",
        "closed",
        "compressed",
        "compressed_messages",
        "exact",
        "frame",
        "frames",
        "inflater",
        "kept",
        "lost",
        "message",
        "message_bytes",
        "messages",
        "pings",
        "pongs",
        "reason",
        "room",
        "small",
        "start_ns",
        "texts",
        "torn",
        "truncated",
        "wire",
    )

    def __init__(self, inflater: Inflater | None) -> None:
        self.inflater = inflater
        self.messages = 0
        self.texts = 0
        self.message_bytes = 0
        self.frames = 0
        self.compressed_messages = 0
        self.pings = 0
        self.pongs = 0
        self.lost = 0
        self.exact = True
        self.closed = False
        self.close_code: int | None = None
        self.reason = b""
        self.frame = _NONE  # the one under way: its opcode, or what it is of its message
        self.small = b""  # payload so far of the close frame under way
        self.torn = False  # bytes of that control frame are unknown
        # The message under way.
        self.message = _NONE
        self.compressed = False
        self.start_ns = 0
        self.kept = bytearray()
        self.room = 0
        self.wire = 0
        self.truncated = False

    def flow(self) -> Flow:
        """The counts so far."""
        return Flow(
            self.messages,
            self.texts,
            self.message_bytes,
            self.frames,
            self.compressed_messages,
            self.pings,
            self.pongs,
            self.lost,
            self.exact,
        )


TakeMessage = Callable[[bool, bool, bool, int | None, Body, int], None]
"""Takes a message: by the client; text; compressed; its number; content; start_ktime_ns."""


class Frames(FrameListener):
    """Reads one session. `take` gets whole messages, with content up to `limit`, unless that is 0.

    `now_ns` is the time of the bytes that are being read; the caller sets it.
    """

    __slots__ = ("_limit", "_senders", "_take", "_unreadable", "closed_by_client", "now_ns")

    def __init__(self, agreed: Agreed, limit: int, take: TakeMessage | None) -> None:
        self._limit = limit if take is not None else 0
        self._take = take
        self._unreadable = agreed.opaque
        inflates = agreed.deflate and self._limit > 0 and not agreed.opaque
        self._senders = (
            _Sender(Inflater(takeover=agreed.server_takeover) if inflates else None),
            _Sender(Inflater(takeover=agreed.client_takeover) if inflates else None),
        )
        self.closed_by_client: bool | None = None  # which end sent its close frame first
        self.now_ns = 0

    def flow(self, *, client: bool) -> Flow:
        """What that end sent so far."""
        return self._senders[client].flow()

    def close(self) -> tuple[int | None, bytes]:
        """Code and reason of the first close frame; None: none was seen, or its code was lost."""
        if self.closed_by_client is None:
            return None, b""
        sender = self._senders[self.closed_by_client]
        return sender.close_code, sender.reason

    @property
    def closed(self) -> bool:
        """Whether both ends sent their close frame: nothing follows."""
        return self._senders[0].closed and self._senders[1].closed

    def doubt(self) -> None:
        """What was counted is not all there is."""
        for sender in self._senders:
            sender.exact = False

    # What the readers tell.

    def frame_begins(self, opcode: int, *, final: bool, compressed: bool, client: bool) -> bool:
        """A frame, if it may follow what came before (5.4, 5.5.1)."""
        sender = self._senders[client]
        sender.small = b""
        sender.torn = False
        if sender.closed:
            return False
        sender.frame = opcode
        if opcode >= CLOSE:
            return not compressed or self._unreadable
        sender.frames += 1
        if opcode == CONTINUATION:
            if compressed and not self._unreadable:
                return False
            if sender.message == _NONE:
                if sender.exact:
                    return False
                sender.message = _HIDDEN
        elif sender.message != _NONE and not (sender.message == _HIDDEN and not sender.exact):
            return False
        else:
            self._message_begins(sender, opcode, compressed=compressed)
        sender.frame = _LAST if final else _MORE
        return True

    def payload(self, piece: bytes, key: bytes, position: int, *, client: bool) -> None:
        """Bytes of the frame under way."""
        sender = self._senders[client]
        if sender.frame >= CLOSE:
            if sender.frame == CLOSE:
                sender.small += unmask(piece, key, position)
            return
        sender.message_bytes += len(piece)
        sender.wire += len(piece)
        if sender.message == _HIDDEN or not self._limit or self._unreadable:
            return
        self._keep(sender, piece, key, position)

    def payload_lost(self, count: int, *, client: bool, spared: bool) -> None:
        """Bytes of the frame under way are unknown."""
        sender = self._senders[client]
        if not spared:
            sender.lost += count
        if sender.frame >= CLOSE:
            sender.torn = True
            return
        sender.message_bytes += count
        sender.wire += count
        sender.truncated = True
        sender.room = 0
        if sender.compressed and sender.inflater is not None:
            sender.inflater.lose()

    def frame_ends(self, *, client: bool) -> None:
        """The frame under way is whole."""
        sender = self._senders[client]
        frame = sender.frame
        sender.frame = _NONE
        if frame == PING:
            sender.pings += 1
        elif frame == PONG:
            sender.pongs += 1
        elif frame == CLOSE:
            self._closes(sender, client=client)
        elif frame == _LAST:
            if sender.message != _HIDDEN:
                self._message_ends(sender, client=client)
            sender.message = _NONE

    def frames_hidden(self, *, client: bool) -> None:
        """Frames of that end may have passed unseen."""
        sender = self._senders[client]
        sender.exact = False
        sender.message = _HIDDEN
        sender.frame = _NONE
        sender.kept.clear()
        if sender.inflater is not None:
            sender.inflater.lose()

    def wants_payload(self, *, client: bool) -> bool:
        """Whether the rest of this frame is needed."""
        sender = self._senders[client]
        if sender.frame >= CLOSE:
            return True
        if not self._limit or self._unreadable:
            return False
        if sender.compressed and sender.inflater is not None:
            return sender.inflater.needs_all or sender.room > 0
        return sender.room > 0

    # Messages.

    def _message_begins(self, sender: _Sender, opcode: int, *, compressed: bool) -> None:
        sender.message = opcode
        sender.compressed = compressed
        sender.start_ns = self.now_ns
        sender.kept.clear()
        # One byte more than asked for tells whether there was more.
        sender.room = self._limit + 1
        sender.wire = 0
        sender.truncated = False
        if compressed and sender.inflater is not None:
            sender.inflater.begin()

    def _keep(self, sender: _Sender, piece: bytes, key: bytes, position: int) -> None:
        if sender.compressed:
            inflater = sender.inflater
            if inflater is None or not (sender.room > 0 or inflater.needs_all):
                return
            plain = inflater.take(unmask(piece, key, position), sender.room)
        elif sender.room > 0:
            plain = unmask(piece[: sender.room], key, position)
        else:
            return
        if plain:
            sender.kept += plain
            sender.room -= len(plain)

    def _message_ends(self, sender: _Sender, *, client: bool) -> None:
        number = sender.messages if sender.exact else None
        text = sender.message == TEXT
        sender.messages += 1
        sender.texts += text
        sender.compressed_messages += sender.compressed
        if self._take is None:
            return
        truncated = sender.truncated
        if self._unreadable:
            truncated = True
        elif sender.compressed:
            inflater = sender.inflater
            if inflater is not None and (sender.room > 0 or inflater.needs_all):
                sender.kept += inflater.end(sender.room)
            truncated = truncated or inflater is None or not inflater.readable
        content = bytes(sender.kept)
        sender.kept.clear()
        if len(content) > self._limit:
            content = content[: self._limit]
            truncated = True
        body = Body(content, sender.wire, truncated)
        self._take(client, text, sender.compressed, number, body, sender.start_ns)

    def _closes(self, sender: _Sender, *, client: bool) -> None:
        sender.closed = True
        if self.closed_by_client is None:
            self.closed_by_client = client
        said = sender.small
        if sender.torn or self._unreadable:
            return
        sender.close_code = int.from_bytes(said[:2]) if len(said) >= 2 else NO_CODE
        if self._limit:
            sender.reason = said[2:]


class WebSocketReader:
    """Both directions of one session; `frames` has what they said.

    `malformed` says that one of them is not WebSocket: nothing more is read of either.
    """

    __slots__ = ("_readers", "frames")

    def __init__(self, agreed: Agreed, limit: int, take: TakeMessage | None) -> None:
        self.frames = Frames(agreed, limit, take)
        self._readers = (
            FrameReader(self.frames, client=False, reserved=agreed.reserved),
            FrameReader(self.frames, client=True, reserved=agreed.reserved),
        )

    @property
    def malformed(self) -> bool:
        """Whether bytes were met that cannot be a frame."""
        return self._readers[0].malformed or self._readers[1].malformed

    @property
    def skipped_bytes(self) -> int:
        """Bytes that were captured, but not known to be of which frame."""
        return self._readers[0].skipped_bytes + self._readers[1].skipped_bytes

    def data(self, payload: bytes, ktime_ns: int, *, client: bool) -> None:
        """The bytes that one call moved next."""
        self.frames.now_ns = ktime_ns
        reader = self._readers[client]
        reader.data(payload)
        if reader.malformed:
            self._give_up()

    def spare(self, *, client: bool) -> int:
        """How many of the next bytes of one end nobody needs; says so once for a frame."""
        return self._readers[client].spare()

    def gap(self, length: int, ktime_ns: int, *, client: bool) -> int:
        """The next bytes of one end are unknown; 0: what came before was never seen.

        Returns how many of them nobody wanted.
        """
        self.frames.now_ns = ktime_ns
        return self._readers[client].gap(length)

    def _give_up(self) -> None:
        self.frames.doubt()
        for reader in self._readers:
            reader.stop()
