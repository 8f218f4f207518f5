"""The head of an HTTP/1 message: start line and field section (RFC 9112, sections 2 to 5).

Owns how lines become methods, statuses and fields, and what the fields say of the framing. Pure;
it must not know streams, gaps or exchanges. Lenient where most readers are (bare LF, obs-fold);
where nobody can say which bytes follow, a start line is `Malformed` and a section `BROKEN`. What
readers may differ about leaves its word in `HeadParser.doubts` (see `ambiguity`).

Messages resemble each other, so most lines are told without taking them apart: behind each name
the one that followed it last is expected, with the line that it had, and equal lines become one
`Field` object through a bounded table. Lines that may hold a secret are never kept: not those of
sensitive names, and none with a query string.
"""

from __future__ import annotations

import re
from typing import Any, Final

from otel_tap.messages import Field
from otel_tap.protocols.http1.ambiguity import (
    BAD_CODING,
    BAD_FIELD_LINE,
    BAD_LENGTH,
    BARE_CR,
    BARE_LF,
    CONFLICTING_LENGTH,
    FRAMING_IN_TRAILERS,
    LENGTH_AND_CODING,
    NO_WORDS,
    OBS_FOLD,
    REPEATED_CODING,
    REPEATED_LENGTH,
    SPACE_BEFORE_COLON,
    SPACE_BEFORE_FIELD,
    SPACE_IN_TARGET,
    with_word,
)
from otel_tap.protocols.http1.outline import Outlines

HEAD_LIMIT: Final = 64 * 1024

_TABLE_LIMIT: Final = 4096  # field lines; both tables begin anew when it is reached
_NAME_LIMIT: Final = 1024
_LINE_LIMIT: Final = 128  # bytes of a line that is kept
_NEVER: Final = -1
_CR: Final = 13
_QUESTION: Final = 63
_NO_LINE: Final = b"\n"  # is in no line
_LINES_PER_NAME: Final = 64  # values of names that vary (dates, ids) soon are not kept any more
_LINES_PER_SECOND: Final = 4  # ... but for a few in each second
_STATUS_TABLE_LIMIT: Final = 256
_LENGTH_DIGITS: Final = 18  # more than fits into 63 bits is no length

_REQUEST_LINE: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [^\x00-\x20\x7f]+ HTTP/1\.[01]\r?\n"
)
# Behind a gap "T /" may be the end of "GET /": only methods that are no end of another one prove
# a beginning (so not LOCK, the end of UNLOCK).
_KNOWN_REQUEST_LINE: Final = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE"
    rb"|UNLOCK|REPORT|SEARCH|QUERY|PURGE) [^\x00-\x20\x7f]+ HTTP/1\.[01]\r?\n"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9][ \r\n]")
_STATUS_PARTS: Final = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9][0-9])(?: ([^\r\n]*))?\r?")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHODS: Final = frozenset(b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
_SENSITIVE: Final = re.compile(
    rb"authorization|cookie|token|secret|passw|api[-_]?key|session|credential|signature"
)

NO_LENGTH: Final = -1
_BROKEN_LENGTH: Final = -2
_BROKEN_LINE: Final = -3  # in place of a length: a line is no field
NOT_CODED: Final = 0
CHUNKED: Final = 1
OTHER_CODING: Final = 2  # a transfer coding that is not chunked at its end
BROKEN: Final = 3  # where the message ends cannot be said, or a line is no field

_FRAMING_NONE: Final = 0
_FRAMING_LENGTH: Final = 1
_FRAMING_CODING: Final = 2
_FRAMING_UPGRADE: Final = 3


class Malformed(Exception):  # noqa: N818 - a verdict on bytes, not an error of the program
    """These bytes are not HTTP/1; never leaves the protocol."""


Section = tuple[tuple[Field, ...], int, int, bool]
"""A parsed field section: the fields, and what they say of the body: content length (or
`NO_LENGTH`), transfer coding (or `BROKEN`), and whether an upgrade is asked for or granted.
"""


