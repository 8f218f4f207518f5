"""HTTP messages as an observer can know them (terms of RFC 9110).

Bytes stay bytes: nothing that a process sent is refused for its encoding. Field names are
lower-case. A field is a plain tuple so that equal fields of many messages can be one object.

Nothing changes a message once it is made, and mypy holds everyone to it (`Final`). The classes are
not frozen, for that would cost each of the objects of an exchange 1.0 us to make instead of 0.25;
and their `__init__` is written out, for then it is compiled with them: 0.03 us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Field = tuple[bytes, bytes]
"""(lower-case name, value without surrounding white space)."""

UNKNOWN_FIELD: Field = (b"?", b"?")
"""Stands for a field that moved but cannot be known; "?" is not a character of names."""

UNKNOWN: Final = b"?"
"""A method or target that moved but cannot be known."""

UNKNOWN_STATUS: Final = -1


@dataclass(init=False, slots=True)
class Body:
    """The content of a message: transfer coding removed, content coding kept.

    `content` is the captured beginning, at most the body limit. It is exact: bytes behind a gap
    are not in it. `size` counts all content bytes that moved, captured or not.
    """

    content: Final[bytes]
    size: Final[int]
    truncated: Final[bool]  # content is shorter than size: by the limit or by a gap

    def __init__(
        self,
        content: bytes,
        size: int,
        truncated: bool,
    ) -> None:
        self.content = content
        self.size = size
        self.truncated = truncated


EMPTY_BODY: Final = Body(b"", 0, False)


@dataclass(init=False, slots=True)
class EventStream:
    """The Server-Sent Events of a response, counted while it flowed. Times are ktime_ns."""

    count: Final[int | None]  # dispatched events; None: not known
    first_ktime_ns: Final[int]  # when the first one was whole; 0 none, or not known
    last_ktime_ns: Final[int]  # the same of the last one
    unknown: Final[str]  # why the count is not known: "lost", "coding"; "" it is

    def __init__(
        self,
        count: int | None,
        first_ktime_ns: int,
        last_ktime_ns: int,
        unknown: str,
    ) -> None:
        self.count = count
        self.first_ktime_ns = first_ktime_ns
        self.last_ktime_ns = last_ktime_ns
        self.unknown = unknown


@dataclass(init=False, slots=True)
class Request:
    """One request; `complete` is False when its end was not seen."""

    method: Final[bytes]
    target: Final[bytes]  # as on the wire: origin, absolute, authority or asterisk form
    version: Final[str]  # "1.0", "1.1", "2"
    fields: Final[tuple[Field, ...]]
    trailers: Final[tuple[Field, ...]]
    body: Final[Body]
    wire_size: Final[int]  # all bytes of the message: start line, fields, framing, content
    lost_bytes: Final[int]  # bytes of the message that fell into gaps
    complete: Final[bool]
    headers_incomplete: Final[bool]  # fields or trailers lack something, or have a `?`
    ambiguity: Final[tuple[str, ...]]  # what readers may differ about: http1.ambiguity

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: str,
        fields: tuple[Field, ...],
        trailers: tuple[Field, ...],
        body: Body,
        wire_size: int,
        lost_bytes: int,
        complete: bool,
        headers_incomplete: bool = False,
        ambiguity: tuple[str, ...] = (),
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.trailers = trailers
        self.body = body
        self.wire_size = wire_size
        self.lost_bytes = lost_bytes
        self.complete = complete
        self.headers_incomplete = headers_incomplete
        self.ambiguity = ambiguity


@dataclass(init=False, slots=True)
class Response:
    """One final response; interim (1xx) ones only leave their status in `interim`."""

    status: Final[int]  # UNKNOWN_STATUS if it cannot be known
    reason: Final[bytes]
    version: Final[str]
    fields: Final[tuple[Field, ...]]
    trailers: Final[tuple[Field, ...]]
    body: Final[Body]
    wire_size: Final[int]
    lost_bytes: Final[int]
    complete: Final[bool]
    interim: Final[tuple[int, ...]]
    headers_incomplete: Final[bool]
    ambiguity: Final[tuple[str, ...]]
    events: Final[EventStream | None]  # of `text/event-stream` only

    def __init__(
        self,
        status: int,
        reason: bytes,
        version: str,
        fields: tuple[Field, ...],
        trailers: tuple[Field, ...],
        body: Body,
        wire_size: int,
        lost_bytes: int,
        complete: bool,
        interim: tuple[int, ...] = (),
        headers_incomplete: bool = False,
        ambiguity: tuple[str, ...] = (),
        events: EventStream | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.fields = fields
        self.trailers = trailers
        self.body = body
        self.wire_size = wire_size
        self.lost_bytes = lost_bytes
        self.complete = complete
        self.interim = interim
        self.headers_incomplete = headers_incomplete
        self.ambiguity = ambiguity
        self.events = events


def field_value(fields: Sequence[Field], name: bytes) -> bytes | None:
    """The first value of `name` (lower-case), or None."""
    for field_name, value in fields:
        if field_name == name:
            return value
    return None


def field_values(fields: tuple[Field, ...], name: bytes) -> list[bytes]:
    """All values of `name` (lower-case), in order."""
    return [value for field_name, value in fields if field_name == name]
