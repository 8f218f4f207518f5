"""Server-Sent Events: any bytes are the events that the standard finds, however they are cut.

1. Count and data of the events are those of WHATWG HTML 9.2.6, read line by line.
2. Any pieces give the same, and the times are those of the pieces that ended an event.
3. Through a content coding the count is the same, or it is said to be unknown.
"""

from __future__ import annotations

import gzip
import re
import zlib

from otel_tap.compiled import is_compiled
from otel_tap.messages import EventStream
from otel_tap.protocols.content import ContentSink
from otel_tap.protocols.reading import CODING, ContentReader, response_reader
from otel_tap.protocols.sse import EventCounter

SEEDS = (
    b"\x02data: one\n\ndata: two\ndata: more\n\n",
    b"\x00\xef\xbb\xbfevent: a\r\ndata:x\r\n\r\n: comment\r\rdata\r\r",
    b"\x03id: 1\nretry: 9\n\ndata\ndata:\n\n data: no\n\ndata: cut",
    b"\x01datax: y\n\nda\rdata: \r\n\xef\xbb\xbfdata: z\n\n",
)
TOKENS = (b"data:", b"data: ", b"data", b"\r\n\r\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b": ")

_FIELDS = ((b"content-type", b"text/event-stream"),)
_CODINGS = (b"gzip", b"deflate")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_END_NS = 1_000_000


class _Data(ContentSink):
    """The data of every event."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self._parts: list[bytes] = []

    def text(self, data: bytes, ktime_ns: int) -> None:
        self._parts.append(data)

    def document_ends(self) -> None:
        self.events.append(b"".join(self._parts).removesuffix(b"\n"))
        self._parts.clear()

    def cut(self) -> None:
        raise AssertionError


def _by_the_book(content: bytes) -> list[bytes]:
    *lines, _ = _LINE_END.split(content.removeprefix(b"\xef\xbb\xbf"))
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        name, _, value = line.partition(b":")
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return events


def _read(content: bytes, size: int) -> tuple[int, list[bytes] | None]:
    """Count and data, read in pieces of `size`, each at the offset where it ends."""
    # A compiled counter takes no sink of a test.
    sink = None if is_compiled() else _Data()
    counter = EventCounter(sink)
    for at in range(0, len(content), size):
        counter.text(content[at : at + size], min(at + size, len(content)))
    counter.document_ends()
    if counter.count:
        first, last = counter.first_ktime_ns, counter.last_ktime_ns
        assert 0 < first <= last <= len(content)
        if size == 1:
            assert content[first - 1 : first] in (b"\r", b"\n")
            assert content[last - 1 : last] in (b"\r", b"\n")
    else:
        assert counter.first_ktime_ns == counter.last_ktime_ns == 0
    return counter.count, None if sink is None else sink.events


def _events_of(fields: tuple[tuple[bytes, bytes], ...], content: bytes, size: int) -> EventStream:
    reader = response_reader(fields, None)
    assert isinstance(reader, ContentReader)
    for at in range(0, len(content), size):
        reader.moved(content, at, min(at + size, len(content)), _END_NS)
    seen = reader.events()
    assert seen is not None
    return seen


def check(data: bytes) -> None:
    """The first byte chooses the size of pieces and a coding; the rest is the stream."""
    if not data:
        return
    content = data[1:]
    size = 2 + (data[0] & 15)
    events = _by_the_book(content)
    for pieces in (len(content) + 1, 1, size):
        count, told = _read(content, pieces)
        assert count == len(events)
        assert told is None or told == events
    plain = _events_of(_FIELDS, content, size)
    assert (plain.count, plain.unknown) == (len(events), "")
    coding = _CODINGS[data[0] >> 4 & 1]
    coded = (*_FIELDS, (b"content-encoding", coding))
    packed = gzip.compress(content, 1, mtime=0) if coding == b"gzip" else zlib.compress(content, 1)
    unpacked = _events_of(coded, packed, size)
    assert (unpacked.count, unpacked.unknown) == (len(events), "")
    broken = _events_of(coded, content, size)
    assert broken.unknown in ("", CODING)
    assert (broken.count is None) == (broken.unknown != "")
