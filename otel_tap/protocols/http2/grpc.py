"""gRPC calls, as the exchanges that carry them show them: of HTTP/2, and gRPC-Web also of HTTP/1.

Owns what makes an exchange a call (its content type), the count of messages in a direction, and
the status. Promises no count that a loss could have made wrong. It keeps no message: only the
trailers that gRPC-Web sends as one. Source: gRPC over HTTP/2 and gRPC-Web, protocol documents of
the gRPC project.

The text form of gRPC-Web is base64 of what the binary form is, in pieces that are padded each.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Final

from otel_tap.exchange import Rpc
from otel_tap.messages import UNKNOWN, Field, field_value

_PREFIX_SIZE: Final = 5  # a flag byte and the length
_TRAILERS: Final = 0x80  # flag of the message of gRPC-Web that holds trailers
_TRAILERS_LIMIT: Final = 4096
_CONTENT_TYPE: Final = re.compile(rb"application/grpc(-web(?:-text)?)?(?:[+;\s].*)?", re.DOTALL)
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_NS: Final = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
_STATUS: Final = re.compile(rb"[0-9]{1,2}")
_STATUS_LINE: Final = re.compile(
    rb"(?:^|\n)grpc-status:[ \t]*([0-9]{1,2})[ \t]*(?:\r?\n|$)", re.IGNORECASE
)

_DEADLINE_EXCEEDED: Final = 4

PLAIN: Final = 0
WEB: Final = 1
WEB_TEXT: Final = 2


def form(fields: Sequence[Field]) -> int | None:
    """Which form of gRPC the content type of a message says; None: no gRPC."""
    value = field_value(fields, b"content-type")
    if value is None or not value.startswith(b"application/grpc"):
        return None
    match = _CONTENT_TYPE.fullmatch(value)
    if match is None:
        return None
    if match[1] is None:
        return PLAIN
    return WEB if match[1] == b"-web" else WEB_TEXT


class Messages:
    """Counts the messages of one direction of a call."""

    __slots__ = (
        "_due",
        "_held",
        "_length",
        "_prefix",
        "_trailers",
        "count",
        "exact",
        "size",
        "web_trailers",
    )

    def __init__(self) -> None:
        self.count = 0  # whole ones
        self.size = 0  # their bytes, without prefixes
        self.exact = True
        self.web_trailers = bytearray()
        self._prefix = bytearray()
        self._held = b""  # what does not stand for a byte yet
        self._length = 0
        self._due = 0  # bytes of the current message that have not moved
        self._trailers = False

    def moved(self, payload: bytes, at: int, stop: int) -> None:
        """The next content is `payload[at:stop]`."""
        if not self.exact:
            return
        while at < stop:
            if self._due:
                count = min(self._due, stop - at)
                if self._trailers:
                    self.web_trailers += payload[at : at + count]
                at += count
                self._pass(count)
                continue
            need = _PREFIX_SIZE - len(self._prefix)
            self._prefix += payload[at : min(stop, at + need)]
            at += need
            if len(self._prefix) == _PREFIX_SIZE:
                self._begin()

    def lost(self, count: int) -> None:
        """The next `count` bytes of content are unknown."""
        if count == 0:
            return
        if self._due < count or self._trailers:
            self.exact = False
        else:
            self._pass(count)

    def cut(self) -> None:
        """An unknown number of bytes is unknown."""
        self.exact = False

    @property
    def last_trailers(self) -> bytes:
        """The trailers with which gRPC-Web ends a body; empty unless all of them are here."""
        over = self._trailers and not self._due and not self._prefix and not self._held
        return bytes(self.web_trailers) if self.exact and over else b""

    def _begin(self) -> None:
        self.web_trailers.clear()
        self._due = self._length = int.from_bytes(self._prefix[1:])
        self._trailers = bool(self._prefix[0] & _TRAILERS)
        self._prefix.clear()
        if self._trailers and self._due > _TRAILERS_LIMIT:
            self.exact = False  # nobody sends as many
        elif not self._due:
            self._pass(0)

    def _pass(self, count: int) -> None:
        self._due -= count
        if not self._due and not self._trailers:
            self.count += 1
            self.size += self._length


class TextMessages(Messages):
    """Counts those of the text form."""

    __slots__ = ()

    def moved(self, payload: bytes, at: int, stop: int) -> None:
        """The next content is `payload[at:stop]`."""
        if not self.exact:
            return
        data = self._held + payload[at:stop]
        whole = len(data) & ~3
        self._held = data[whole:]
        plain = _decoded(data[:whole])
        if plain is None:
            self.exact = False
        else:
            super().moved(plain, 0, len(plain))

    def lost(self, count: int) -> None:
        """The next `count` bytes of content are unknown: so is how much padding was in them."""
        if count:
            self.exact = False


def _decoded(text: bytes) -> bytes | None:
    """What whole groups of four characters stand for, padded ones anywhere; None: no base64."""
    parts = []
    at = 0
    try:
        while at < len(text):
            padding = text.find(b"=", at)
            if padding >= 0 and padding & 3 < 2:
                return None  # behind a whole group strict mode lets any of it pass
            end = len(text) if padding < 0 else (padding | 3) + 1
            parts.append(binascii.a2b_base64(text[at:end], strict_mode=True))
            at = end
    except binascii.Error:
        return None
    return b"".join(parts)


def messages_of(kind: int | None, fields: tuple[Field, ...]) -> Messages | None:
    """Who counts the messages in a body; None where they cannot be seen in it."""
    if kind is None or is_coded(fields):
        return None
    return TextMessages() if kind == WEB_TEXT else Messages()


def is_coded(fields: tuple[Field, ...]) -> bool:
    """Whether a content coding lies around the messages."""
    coding = field_value(fields, b"content-encoding")
    return coding is not None and coding.strip().lower() not in (b"", b"identity")


def call(
    kind: int,
    target: bytes | None,
    request_fields: tuple[Field, ...],
    response_fields: tuple[Field, ...],
    response_trailers: tuple[Field, ...],
    sent: Messages | None,
    got: Messages | None,
    cancelled_after_ns: int | None = None,
) -> Rpc:
    """The call that an exchange was. `target` is None when the request is not known.

    `cancelled_after_ns`: one end cancelled it, so long after it began, before a status moved. No
    status moves then: each end makes its own, of CANCEL behind the deadline DEADLINE_EXCEEDED, as
    libraries of gRPC do when they read one. One before the deadline can have other reasons than
    the caller's wish (a message that is too large), so it is not told as a status.
    """
    sent_exact = sent is not None and sent.exact
    got_exact = got is not None and got.exact
    method = UNKNOWN
    if target is not None:
        # A query has no place in it, and may hold a secret.
        method = target.partition(b"?")[0].removeprefix(b"/") or UNKNOWN
    status = _status(response_fields, response_trailers, got)
    timeout_ns = _timeout_ns(request_fields)
    if status is None and cancelled_after_ns is not None and timeout_ns is not None:
        status = _DEADLINE_EXCEEDED if cancelled_after_ns >= _at_least_ns(timeout_ns) else None
    return Rpc(
        method,
        kind != PLAIN,
        status,
        timeout_ns,
        sent.count if sent is not None and sent_exact else None,
        sent.size if sent is not None and sent_exact else None,
        got.count if got is not None and got_exact else None,
        got.size if got is not None and got_exact else None,
    )


def _status(
    fields: tuple[Field, ...], trailers: tuple[Field, ...], got: Messages | None
) -> int | None:
    value = field_value(trailers, b"grpc-status")
    if value is None:
        value = field_value(fields, b"grpc-status")  # trailers only
    if value is None and got is not None:
        match = _STATUS_LINE.search(got.last_trailers)
        return None if match is None else int(match[1])
    return int(value) if value is not None and _STATUS.fullmatch(value) else None


def _timeout_ns(fields: tuple[Field, ...]) -> int | None:
    value = field_value(fields, b"grpc-timeout")
    match = None if value is None else _TIMEOUT.fullmatch(value)
    return None if match is None else int(match[1]) * _UNITS_NS[match[2]]


def _at_least_ns(timeout_ns: int) -> int:
    """The shortest deadline that is sent as this timeout.

    Libraries round up. The core of gRPC (C++, Python, Ruby, PHP) sends whole milliseconds, and
    above a second three digits of them: 2347 ms are "2350m". Others send what has more digits.
    """
    step_ns = 1_000_000
    while timeout_ns > 1000 * step_ns:
        step_ns *= 10
    if step_ns == 1_000_000 or timeout_ns % step_ns:
        return timeout_ns
    return timeout_ns - step_ns + 1_000_000
