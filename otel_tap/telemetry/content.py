"""Body content as an attribute: content coding removed, text where it is text.

What arrives here has passed redaction, coded bodies too: it opens, redacts and packs them again.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from otel_tap.messages import Body, Field, field_value, field_values
from otel_tap.telemetry.otlp import bytes_attribute, string_attribute

_TEXTUAL = (
    b"json", b"xml", b"javascript", b"ecmascript", b"x-www-form-urlencoded", b"graphql", b"yaml",
    b"x-ndjson",
)  # fmt: skip
# The charsets of the web (WHATWG Encoding). Python knows more: some are no charsets (idna,
# unicode_escape), some take quadratic time on what a peer sends (punycode).
_CHARSETS = frozenset(
    (
        "ascii", "us-ascii", "utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "latin1",
        "iso-8859-1", "iso-8859-2", "iso-8859-5", "iso-8859-7", "iso-8859-9", "iso-8859-15",
        "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254",
        "windows-1255", "windows-1256", "windows-1257", "windows-1258", "koi8-r", "koi8-u",
        "shift_jis", "euc-jp", "iso-2022-jp", "euc-kr", "gb2312", "gbk", "gb18030", "big5",
    )
)  # fmt: skip
_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
# Some send deflate without its wrapper. For gzip that must not be tried: much plain text is, by
# chance, valid raw deflate of something else.
_WINDOWS = {b"gzip": (_GZIP,), b"x-gzip": (_GZIP,), b"deflate": (_ZLIB, _RAW)}
_MAX_MEMBERS = 64  # of a gzip stream; each costs time, and may be empty


def _decoded(content: bytes, coding: bytes, limit: int) -> bytes | None:
    """At most `limit` bytes of the content; None when the coding is not known or not kept to."""
    if coding in (b"", b"identity"):
        return content[:limit]
    for window_bits in _WINDOWS.get(coding, ()):
        plain = _inflated(content, window_bits, limit)
        if plain is not None:
            return plain
    return None


def _inflated(content: bytes, window_bits: int, limit: int) -> bytes | None:
    """All members of a stream (gzip may have several, RFC 1952 2.2), within the limit."""
    plain = b""
    for member in range(_MAX_MEMBERS):
        inflate = zlib.decompressobj(window_bits)
        try:
            plain += inflate.decompress(content, limit - len(plain))
        except zlib.error:
            # What follows a whole member and is none is padding: gzip ignores it too.
            return plain if member else None
        content = inflate.unused_data
        if not content or len(plain) >= limit:
            return plain
    return None


def _charset(media_type: bytes) -> str | None:
    """The codec of a textual media type, None for anything that is not text."""
    essence, *parameters = media_type.lower().split(b";")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset":
            charset = value.strip(b" \t\"'").decode("ascii", "replace")
            return charset if charset in _CHARSETS else None
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
    return None


class Content(NamedTuple):
    """What is shown of a body: UTF-8 if `is_text`; the content coding is removed if `decoded`."""

    shown: bytes
    is_text: bool
    decoded: bool
    cut: bool


def content_of(body: Body, fields: tuple[Field, ...], limit: int) -> Content:
    """At most `limit` bytes of a body, without its content coding where that can be removed."""
    coding = b",".join(field_values(fields, b"content-encoding")).strip().lower()
    # One byte more than asked for tells whether there was more.
    content = _decoded(body.content, coding, limit + 1)
    if content is None:
        content = body.content
        cut = body.truncated or len(content) > limit
        return Content(content[:limit], is_text=False, decoded=False, cut=cut)
    cut = body.truncated or len(content) > limit
    content = content[:limit]
    charset = _charset(field_value(fields, b"content-type") or b"")
    if charset is not None:
        text = _text(content, charset, cut=cut)
        if text is not None:
            return Content(text, is_text=True, decoded=True, cut=cut)
    return Content(content, is_text=False, decoded=True, cut=cut)


def content_attribute(
    name: str, body: Body, fields: tuple[Field, ...], limit: int
) -> tuple[bytes, bool]:
    """The encoded attribute `name`, a string if the content is text, else bytes; whether cut."""
    content = content_of(body, fields, limit)
    encode = string_attribute if content.is_text else bytes_attribute
    return encode(name, content.shown), content.cut
