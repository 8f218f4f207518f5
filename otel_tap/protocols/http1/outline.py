"""Outlines: heads that have the same names in the same order, told in one step.

A program sends heads of a few outlines, in which only values differ. Owns the expression that
matches an outline and takes the values that telemetry wants; line by line the same costs three
times as much. Promises: a head that an outline matches is one that `HeadParser` reads without a
doubt, as the same method, target, version, status and length, with the same first values. It keeps
names and status lines, never a value.

Outlines are learned from heads that were read, when one is met a second time. How many are looked
at, learned and kept is bounded: who never sends the same names again costs nothing more.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Sequence
from typing import Final

_HOST: Final = 0
_AGENT: Final = 1
_PARENT: Final = 2
_STATE: Final = 3
_LENGTH: Final = 4
_FORWARDED_FOR: Final = 5
_FORWARDED_HOST: Final = 6
_FORWARDED_PROTO: Final = 7
_WANTED: Final = {
    b"host": _HOST,
    b"user-agent": _AGENT,
    b"traceparent": _PARENT,
    b"tracestate": _STATE,
    b"content-length": _LENGTH,
    b"x-forwarded-for": _FORWARDED_FOR,
    b"x-forwarded-host": _FORWARDED_HOST,
    b"x-forwarded-proto": _FORWARDED_PROTO,
}
# These decide how a message ends, or who sent it: the general way asks them.
_REFUSED: Final = frozenset((b"transfer-encoding", b"upgrade", b"forwarded"))

WITHOUT_CONTENT: Final = frozenset((204, 304))  # status codes

_MAX_LINES: Final = 64
_MAX_SIGNATURE: Final = 2048
_MAX_MET: Final = 256
_MAX_KNOWN: Final = 256  # of requests, and of responses; they begin anew when it is reached
_MAX_SIMILAR: Final = 16  # outlines with as many lines
_MAX_RECENT: Final = 4
_LOOKED_AT_PER_SECOND: Final = 16
_LEARNED_PER_SECOND: Final = 4  # each costs half a millisecond

# No LF is excluded: that takes longer than counting the lines.
_VALUE: Final = b"[^\r]*+"
# The general way strips white space around a value, and knows what an empty one is.
_WANTED_VALUE: Final = b"([^\r \t][^\r]*+)(?<![ \t])"
_TYPE_VALUE: Final = b"(?!(?i:[ \t]*text/event))" + _VALUE  # an event stream is read as it flows
_LENGTH_VALUE: Final = b"([0-9]{1,18}+)"
_REQUEST_LINE: Final = b"(%b (/[^ \r\n]*+) HTTP/1\\.1"
_END: Final = (
    b"\r\n\r\n)(?:(?!)(.))?"  # the last group takes no part, so it stands for what is absent
)


Match = Callable[[mmap.mmap | bytes, int, int], re.Match[bytes] | None]
"""Looks at memory between two places."""


class Outline:
    """Of requests, or of responses, by what their start line says.

    `match` finds a head at the beginning of a payload; its groups are the head, the target if it is
    of a request, and the values wanted, each at its place. A match counts only if the head has
    `lines` LFs.
    """

    __slots__ = (
        "agent",
        "bodiless",
        "forwarded",
        "host",
        "length",
        "lines",
        "match",
        "method",
        "parent",
        "signature",
        "state",
        "status",
        "version",
    )

    def __init__(
        self,
        signature: bytes,
        match: Match,
        lines: int,
        places: Sequence[int],
        method: bytes = b"",
        status: int = 0,
        version: str = "",
    ) -> None:
        self.signature = signature
        self.match = match
        self.lines = lines
        # Places among the groups; the last one where an outline has no such field.
        self.host = places[_HOST]
        self.agent = places[_AGENT]
        self.parent = places[_PARENT]
        self.state = places[_STATE]
        self.length = places[_LENGTH]
        # The places of X-Forwarded-For, -Host and -Proto, unless all are absent.
        hops = (places[_FORWARDED_FOR], places[_FORWARDED_HOST], places[_FORWARDED_PROTO])
        absent = max(places)
        self.forwarded = None if hops == (absent, absent, absent) else hops
        self.method = method
        self.status = status
        self.version = version
        self.bodiless = status in WITHOUT_CONTENT


def _matches_nothing(_memory: object, _begin: int, _end: int) -> None:
    return None


NO_OUTLINE: Final = Outline(b"", _matches_nothing, 0, [0] * len(_WANTED))


class Outlines:
    """What one direction of all connections is known to send. One instance serves one thread."""

    __slots__ = ("_known", "_learning", "_met", "_recent", "_similar", "looking")

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._similar: dict[int, list[Outline]] = {}  # by the number of lines, latest first
        self._recent: list[Outline] = []  # that a connection turned to, latest first
        self._met: set[bytes] = set()
        self._learning = _LEARNED_PER_SECOND
        self.looking = _LOOKED_AT_PER_SECOND  # how many heads may still be met in this second

    def refresh(self) -> None:
        """A second has passed."""
        self._learning = _LEARNED_PER_SECOND
        self.looking = _LOOKED_AT_PER_SECOND

    def recent(
        self, memory: mmap.mmap | bytes, begin: int, end: int
    ) -> tuple[Outline, re.Match[bytes]] | None:
        """Outline and match of the head at `memory[begin:end]`, of those turned to last."""
        recent = self._recent
        for outline in recent:
            found = outline.match(memory, begin, end)
            if found is not None:
                if outline is not recent[0]:
                    recent.remove(outline)
                    recent.insert(0, outline)
                return outline, found
        return None

    def like(self, payload: bytes, lines: int) -> Outline | None:
        """The outline of the head that `payload` begins with, and that has so many lines."""
        for outline in self._similar.get(lines, ()):
            if outline.match(payload, 0, len(payload)) is not None:
                if outline not in self._recent:
                    self._recent.insert(0, outline)
                    del self._recent[_MAX_RECENT:]
                return outline
        return None

    def meet_request(
        self, lines: list[bytes], end: int, method: bytes, target: bytes, version: str
    ) -> None:
        """A request was read: its lines are `lines[:end]`, and nothing of them is doubtful."""
        signature = b""
        if version == "1.1" and target.startswith(b"/"):
            signature = _signature(method, lines, end)
        if self._is_new(signature):
            match, places = _expression(_REQUEST_LINE % re.escape(method), signature, 3)
            self._add(end, Outline(signature, match, end + 1, places, method=method))

    def meet_response(self, lines: list[bytes], status: int, version: str) -> None:
        """The same of a response."""
        line = lines[0].rstrip(b"\r")
        end = len(lines)
        signature = _signature(line, lines, end)
        if self._is_new(signature):
            match, places = _expression(b"(" + re.escape(line), signature, 2)
            outline = Outline(signature, match, end + 1, places, status=status, version=version)
            self._add(end, outline)

    def _is_new(self, signature: bytes) -> bool:
        """Whether this outline was met before, and is to be learned."""
        self.looking -= 1
        if not signature or signature in self._known:
            return False
        if signature not in self._met:
            if len(self._met) >= _MAX_MET:
                self._met.clear()
            self._met.add(signature)
            return False
        return self._learning > 0

    def _add(self, lines: int, outline: Outline) -> None:
        self._learning -= 1
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
            self._similar.clear()
        self._known.add(outline.signature)
        similar = self._similar.setdefault(lines, [])
        similar.insert(0, outline)
        if len(similar) > _MAX_SIMILAR:
            self._known.discard(similar.pop().signature)


def _signature(start: bytes, lines: list[bytes], end: int) -> bytes:
    """Start and names, each with what stands before its value; empty if it is not to be learned."""
    if end > _MAX_LINES:
        return b""
    parts = [start]
    seen = set()
    for line in lines[1:end]:
        colon = line.find(b":") + 1
        if line[colon : colon + 1] == b" ":
            colon += 1
        prefix = line[:colon]
        name = _name(prefix)
        # Of equal names the first one counts, or none: the general way knows.
        if not name or name in _REFUSED or (name in _WANTED and name in seen):
            return b""
        seen.add(name)
        parts.append(prefix)
    signature = b"\n".join(parts)
    return signature if len(signature) <= _MAX_SIGNATURE else b""


def _name(prefix: bytes) -> bytes:
    return prefix.rstrip(b": ").lower()


def _expression(start: bytes, signature: bytes, group: int) -> tuple[Match, list[int]]:
    """What matches heads with this start and the signature's names, and the places of values.

    `group` is the number that the first value has among the groups.
    """
    parts = [start]
    places = [-1] * len(_WANTED)
    for prefix in signature.split(b"\n")[1:]:
        wanted = _WANTED.get(_name(prefix))
        value = _VALUE
        if wanted is not None:
            places[wanted] = group - 1
            group += 1
            value = _LENGTH_VALUE if wanted == _LENGTH else _WANTED_VALUE
        elif _name(prefix) == b"content-type":
            value = _TYPE_VALUE
        parts.append(re.escape(prefix) + value)
    absent = group - 1
    return (
        re.compile(b"\r\n".join(parts) + _END, re.DOTALL).match,
        [absent if place < 0 else place for place in places],
    )
