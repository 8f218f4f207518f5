"""permessage-deflate (RFC 7692): what the messages of one direction say, within bounds.

Owns one direction's decompressor. With context takeover (7.2.3.2) a message can only be read when
all before it were: what is lost once is lost for all that follow. Memory is bounded by the window
of 32 KiB and a step; what is inflated is bounded by what moved, so that a bomb costs its sender
more than the agent. Whoever goes beyond is not decompressed any more.
"""

from __future__ import annotations

import zlib
from typing import Final

_STEP: Final = 64 * 1024
_FREE: Final = 1 << 20  # bytes that one direction may inflate to, whatever moved
_RATIO: Final = 64  # ... and so many more for each byte that moved; deflate can do 1032
_TAIL: Final = b"\x00\x00\xff\xff"  # left out at the end of each message (7.2.1)


class Inflater:
    """Decompresses one direction. `takeover`: a message refers to those before it."""

    __slots__ = ("_allowance", "_ended", "_inflate", "_takeover", "readable")

    def __init__(self, *, takeover: bool) -> None:
        self._takeover = takeover
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._allowance = _FREE
        self._ended = False  # by a last block, before the message is over
        self.readable = True  # so far nothing of this message is missing

    @property
    def needs_all(self) -> bool:
        """Whether bytes that nobody asks for must be taken all the same, for those that follow."""
        return self._takeover and self.readable

    def begin(self) -> None:
        """A compressed message begins."""
        if not self._takeover:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            self.readable = self._allowance > 0
        elif self._ended:
            self.readable = False  # what it refers to went with the last block (7.2.3.4)
        self._ended = False

    def take(self, piece: bytes, room: int) -> bytes:
        """At most `room` bytes of what the next bytes of the message stand for."""
        if not self.readable or self._ended or (room <= 0 and not self._takeover):
            return b""
        self._allowance += _RATIO * len(piece)
        kept: list[bytes] = []
        inflate = self._inflate
        try:
            while True:
                plain = inflate.decompress(piece, _STEP)
                if room > 0:
                    kept.append(plain if len(plain) <= room else plain[:room])
                    room -= len(plain)
                self._allowance -= len(plain)
                if self._allowance < 0:
                    self.readable = False
                    break
                if len(plain) < _STEP or (room <= 0 and not self._takeover):
                    break
                piece = inflate.unconsumed_tail
        except zlib.error:
            self.readable = False
        self._ended = inflate.eof
        return b"".join(kept)

    def end(self, room: int) -> bytes:
        """The message is over: the rest of it."""
        return self.take(_TAIL, room)

    def lose(self) -> None:
        """Bytes of a compressed message are unknown."""
        self.readable = False