class _Name:
    """A name as it is written, and what is expected of its lines and behind them."""

    __slots__ = ("field", "framing", "line", "name", "next", "prefix", "room")

    def __init__(self, name: bytes, framing: int, room: int, prefix: bytes = _NO_LINE) -> None:
        self.name = name
        self.framing = framing
        self.room = room
        self.prefix = prefix  # of its lines: what stands before the value
        self.line = _NO_LINE  # the last one that was kept
        self.field: Field = (name, b"")  # ... and what it says
        self.next = self  # which name followed last


class _Line:
    """A line in the table."""

    __slots__ = ("field", "name")

    def __init__(self, field: Field, name: _Name) -> None:
        self.field = field
        self.name = name


_FOLDED: Final = _Name(
    b"", _FRAMING_NONE, _NEVER
)  # stands for a line that went on with another one
_FRAMING_WORDS: Final = frozenset(
    (
        BAD_CODING,
        BAD_LENGTH,
        CONFLICTING_LENGTH,
        LENGTH_AND_CODING,
        REPEATED_CODING,
        REPEATED_LENGTH,
    )
)


def is_request_line(payload: bytes) -> bool:
    """Whether a whole request line stands at the beginning, of any method."""
    return _REQUEST_LINE.match(payload) is not None


def begins_request(payload: bytes, at: int = 0) -> bool:
    """Whether a whole request line of a known method stands at `at`."""
    return _KNOWN_REQUEST_LINE.match(payload, at) is not None


def begins_response(payload: bytes, at: int = 0) -> bool:
    """Whether a status line stands at `at`."""
    return _STATUS_LINE.match(payload, at) is not None


