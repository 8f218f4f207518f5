"""WebSocket frames for tests, made byte by byte from RFC 6455 5.2 and RFC 7692."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

from tests.unit.wire import Wire

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

ASK = (
    b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GRANT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n%s\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate%s\r\n"
KEY = b"\x37\xfa\x21\x3d"


def frame(
    opcode: int, payload: bytes = b"", *, masked: bool = False, final: bool = True, rsv: int = 0
) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if final else 0) | rsv | opcode])
    mask = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += bytes([mask | 126]) + size.to_bytes(2)
    else:
        head += bytes([mask | 127]) + size.to_bytes(8)
    if not masked:
        return head + payload
    return head + KEY + bytes(byte ^ KEY[at & 3] for at, byte in enumerate(payload))


def message(
    opcode: int, payload: bytes, *cuts: int, masked: bool = False, compressed: bool = False
) -> bytes:
    """A message, in as many fragments as `cuts` make."""
    edges = [0, *cuts, len(payload)]
    frames = []
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        frames.append(
            frame(
                opcode if number == 0 else 0,
                payload[begin:end],
                masked=masked,
                final=number == len(edges) - 2,
                rsv=0x40 if compressed and number == 0 else 0,
            )
        )
    return b"".join(frames)


class Deflater:
    """One direction of permessage-deflate."""

    def __init__(self, *, takeover: bool = True) -> None:
        self._takeover = takeover
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)

    def __call__(self, content: bytes) -> bytes:
        if not self._takeover:
            self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = self._deflate.compress(content) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(b"\x00\x00\xff\xff")


def closing(code: int, reason: bytes = b"", *, masked: bool = False) -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason, masked=masked)


class Talk(Wire):
    """A connection on which a WebSocket was granted; `says` and `hears` move frames."""

    def __init__(self, *, extensions: bytes = b"", **facts: Any) -> None:
        super().__init__(**facts)
        self.opened().request(ASK).response(GRANT % extensions)

    @property
    def messages(self) -> list[Any]:
        return [one.websocket for one in self.exchanges if hasattr(one.websocket, "body")]

    @property
    def sessions(self) -> list[Any]:
        return [one for one in self.exchanges if hasattr(one.websocket, "close_code")]
