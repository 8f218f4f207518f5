"""Content codings (RFC 9110 8.4): removed and put back.

Owns which codings are known and what decoding may cost. Promises: whatever the bytes are, an
answer; memory and time follow from the bounds that are asked for, never from what the bytes
unpack to; a cut beginning gives what can be known of it. Must not know messages or media types.

Every coding works in steps: a little in, at most some hundred KiB out, and nobody takes the next
step once there is enough. What bounds each of them:

- gzip and deflate: `zlib` itself stops at a step; a gzip stream has `_MAX_MEMBERS` members at most.
- br: `output_buffer_limit` of brotli 1.2, which overshoots by one block; windows are 16 MiB at
  most (RFC 7932), for the decoder does not take "large windows".
- zstd: no window beyond 8 MiB (RFC 9659); 4 bytes of input may be a block of 128 KiB, so input goes
  in 64 bytes at a time.
- stacked codings: `_MAX_CODINGS`; what comes out of one but the last is bounded by its user.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from otel_tap.messages import Field, field_values

_STEP = 64 * 1024  # bytes of output, at most or about
_PIECE = 16 * 1024  # bytes of input
_ZSTD_PIECE = 64
_ZSTD_WINDOW = 8 << 20
_MAX_MEMBERS = 1024
_MAX_CODINGS = 4
_BETWEEN = 1 << 20

_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS

_KNOWN = frozenset((b"gzip", b"x-gzip", b"deflate", b"br", b"zstd"))


class Undecodable(Exception):  # noqa: N818 - a verdict on bytes, not an error of the program
    """These bytes are not in the coding that they are said to be in, or cost too much."""


class Decoded(NamedTuple):
    """What a content is without its codings."""

    content: bytes
    complete: bool  # nothing is missing at the end
    exact: bool  # complete, and every byte that was given is of it


def codings_of(fields: tuple[Field, ...]) -> tuple[bytes, ...]:
    """The codings of a content in the order in which they were applied, `identity` left out."""
    values = field_values(fields, b"content-encoding")
    if not values:
        return ()
    names = [name.strip().lower() for name in b",".join(values).split(b",")]
    return tuple(name for name in names if name not in (b"", b"identity"))


def decoded(content: bytes, codings: tuple[bytes, ...], limit: int) -> Decoded | None:
    """At most `limit` bytes of the content; None when a coding is not known or not kept to."""
    if not codings:
        return Decoded(content[:limit], len(content) <= limit, exact=len(content) <= limit)
    try:
        decoder = Decoder(codings, between=4 * limit + _BETWEEN)
    except Undecodable:
        return None
    parts: list[bytes] = []
    size = 0
    try:
        for part in decoder.feed(content):
            parts.append(part)
            size += len(part)
            if size > limit:
                return Decoded(b"".join(parts)[:limit], complete=False, exact=False)
    except Undecodable:
        # What came out before that is true.
        return Decoded(b"".join(parts), complete=False, exact=False) if parts else None
    return Decoded(b"".join(parts), decoder.ended, decoder.ended and not decoder.has_surplus)


def encoded(content: bytes, codings: tuple[bytes, ...]) -> bytes:
    """`content` in codings that `decoded` knows; fast rather than small."""
    for coding in codings:
        if coding == b"br":
            import brotli  # noqa: PLC0415 - few need it, and it takes a while to load

            content = brotli.compress(content, quality=1)
        elif coding == b"zstd":
            import zstandard  # noqa: PLC0415 - likewise

            content = zstandard.ZstdCompressor(level=1).compress(content)
        else:
            bits = _ZLIB if coding == b"deflate" else _GZIP
            compressor = zlib.compressobj(1, zlib.DEFLATED, bits)
            content = compressor.compress(content) + compressor.flush()
    return content


class _Stage:
    """One coding. `ended`: its end was met; `has_surplus`: and something followed."""

    def __init__(self) -> None:
        self.ended = False
        self.has_surplus = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out for the next bytes, step by step. Raises Undecodable."""
        raise NotImplementedError