class HeadParser:
    """Parses heads and remembers the lines that come again. One serves all connections.

    `doubts` are the words for what is ambiguous about the last head, or trailers: what was read
    since the last start line. `requests` and `responses` know the outlines of whole heads.
    """

    __slots__ = (
        "_before",
        "_lines",
        "_names",
        "_request",
        "_response",
        "_statuses",
        "doubts",
        "requests",
        "responses",
    )

    def __init__(self) -> None:
        self.doubts = NO_WORDS
        # What stands before the first field, for it to be expected.
        self._request = _Name(b"", _FRAMING_NONE, _NEVER)
        self._response = _Name(b"", _FRAMING_NONE, _NEVER)
        self._before = self._request
        self._lines: dict[bytes, _Line] = {}
        self._names: dict[bytes, _Name] = {}
        self._statuses: dict[bytes, tuple[int, bytes, str]] = {}
        self.requests = Outlines()
        self.responses = Outlines()

    def refresh(self) -> None:
        """A second has passed: every name may have new lines in the table again.

        So a line that is the same for a while (`Date`, a session's settings) is met there, while
        one that never comes again does not push the others out.
        """
        for entry in self._names.values():
            if entry.room == 0:
                entry.room = _LINES_PER_SECOND
        self.requests.refresh()
        self.responses.refresh()

    def request_line(self, line: bytes) -> tuple[bytes, bytes, str]:
        """Method, target and version of a request line without its LF."""
        self.doubts = NO_WORDS
        self._before = self._request
        parts = line.split(b" ")
        if len(parts) == 3 and parts[2] == b"HTTP/1.1\r" and parts[0] in _METHODS:
            target = parts[1]
            if target and _CR not in target:
                return parts[0], target, "1.1"
        self._doubt_ends(line)
        if line.endswith(b"\r"):
            line = line[:-1]
        method, _, rest = line.partition(b" ")
        target, _, protocol = rest.rpartition(b" ")
        if protocol == b"HTTP/1.1":
            version = "1.1"
        elif protocol == b"HTTP/1.0":
            version = "1.0"
        else:
            raise Malformed
        # Targets with spaces are sent by broken clients and read by lenient servers; those around
        # it are none of its own (RFC 9112 3).
        if b" " in target:
            self.doubt(SPACE_IN_TARGET)
            target = target.strip(b" ")
        if not target or _TOKEN.fullmatch(method) is None or len(method) > 32:
            raise Malformed
        return method, target, version

    def status_line(self, line: bytes) -> tuple[int, bytes, str]:
        """Status, reason and version of a status line without its LF."""
        self.doubts = NO_WORDS
        self._before = self._response
        known = self._statuses.get(line)
        if known is not None:
            return known
        match = _STATUS_PARTS.fullmatch(line)
        if match is None:
            raise Malformed
        parts = (int(match[2]), match[3] or b"", match[1].decode("ascii"))
        if not line.endswith(b"\r"):
            self.doubt(BARE_LF)  # and not kept: a line in the table is a clean one
        elif len(line) <= _LINE_LIMIT:
            if len(self._statuses) >= _STATUS_TABLE_LIMIT:
                self._statuses.clear()
            self._statuses[line] = parts
        return parts

    def trailers(self, lines: list[bytes], end: int) -> tuple[tuple[Field, ...], bool]:
        """The trailer fields `lines[:end]`, which frame nothing; and whether a line is no field."""
        self.doubts = NO_WORDS
        self._before = _Name(b"", _FRAMING_NONE, _NEVER)
        fields, length, _, _ = self.section(lines, 0, end)
        if any(_framing_of(name) in (_FRAMING_LENGTH, _FRAMING_CODING) for name, _ in fields):
            self.doubts = tuple(word for word in self.doubts if word not in _FRAMING_WORDS)
            self.doubt(FRAMING_IN_TRAILERS)
        return fields, length == _BROKEN_LINE

    def section(self, lines: list[bytes], start: int, end: int) -> Section:
        """The field lines `lines[start:end]`, each without its LF."""
        known = self._lines
        names = self._names
        before = self._before
        fields: list[Any] = []  # Any: of a known tuple, mypyc would take the parts and make one
        length = NO_LENGTH
        codings = b""
        upgrade = False
        for line in lines[start:end]:
            entry = before.next
            if line == entry.line:
                fields.append(entry.field)
                before = entry
                continue
            if line.startswith(entry.prefix):
                value = line[len(entry.prefix) :]
            else:
                met = known.get(line)
                if met is not None:
                    fields.append(met.field)
                    before.next = met.name
                    before = met.name
                    continue
                raw_name, colon, value = line.partition(b":")
                named = names.get(raw_name)
                if named is None or not colon:
                    named = self._other_line(fields, line, raw_name, colon, length)
                    if named is None:
                        length = _BROKEN_LINE
                        continue
                    if named is _FOLDED:
                        continue
                before.next = entry = named
            before = entry
            value = value.strip(b" \t\r")
            clean = line[-1] == _CR and _CR not in value
            if not clean:
                self._doubt_ends(line)
            field = (entry.name, value)
            fields.append(field)
            framing = entry.framing
            if framing == _FRAMING_NONE:
                if entry.room > 0 and clean and len(line) <= _LINE_LIMIT and _QUESTION not in line:
                    self._remember(entry, line, field)
            elif framing == _FRAMING_LENGTH:
                if length == NO_LENGTH and value.isdigit() and len(value) <= _LENGTH_DIGITS:
                    length = int(value)
                else:
                    length = self._content_length(value, length)
            elif framing == _FRAMING_CODING:
                codings = self._more_codings(codings, value)
            else:
                upgrade = True
        coding = NOT_CODED
        if codings or length < NO_LENGTH:
            coding = self._coding(codings, length)
        return tuple(fields), length, coding, upgrade

    def doubt(self, word: str) -> None:
        """Readers may differ about what was just read."""
        self.doubts = with_word(self.doubts, word)

    def _doubt_ends(self, line: bytes) -> None:
        if not line.endswith(b"\r"):
            self.doubt(BARE_LF)
        if _CR in line.rstrip(b"\r"):
            self.doubt(BARE_CR)

    def _other_line(
        self, fields: list[Field], line: bytes, raw_name: bytes, colon: bytes, length: int
    ) -> _Name | None:
        """What a line is whose name is not known: a new name, a fold, or None: no field."""
        if line[:1] not in (b" ", b"\t"):
            return self._learn(line, raw_name, colon)
        # obs-fold (RFC 9112 5.2): the line goes on with the one before it. After a broken line
        # nobody knows what the fold belongs to.
        if not fields:
            self.doubt(SPACE_BEFORE_FIELD)
            return None
        self._doubt_ends(line)
        self.doubt(OBS_FOLD)
        name, value = fields[-1]
        if length == _BROKEN_LINE or _framing_of(name) != _FRAMING_NONE:
            return None
        more = line.strip(b" \t\r")
        fields[-1] = (name, value + b" " + more if value else more)
        return _FOLDED

    def _learn(self, line: bytes, raw_name: bytes, colon: bytes) -> _Name | None:
        """What is known of a name from now on; None if it is none."""
        spaced = False
        if _TOKEN.fullmatch(raw_name) is None:
            raw_name = raw_name.rstrip(b" \t")
            spaced = True
        if not colon or _TOKEN.fullmatch(raw_name) is None:
            self.doubt(BAD_FIELD_LINE)
            return None
        name = raw_name.lower()
        room = _NEVER if _SENSITIVE.search(name) else _LINES_PER_NAME
        if spaced:
            # Never kept, neither the name nor its lines: what is in the tables is clean.
            self.doubt(SPACE_BEFORE_COLON)
            return None if _framing_of(name) else _Name(name, _FRAMING_NONE, _NEVER)
        if len(name) > _LINE_LIMIT:
            return _Name(name, _framing_of(name), room)
        prefix = raw_name + b": "
        entry = _Name(
            name, _framing_of(name), room, prefix if line.startswith(prefix) else prefix[:-1]
        )
        if len(self._names) >= _NAME_LIMIT:
            self._forget()
        self._names[raw_name] = entry
        return entry

    def _content_length(self, value: bytes, before: int) -> int:
        """RFC 9110 8.6: a list of equal numbers is that number; anything else is refused."""
        if before < NO_LENGTH:
            return before
        length = before
        for part in value.split(b","):
            digits = part.strip(b" \t")
            if not digits.isdigit() or len(digits) > _LENGTH_DIGITS:
                self.doubt(BAD_LENGTH)
                return _BROKEN_LENGTH
            number = int(digits)
            if length not in (NO_LENGTH, number):
                self.doubt(CONFLICTING_LENGTH)
                return _BROKEN_LENGTH
            if length == number:
                self.doubt(REPEATED_LENGTH)
            length = number
        return length

    def _more_codings(self, before: bytes, value: bytes) -> bytes:
        if before:
            self.doubt(REPEATED_CODING)
            return before + b"," + value
        if not value:
            self.doubt(BAD_CODING)
        return value

    def _coding(self, value: bytes, length: int) -> int:
        """How a message is framed that is coded, or whose length or lines are no good."""
        coding = self._transfer_coding(value) if value else NOT_CODED
        if value and length not in (NO_LENGTH, _BROKEN_LINE):
            self.doubt(LENGTH_AND_CODING)
        if length == _BROKEN_LINE or (length == _BROKEN_LENGTH and coding == NOT_CODED):
            return BROKEN
        return coding

    def _transfer_coding(self, value: bytes) -> int:
        codings = [part.strip(b" \t").lower() for part in value.split(b",")]
        known = [coding for coding in codings if coding not in (b"", b"identity")]
        if len(known) < len(codings):
            self.doubt(BAD_CODING)
        if not known:
            return NOT_CODED
        if b"chunked" not in known[:-1]:
            return CHUNKED if known[-1] == b"chunked" else OTHER_CODING
        self.doubt(BAD_CODING)
        return BROKEN if known[-1] == b"chunked" else OTHER_CODING

    def _remember(self, entry: _Name, line: bytes, field: Field) -> None:
        if len(self._lines) >= _TABLE_LIMIT:
            self._forget()
        self._lines[line] = _Line(field, entry)
        entry.line = line
        entry.field = field
        entry.room -= 1

    def _forget(self) -> None:
        self._lines.clear()
        self._names.clear()
        # Nothing leads to the names any more that were known.
        self._request.next = self._request
        self._response.next = self._response


def _framing_of(name: bytes) -> int:
    if name == b"content-length":
        return _FRAMING_LENGTH
    if name == b"transfer-encoding":
        return _FRAMING_CODING
    if name == b"upgrade":
        return _FRAMING_UPGRADE
    return _FRAMING_NONE
