"""Chosen scalars out of JSON texts of any size, met piece by piece.

Owns a reader that keeps nothing but its place and what it was asked for. Promises: any chunking
gives the same; linear time, bounded memory; text that is not JSON is left at the first byte that
shows it, and taken up at the next document. Must not know what the names mean.

A place in a document is written as the keys that lead to it, with `[]` for the elements of an
array: `usage.prompt_tokens`, `choices[].finish_reason`. Containers that lead to nothing that is
wanted are skipped by counting brackets outside of strings.
"""

from __future__ import annotations

import json
import re
from typing import Final

from otel_tap.protocols.content import ContentSink

_MAX_TEXT: Final = 256  # bytes of a key or value as it is written
_MAX_NUMBER: Final = 40

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_STRING: Final = re.compile(rb'[^"\\]*+')
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]*+")
_SKIPPED: Final = re.compile(rb'[^"{}\[\]]*+')
_SCALAR_BEGINS: Final = b"-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PLAIN: Final = re.compile(r"[^.\[\]]+")
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")

# What may come next.
_VALUE: Final = 0
_KEY: Final = 1  # or the end of an object
_COLON: Final = 2
_AFTER: Final = 3  # a comma or the end of a container
_IN_STRING: Final = 4
_IN_SCALAR: Final = 5
_SKIP: Final = 6
_BROKEN: Final = 7

_QUOTE, _BACKSLASH, _OPEN_OBJECT, _CLOSE_OBJECT = 34, 92, 123, 125
_OPEN_ARRAY, _CLOSE_ARRAY, _COLON_BYTE, _COMMA = 91, 93, 58, 44

Scalar = str | int | float | bool | None


