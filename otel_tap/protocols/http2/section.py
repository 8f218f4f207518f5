"""A field section, and what it says of the message that it belongs to (RFC 9113, 8.1 and 8.3).

Owns how pseudo-header fields become a method, a target and a status, and what proves that a
section is a head. What was found is kept: a section that comes again is the same object.
"""

from __future__ import annotations

import re
from typing import Final

from otel_tap.messages import UNKNOWN_FIELD, UNKNOWN_STATUS, Field, field_value
from otel_tap.protocols.http2 import grpc

HEAD: Final = 0
TRAILERS: Final = 1
UNCERTAIN: Final = 2  # its first field, which tells, is unknown

_STATUS: Final = re.compile(rb"[0-9]{3}")

RequestHead = tuple[bytes | None, bytes | None, tuple[Field, ...], bytes | None]
"""Method and target, None where the section does not say; the fields; `:protocol` (RFC 8441)."""


class Section:
    """One field section, pseudo-header fields among its fields. Nothing changes it."""

    __slots__ = ("_form", "_place", "_request", "_response", "fields", "incomplete")

    def __init__(self, fields: list[Field], *, incomplete: bool) -> None:
        self.fields = fields
        self.incomplete = incomplete  # a field is unknown, or was left out
        self._place = -1
        self._form = -1
        self._request: RequestHead | None = None
        self._response: tuple[int, tuple[Field, ...]] | None = None

    @property
    def place(self) -> int:
        """Whether it is a head or trailers: only heads have pseudo-header fields, first."""
        if self._place < 0:
            self._place = _place_of(self)
        return self._place

    @property
    def form(self) -> int | None:
        """The form of gRPC that its content type says; None: no gRPC."""
        if self._form < 0:
            form = grpc.form(self.fields)
            self._form = _NO_FORM if form is None else form
        return None if self._form == _NO_FORM else self._form

    @property
    def trailers(self) -> tuple[Field, ...]:
        """The fields that trailers can have."""
        return tuple(field for field in self.fields if field[0][:1] != b":")

    @property
    def request_head(self) -> RequestHead:
        """What it says as the head of a request."""
        if self._request is None:
            self._request = _request_head(self.fields)
        return self._request

    @property
    def response_head(self) -> tuple[int, tuple[Field, ...]]:
        """Status and fields of a response."""
        if self._response is None:
            self._response = _response_head(self.fields)
        return self._response


_NO_FORM: Final = 255


def _place_of(section: Section) -> int:
    fields = section.fields
    if not fields:
        return UNCERTAIN if section.incomplete else TRAILERS
    first = fields[0][0]
    if first[:1] == b":":
        return HEAD
    if first != UNKNOWN_FIELD[0]:
        return TRAILERS
    for name, _ in fields:
        if name[:1] == b":":
            return HEAD
    return UNCERTAIN


def _request_head(fields: list[Field]) -> RequestHead:
    method = path = authority = protocol = None
    plain: list[Field] = []
    for field in fields:
        name = field[0]
        if name[:1] != b":":
            plain.append(field)
            continue
        if plain:  # unknown ones before it were of its kind, for that comes first
            plain = [one for one in plain if one != UNKNOWN_FIELD]
        if name == b":method":
            method = field[1] if method is None else method
        elif name == b":path":
            path = field[1] if path is None else path
        elif name == b":authority":
            authority = field[1] if authority is None else authority
        elif name == b":protocol":
            protocol = field[1] if protocol is None else protocol
    target = path
    if target is None and method == b"CONNECT":
        target = authority
    kept = tuple(plain)
    if authority is not None and field_value(kept, b"host") is None:
        kept = ((b"host", authority), *kept)
    return method, target, kept, protocol


def _response_head(fields: list[Field]) -> tuple[int, tuple[Field, ...]]:
    status = UNKNOWN_STATUS
    plain = []
    for field in fields:
        name, value = field
        if name[:1] != b":":
            plain.append(field)
        elif name == b":status" and _STATUS.fullmatch(value):
            status = int(value)
    return status, tuple(plain)
