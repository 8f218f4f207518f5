"""Body content as an attribute: content coding removed, text where it is text.

What arrives here has passed redaction, coded bodies too: it opens, redacts and packs them again.
"""

from __future__ import annotations

import zlib

from otel_tap.messages import Request, Response, field_value
from otel_tap.telemetry.otlp import bytes_attribute, string_attribute

_TEXTUAL = (
    b"json", b"xml", b"javascript", b"ecmascript", b"x-www-form-urlencoded", b"graphql", b"yaml",
    b"x-ndjson",
)  # fmt: skip
_ZLIB_AUTO = zlib.MAX_WBITS | 32  # gzip or zlib, by its header


def _decoded(content: bytes, coding: bytes, limit: int) -> bytes | None:
    """At most `limit` bytes of the content; None when the coding is not known or not kept to."""
    if coding in (b"", b"identity"):
        return content[:limit]
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    for window_bits in (_ZLIB_AUTO, -zlib.MAX_WBITS):  # some send deflate without its wrapper
        try:
            return zlib.decompressobj(window_bits).decompress(content, limit)
        except zlib.error:
            continue
    return None


def _charset(media_type: bytes) -> str | None:
    """The codec of a textual media type, None for anything that is not text."""
    essence, *parameters = media_type.lower().split(b";")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset":
            return value.strip(b" \t\"'").decode("ascii", "replace")
    essence = essence.strip()
    if essence.startswith(b"text/") or any(word in essence for word in _TEXTUAL):
        return "utf-8"
    return None


def _text(content: bytes, charset: str, *, cut: bool) -> bytes | None:
    """`content` as UTF-8, up to its last whole character if it was `cut`; None if it is no text."""
    for trim in range(4 if cut else 1):
        try:
            return content[: len(content) - trim].decode(charset).encode()
        except UnicodeError:
            continue
        except LookupError:
            return None
    return None


def content_attribute(name: str, message: Request | Response, limit: int) -> bytes:
    """The encoded attribute `name`: a string if the content is text, else bytes."""
    fields = message.fields
    coding = (field_value(fields, b"content-encoding") or b"").strip().lower()
    content = _decoded(message.body.content, coding, limit)
    if content is None:
        return bytes_attribute(name, message.body.content[:limit])
    charset = _charset(field_value(fields, b"content-type") or b"")
    if charset is not None:
        cut = message.body.truncated or len(content) >= limit
        text = _text(content, charset, cut=cut)
        if text is not None:
            return string_attribute(name, text)
    return bytes_attribute(name, content)