class _Gzip(_Stage):
    """All members of a stream (RFC 1952 2.2); what follows the last one is padding."""

    def __init__(self) -> None:
        super().__init__()
        self._inflater = zlib.decompressobj(_GZIP)
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _PIECE):
            if self.has_surplus:
                return
            yield from self._piece(data[at : at + _PIECE])

    def _piece(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            inflater = self._inflater
            self.ended = False
            try:
                yield from _inflated(inflater, piece)
            except zlib.error as error:
                if not self._members:
                    raise Undecodable from error
                # As gzip does: what is no member behind a whole one does not count.
                self.ended = self.has_surplus = True
                return
            if not inflater.eof:
                return
            self.ended = True
            self._members += 1
            if self._members >= _MAX_MEMBERS:
                raise Undecodable
            piece = inflater.unused_data
            self._inflater = zlib.decompressobj(_GZIP)


class _Deflate(_Stage):
    """zlib by RFC 9110, raw deflate by some servers: told by whether the first works."""

    def __init__(self) -> None:
        super().__init__()
        self._inflater = zlib.decompressobj(_ZLIB)
        self._first: bytes | None = b""  # input of which nothing came out yet

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _PIECE):
            if self.ended:
                self.has_surplus = True
                return
            yield from self._piece(data[at : at + _PIECE])

    def _piece(self, piece: bytes) -> Iterator[bytes]:
        if self._first is not None:
            self._first += piece
        try:
            for part in _inflated(self._inflater, piece):
                self._first = None
                yield part
        except zlib.error as error:
            if self._first is None:
                raise Undecodable from error
            piece, self._first = self._first, None
            self._inflater = zlib.decompressobj(_RAW)
            try:
                yield from _inflated(self._inflater, piece)
            except zlib.error as second:
                raise Undecodable from second
        if self._first is not None and len(self._first) > _PIECE:
            self._first = None
        if self._inflater.eof:
            self.ended = True
            self.has_surplus = bool(self._inflater.unused_data)


def _inflated(inflater: zlib._Decompress, piece: bytes) -> Iterator[bytes]:
    while True:
        part = inflater.decompress(piece, _STEP)
        if part:
            yield part
        piece = inflater.unconsumed_tail
        # Output may be due though all input went in.
        if inflater.eof or (not piece and len(part) < _STEP):
            return


class _Brotli(_Stage):
    def __init__(self) -> None:
        super().__init__()
        import brotli  # noqa: PLC0415 - few need it, and it takes a while to load

        self._error = brotli.error
        self._decoder = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        decoder = self._decoder
        for at in range(0, len(data), _PIECE):
            if self.ended:
                self.has_surplus = True
                return
            piece = data[at : at + _PIECE]
            while True:
                try:
                    part = decoder.process(piece, output_buffer_limit=_STEP)
                except self._error as error:
                    # Also bytes behind the end in one piece with it; browsers refuse them, too.
                    raise Undecodable from error
                if part:
                    yield part
                # Output may be due though all input went in.
                if not part or (len(part) < _STEP and decoder.can_accept_more_data()):
                    break
                piece = b""
            self.ended = decoder.is_finished()


class _Zstd(_Stage):
    """All frames of a stream (RFC 8878 3)."""

    def __init__(self) -> None:
        super().__init__()
        import zstandard  # noqa: PLC0415 - few need it, and it takes a while to load

        self._error = zstandard.ZstdError
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._decoder = self._context.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _ZSTD_PIECE):
            piece = data[at : at + _ZSTD_PIECE]
            while piece:
                try:
                    if self.ended:
                        self._decoder = self._context.decompressobj()
                        self.ended = False
                    part = self._decoder.decompress(piece)
                except self._error as error:
                    raise Undecodable from error
                if part:
                    yield part
                self.ended = self._decoder.eof
                piece = self._decoder.unused_data if self.ended else b""


_STAGES: dict[bytes, type[_Stage]] = {
    b"gzip": _Gzip,
    b"x-gzip": _Gzip,
    b"deflate": _Deflate,
    b"br": _Brotli,
    b"zstd": _Zstd,
}


class Decoder:
    """Removes codings from a content that comes piece by piece.

    Raises Undecodable when a coding is not known. `between` bounds what may come out of each coding
    but the last one.
    """

    def __init__(self, codings: tuple[bytes, ...], *, between: int) -> None:
        if len(codings) > _MAX_CODINGS or not _KNOWN.issuperset(codings):
            raise Undecodable
        try:
            self._stages = [_STAGES[coding]() for coding in reversed(codings)]
        except ImportError as error:  # a library that does not run here is as one we do not know
            raise Undecodable from error
        self._room = [between] * len(self._stages)

    @property
    def ended(self) -> bool:
        """Whether the content is whole."""
        return all(stage.ended for stage in self._stages)

    @property
    def has_surplus(self) -> bool:
        """Whether bytes followed that do not belong to the content."""
        return any(stage.has_surplus for stage in self._stages)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out for the next bytes. Raises Undecodable."""
        return self._feed(data, 0)

    def _feed(self, data: bytes, stage: int) -> Iterator[bytes]:
        parts = self._stages[stage].feed(data)
        if stage + 1 == len(self._stages):
            yield from parts
            return
        for part in parts:
            self._room[stage] -= len(part)
            if self._room[stage] < 0:
                raise Undecodable
            yield from self._feed(part, stage + 1)