class JsonScan(ContentSink):
    """Scans documents for `wanted` places; whoever wants them overrides `found` and its like."""

    __slots__ = ("_arrays", "_containers", "_depth", "_escaped", "_in_skipped_string", "_is_key",
                 "_keep", "_place", "_places", "_state", "_text", "_wanted")  # fmt: skip

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._containers = _containers_of(wanted)
        self._begin()

    def _begin(self) -> None:
        self._state = _VALUE
        self._places: list[str] = []  # of the open containers
        self._arrays: list[bool] = []
        self._place = ""  # of the value that comes next
        self._text = bytearray()
        self._keep = False
        self._is_key = False
        self._escaped = False
        self._depth = 0  # of what is skipped
        self._in_skipped_string = False

    # What whoever wants something of it overrides.

    def found(self, place: str, value: Scalar) -> None:
        """A wanted scalar."""
        raise NotImplementedError

    def bare_word(self, place: str, word: bytes) -> None:
        """A word without quotes at a wanted place that JSON does not know, such as `[DONE]` has."""
        raise NotImplementedError

    def named(self, place: str) -> None:
        """A key stands in a container that leads to something wanted; its value follows."""
        raise NotImplementedError

    def closed(self, place: str) -> None:
        """A container that leads to something wanted ended."""
        raise NotImplementedError

    # Input.

    def document_ends(self) -> None:
        """What follows is another document."""
        self._begin()

    def cut(self) -> None:
        """Bytes are missing here, and none follow."""
        self._state = _BROKEN

    def text(self, data: bytes, ktime_ns: int) -> None:  # noqa: ARG002 - of the interface
        """The next bytes."""
        at = 0
        size = len(data)
        while at < size:
            state = self._state
            if state == _SKIP:
                at = self._skip(data, at)
            elif state == _IN_STRING:
                at = self._string(data, at)
            elif state == _IN_SCALAR:
                at = self._scalar(data, at)
            elif state == _BROKEN:
                return
            else:
                at = _end(_SPACE, data, at)
                if at < size:
                    self._structure(data[at], state)
                    # A scalar has no opening mark: its first byte belongs to it.
                    if self._state != _IN_SCALAR:
                        at += 1

    def _structure(self, byte: int, state: int) -> None:
        if state == _VALUE:
            self._value(byte)
        elif state == _KEY and byte == _QUOTE:
            self._begin_text(keep=True, is_key=True)
        elif state == _COLON and byte == _COLON_BYTE:
            self._state = _VALUE
        elif state == _AFTER and byte == _COMMA:
            self._next_in_container()
        elif byte in (_CLOSE_OBJECT, _CLOSE_ARRAY) and state in (_KEY, _AFTER):
            self._close(byte)
        else:
            self._state = _BROKEN

    def _value(self, byte: int) -> None:
        place = self._place
        if byte == _QUOTE:
            self._begin_text(keep=place in self._wanted, is_key=False)
        elif byte in (_OPEN_OBJECT, _OPEN_ARRAY):
            if place not in self._containers:
                self._state = _SKIP
                self._depth = 1
                return
            self._places.append(place)
            self._arrays.append(byte == _OPEN_ARRAY)
            self._next_in_container()
        elif byte == _CLOSE_ARRAY:
            self._close(byte)
        elif byte in _SCALAR_BEGINS:
            self._text.clear()
            self._state = _IN_SCALAR
        else:
            self._state = _BROKEN

    def _next_in_container(self) -> None:
        if self._arrays[-1]:
            self._place = self._places[-1] + "[]"
            self._state = _VALUE
        else:
            self._state = _KEY

    def _close(self, byte: int) -> None:
        if not self._places or self._arrays[-1] != (byte == _CLOSE_ARRAY):
            self._state = _BROKEN
            return
        self._arrays.pop()
        self.closed(self._places.pop())
        self._after_value()

    def _after_value(self) -> None:
        if self._places:
            self._state = _AFTER
        else:
            self._begin()  # documents may stand one after the other (NDJSON)

    # Strings and other scalars, in pieces.

    def _begin_text(self, *, keep: bool, is_key: bool) -> None:
        self._text.clear()
        self._keep = keep
        self._is_key = is_key
        self._escaped = False
        self._state = _IN_STRING

    def _string(self, data: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            stop = at + 1
        else:
            stop = _end(_STRING, data, at)
            if stop == at:
                if data[at] == _QUOTE:
                    self._string_ends()
                    return at + 1
                self._escaped = True
                stop = at + 1
        if self._keep:
            self._text += data[at : min(stop, at + _MAX_TEXT + 1)]
            if len(self._text) > _MAX_TEXT:
                self._keep = False
        return stop

    def _string_ends(self) -> None:
        text = _unquoted(bytes(self._text)) if self._keep else None
        self._keep = False
        if self._is_key:
            above = self._places[-1]
            # A key that is not known, or could be taken for a place, leads nowhere.
            plain = text is not None and _PLAIN.fullmatch(text) is not None
            key = text if text is not None and plain else "."
            self._place = f"{above}.{key}" if above else key
            self._state = _COLON
            if plain:
                self.named(self._place)
            return
        if text is not None:
            self.found(self._place, text)
        self._after_value()

    def _scalar(self, data: bytes, at: int) -> int:
        stop = _end(_SCALAR, data, at)
        if len(self._text) <= _MAX_NUMBER:
            self._text += data[at : min(stop, at + _MAX_NUMBER + 1)]
        if stop == len(data):
            return stop
        if self._place in self._wanted:
            text = bytes(self._text)
            if text in _WORDS:
                self.found(self._place, _WORDS[text])
            elif len(text) <= _MAX_NUMBER and _NUMBER.fullmatch(text):
                self.found(self._place, json.loads(text))
            else:
                self.bare_word(self._place, text)
        self._after_value()
        return stop

    def _skip(self, data: bytes, at: int) -> int:
        if self._in_skipped_string:
            if self._escaped:
                self._escaped = False
                return at + 1
            at = _end(_STRING, data, at)
            if at < len(data):
                if data[at] == _QUOTE:
                    self._in_skipped_string = False
                else:
                    self._escaped = True
            return at + 1
        at = _end(_SKIPPED, data, at)
        if at < len(data):
            byte = data[at]
            if byte == _QUOTE:
                self._in_skipped_string = True
                self._escaped = False
            elif byte in (_OPEN_OBJECT, _OPEN_ARRAY):
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    self._after_value()
        return at + 1


_WORDS: dict[bytes, Scalar] = {b"true": True, b"false": False, b"null": None}


def _end(run: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = run.match(data, at)
    return at if found is None else found.end()


def _unquoted(text: bytes) -> str | None:
    try:
        value = json.loads(b'"' + text + b'"', strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _containers_of(wanted: frozenset[str]) -> frozenset[str]:
    """The places of all containers that lead to a wanted place."""
    places = {""}
    for place in wanted:
        parts = place.split(".")
        for count in range(1, len(parts)):
            above = ".".join(parts[:count])
            places.add(above)
            if above.endswith("[]"):
                places.add(above.removesuffix("[]"))
    return frozenset(places)
