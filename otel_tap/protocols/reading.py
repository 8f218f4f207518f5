"""The content of one message on its way to whoever reads it.

Owns what a message is read by, and removes its content coding, within a bound. Promises: no byte
is kept; what is lost is told once, and then nothing more.
"""

from __future__ import annotations

from typing import Final

from otel_tap.content_coding import Decoder, Undecodable, codings_of
from otel_tap.media_type import is_event_stream
from otel_tap.messages import EventStream, Field
from otel_tap.protocols.content import ContentSink, ReadExchange
from otel_tap.protocols.sse import EventCounter

# What a coded content may unpack to: text packs 3 to 20 times, a bomb 1,000 times and more.
_FREE_BYTES: Final = 1 << 20
_MAX_RATIO: Final = 64

LOST: Final = "lost"
CODING: Final = "coding"


def response_reader(fields: tuple[Field, ...], read: ReadExchange | None) -> ContentReader | None:
    """What reads the content of a response with these fields, if anything does."""
    sink = None if read is None else read.response_sink()
    if is_event_stream(fields):
        counter = EventCounter(sink)
        return ContentReader(fields, counter, counter)
    return None if sink is None else ContentReader(fields, sink)


class ContentReader:
    """Passes the content of one message on to a sink. `unknown`: why it does not any more."""

    __slots__ = ("_counter", "_decoder", "_moved", "_sink", "_unpacked", "unknown")

    def __init__(
        self, fields: tuple[Field, ...], sink: ContentSink, counter: EventCounter | None = None
    ) -> None:
        self.unknown = ""
        self._counter = counter
        self._sink = sink
        self._decoder: Decoder | None = None
        self._moved = 0
        self._unpacked = 0
        codings = codings_of(fields)
        if codings:
            try:
                self._decoder = Decoder(codings, between=_FREE_BYTES)
            except Undecodable:
                self._give_up(CODING)

    def moved(self, payload: bytes, at: int, stop: int, ktime_ns: int) -> None:
        """The next content is `payload[at:stop]`."""
        if self.unknown:
            return
        data = payload if at == 0 and stop == len(payload) else payload[at:stop]
        if self._decoder is None:
            self._sink.text(data, ktime_ns)
            return
        self._moved += len(data)
        room = _FREE_BYTES + _MAX_RATIO * self._moved
        try:
            for part in self._decoder.feed(data):
                self._unpacked += len(part)
                if self._unpacked > room:
                    self._give_up(CODING)
                    return
                self._sink.text(part, ktime_ns)
        except Undecodable:
            self._give_up(CODING)

    def lost(self) -> None:
        """Bytes of it are unknown."""
        if not self.unknown:
            self._give_up(LOST)

    def events(self) -> EventStream | None:
        """The events so far; None where there are none to count."""
        counter = self._counter
        if counter is None:
            return None
        if self.unknown:
            # What was counted before is not all, and nothing says which event is the last one.
            return EventStream(None, counter.first_ktime_ns, 0, self.unknown)
        return EventStream(counter.count, counter.first_ktime_ns, counter.last_ktime_ns, "")

    def _give_up(self, reason: str) -> None:
        self.unknown = reason
        self._decoder = None
        self._sink.cut()
