"""What the media type of a content says of its text (RFC 9110 8.3).

Owns which types are textual and which charsets are known. Promises: linear time for any bytes.
Must not know content codings or secrets.
"""

from __future__ import annotations

from otel_tap.messages import Field, field_value

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
# Not supersets of ASCII: `{` is not one byte there, and nothing that reads bytes finds anything.
_WIDE = ("utf-16", "utf-16le", "utf-16be")
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_BY_NULLS = {
    b"\1\0\1\0": "utf-16le", b"\0\1\0\1": "utf-16be",
    b"\1\0\0\0": "utf-32le", b"\0\0\0\1": "utf-32be",
}  # fmt: skip
_MAX_CHARACTER = 8  # bytes: no character, nor a shift between two of them, is longer


def media_type_of(fields: tuple[Field, ...]) -> bytes:
    """The value of Content-Type, b"" when there is none."""
    return field_value(fields, b"content-type") or b""


def essence_of(media_type: bytes) -> bytes:
    """`type/subtype` in lower case, without parameters."""
    return media_type.partition(b";")[0].strip().lower()


def is_event_stream(fields: tuple[Field, ...]) -> bool:
    """Whether the content is a stream of Server-Sent Events."""
    return essence_of(media_type_of(fields)) == b"text/event-stream"


def charset_of(media_type: bytes) -> str | None:
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


def is_wide(charset: str) -> bool:
    """Whether ASCII characters are not the bytes of ASCII in this charset."""
    return charset in _WIDE


def wide_charset_of(content: bytes) -> str | None:
    """The wide charset that ASCII text begins with here, whatever its type says (RFC 4627 3)."""
    for mark, charset in _MARKS:
        if content.startswith(mark):
            return charset
    return _BY_NULLS.get(bytes(byte != 0 for byte in content[:4]))


def text_of(content: bytes, charset: str, *, cut: bool) -> bytes | None:
    """`content` as UTF-8, up to its last whole character if it was `cut`; None if it is no text."""
    for trim in range(_MAX_CHARACTER if cut else 1):
        try:
            return content[: len(content) - trim].decode(charset).encode()
        except UnicodeError:
            continue
    return None
