"""Protocol Buffers of OTLP as bytes, assembled from fragments.

A message object per span costs 12 to 89 µs, joining prepared bytes 3. Field numbers are those of
opentelemetry-proto 1.11 (common, resource, trace, logs), which the tests decode every form with.

An attribute is encoded once, as a length-prefixed KeyValue without the tag of the field that will
hold it: spans and log records hold the same attributes under different tags.
"""

from __future__ import annotations

import struct
from typing import Final

_FIXED64: Final = struct.Struct("<Q")
_DOUBLE = struct.Struct("<d")
_FIXED32: Final = struct.Struct("<I")
_DOUBLE = struct.Struct("<d")
_MAX_PREFIXES: Final = 256
_MAX_MEMO: Final = 4096
_MAX_VARINTS: Final = 2048  # most lengths: records have some 600 bytes

SPAN_ATTRIBUTE: Final = b"\x4a"
LOG_ATTRIBUTE: Final = b"\x32"


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


_VARINTS: Final = [_varint(value) for value in range(_MAX_VARINTS)]


def varint(value: int) -> bytes:
    """`value` >= 0 in base 128, least significant group first."""
    return _VARINTS[value] if 0 <= value < _MAX_VARINTS else _varint(value)


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: tag, length, content."""
    return tag + varint(len(content)) + content


def fixed64(value: int) -> bytes:
    """Eight bytes, little-endian; `value` is taken modulo 2**64."""
    return _FIXED64.pack(value & 0xFFFFFFFFFFFFFFFF)


def fixed32(value: int) -> bytes:
    """Four bytes, little-endian."""
    return _FIXED32.pack(value & 0xFFFFFFFF)


def utf8(value: bytes) -> bytes:
    """`value` itself if it is valid UTF-8, else with U+FFFD for what is not."""
    if value.isascii():
        return value
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace").encode()
    return value


def _key_value(key: bytes, any_value: bytes) -> bytes:
    content = field(b"\x0a", key) + field(b"\x12", any_value)
    return varint(len(content)) + content


class StringAttribute:
    """A string attribute whose values vary: what stands before a value depends on its length."""

    __slots__ = ("_key", "_prefixes")

    def __init__(self, name: str) -> None:
        self._key = field(b"\x0a", name.encode())
        self._prefixes = [self.prefix(length) for length in range(_MAX_PREFIXES)]

    def prefix(self, length: int) -> bytes:
        """What stands before a value of so many bytes of UTF-8."""
        string = b"\x0a" + varint(length)
        any_value = b"\x12" + varint(len(string) + length) + string
        return varint(len(self._key) + len(any_value) + length) + self._key + any_value

    def of(self, value: bytes) -> bytes:
        """The attribute with any captured bytes as its value."""
        if not value.isascii():
            value = utf8(value)
        length = len(value)
        if length < _MAX_PREFIXES:
            return self._prefixes[length] + value
        return self.prefix(length) + value


class IntAttribute:
    """An integer attribute; values below the memo's bound are encoded once."""

    __slots__ = ("_key", "_known")

    def __init__(self, name: str) -> None:
        self._key = name.encode()
        self._known: dict[int, bytes] = {}

    def of(self, value: int) -> bytes:
        """The attribute with `value` >= 0."""
        encoded = self._known.get(value)
        if encoded is None:
            if len(self._known) >= _MAX_MEMO:
                self._known.clear()
            encoded = _key_value(self._key, b"\x18" + varint(value))
            self._known[value] = encoded
        return encoded


def string_attribute(name: str, value: bytes) -> bytes:
    """One string attribute, for what is encoded rarely."""
    return _key_value(name.encode(), field(b"\x0a", utf8(value)))


def bytes_attribute(name: str, value: bytes) -> bytes:
    """One attribute of uninterpreted bytes."""
    return _key_value(name.encode(), field(b"\x3a", value))


def int_attribute(name: str, value: int) -> bytes:
    """One integer attribute, `value` >= 0."""
    return _key_value(name.encode(), b"\x18" + varint(value))


def signed_attribute(name: str, value: int) -> bytes:
    """One integer attribute of any sign within 64 bits."""
    return _key_value(name.encode(), b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF))


def double_attribute(name: str, value: float) -> bytes:
    """One floating-point attribute."""
    return _key_value(name.encode(), b"\x21" + _DOUBLE.pack(value))


def bool_attribute(name: str, *, value: bool) -> bytes:
    """One boolean attribute."""
    return _key_value(name.encode(), b"\x10\x01" if value else b"\x10\x00")


def strings_attribute(name: str, values: list[bytes]) -> bytes:
    """One attribute that is an array of strings."""
    array = b"".join(field(b"\x0a", field(b"\x0a", utf8(value))) for value in values)
    return _key_value(name.encode(), field(b"\x2a", array))
