"""HTTP messages as an observer can know them (terms of RFC 9110).

Bytes stay bytes: nothing that a process sent is refused for its encoding. Field names are
lower-case. A field is a plain tuple so that equal fields of many messages can be one object.
"""

from __future__ import annotations

from dataclasses import dataclass

Field = tuple[bytes, bytes]
"""(lower-case name, value without surrounding white space)."""


@dataclass(frozen=True, slots=True)
class Body:
    """The content of a message: transfer coding removed, content coding kept.

    `content` is the captured beginning, at most the body limit. It is exact: bytes behind a gap
    are not in it. `size` counts all content bytes that moved, captured or not.
    """

    content: bytes
    size: int
    truncated: bool  # content is shorter than size: by the limit or by a gap


EMPTY_BODY = Body(b"", 0, False)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `complete` is False when its end was not seen."""

    method: bytes
    target: bytes  # as on the wire: origin, absolute, authority or asterisk form
    version: str  # "1.0", "1.1", "2"
    fields: tuple[Field, ...]
    trailers: tuple[Field, ...]
    body: Body
    wire_size: int  # all bytes of the message: start line, fields, framing, content
    lost_bytes: int  # bytes of the message that fell into gaps
    complete: bool


@dataclass(frozen=True, slots=True)
class Response:
    """One final response; interim (1xx) ones only leave their status in `interim`."""

    status: int
    reason: bytes
    version: str
    fields: tuple[Field, ...]
    trailers: tuple[Field, ...]
    body: Body
    wire_size: int
    lost_bytes: int
    complete: bool
    interim: tuple[int, ...] = ()


def field_value(fields: tuple[Field, ...], name: bytes) -> bytes | None:
    """The first value of `name` (lower-case), or None."""
    for field_name, value in fields:
        if field_name == name:
            return value
    return None


def field_values(fields: tuple[Field, ...], name: bytes) -> list[bytes]:
    """All values of `name` (lower-case), in order."""
    return [value for field_name, value in fields if field_name == name]
