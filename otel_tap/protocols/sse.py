"""Server-Sent Events (WHATWG HTML 9.2.6): text in, a count of events and their times out.

Owns where lines and events end. Promises: any chunking gives the same; memory does not grow with
what comes. Lines end with CR, LF or CRLF, one byte order mark may come first, comments and unknown
fields are no events, and neither is what has no `data` line or no blank line behind it.
"""

from __future__ import annotations

from typing import Final

from otel_tap.protocols.content import ContentSink

_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data"
_COLON: Final = 58

_UNDECIDED: Final = 0
_VALUE: Final = 1  # behind `data:`
_OTHER: Final = 2

_DECIDES: Final = 6  # bytes of a line that show whether it is data, with the space that may follow


class EventCounter(ContentSink):
    """Counts the events of one stream. `data` gets what the `data` lines say."""

    __slots__ = ("_after_cr", "_begun", "_data", "_has_data", "_head", "_kind", "_now_ns",
                 "count", "first_ktime_ns", "last_ktime_ns")  # fmt: skip

    def __init__(self, data: ContentSink | None = None) -> None:
        self.count = 0
        self.first_ktime_ns = 0
        self.last_ktime_ns = 0
        self._data = data
        self._now_ns = 0
        self._begun = False  # the place of a byte order mark is behind us
        self._after_cr = False
        self._has_data = False
        self._kind = _UNDECIDED
        self._head = b""  # of a line that is undecided

    def text(self, data: bytes, ktime_ns: int) -> None:
        """The next bytes, which moved at `ktime_ns`."""
        self._now_ns = ktime_ns
        if self._after_cr and data:
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data[-1:] == b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not data:
            return
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            self._piece(line)
            self._line_ends()
        if rest:
            self._piece(rest)

    def document_ends(self) -> None:
        """What has no blank line behind it is no event."""

    def cut(self) -> None:
        """The count is of no use any more; whoever feeds this says so."""
        if self._data is not None:
            self._data.cut()

    def _piece(self, piece: bytes) -> None:
        if self._kind == _OTHER:
            return
        if self._kind == _VALUE:
            if self._data is not None:
                self._data.text(piece, self._now_ns)
            return
        head = self._head + piece if self._head else piece
        if not self._begun:
            if len(head) < len(_BOM) and _BOM.startswith(head):
                self._head = head
                return
            self._begun = True
            head = head.removeprefix(_BOM)
        if len(head) < _DECIDES:
            self._head = head
            return
        self._head = b""
        self._decide(head)

    def _decide(self, line: bytes) -> None:
        if not line.startswith(_DATA) or (len(line) > 4 and line[4] != _COLON):
            self._kind = _OTHER
            return
        self._kind = _VALUE
        self._has_data = True
        if self._data is not None and len(line) > 5:
            self._data.text(line[6:] if line[5] == 32 else line[5:], self._now_ns)

    def _line_ends(self) -> None:
        head = self._head
        if self._kind == _UNDECIDED:
            if not self._begun:
                self._begun = True
                head = head.removeprefix(_BOM)
            if head:
                self._decide(head)
        if self._kind == _UNDECIDED:
            self._event_ends()
        elif self._kind == _VALUE and self._data is not None:
            self._data.text(b"\n", self._now_ns)
        self._head = b""
        self._kind = _UNDECIDED

    def _event_ends(self) -> None:
        if not self._has_data:
            return
        self._has_data = False
        self.count += 1
        self.last_ktime_ns = self._now_ns
        if self.count == 1:
            self.first_ktime_ns = self._now_ns
        if self._data is not None:
            self._data.document_ends()
