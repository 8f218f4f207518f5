"""Contents as attributes: any bytes under any coding and charset become one bounded attribute.

1. OTLP's own library reads it, and it holds no more content than the limit.
2. A string is what Python decodes of the content, up to a cut.
"""

from __future__ import annotations

import gzip
import zlib

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_tap.messages import Body
from otel_tap.privacy import Redactor
from otel_tap.telemetry.content import content_attribute
from otel_tap.telemetry.otlp import LOG_ATTRIBUTE

_REDACTOR = Redactor()
_LIMITS = (0, 7, 300, 100_000)
_CODINGS = (b"", b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"identity", b"x-gzip")
_TYPES = (
    b"",
    b"text/plain",
    b"application/json; charset=utf-16",
    b"text/html; charset=shift_jis",
    b"text/plain; charset=iso-2022-jp",
    b"text/plain; charset=gb18030",
    b"image/png",
    b"text/x; charset=idna",
)
SEEDS = (
    b"\x09\0" + gzip.compress(b"hello " * 50, mtime=0),
    b"\x11\0" + gzip.compress(b"a", mtime=0) * 3,
    b"\x12\0" + zlib.compress(b"{}"),
    b"\x02\0" + zlib.compress(b"hello" * 9, wbits=-15),
    b"\x20\0\x1b$B$3",
    "\x08\x01grün €".encode(),
)
TOKENS = (gzip.compress(b"", mtime=0), b"\x1f\x8b\x08\0", b"\x1b$B", b"\xe2\x82", b"\xd8\x00")


def check(data: bytes) -> None:
    """The first two bytes choose coding, type and limit; the rest is the content."""
    if len(data) < 2:
        return
    coding, media = _CODINGS[data[0] & 7], _TYPES[data[0] >> 3 & 7]
    limit = _LIMITS[data[1] & 3]
    content = data[2:]
    fields = ((b"content-encoding", coding), (b"content-type", media))
    body = Body(content, len(content) + (data[1] >> 7), truncated=data[1] >> 7 == 1)
    readable = _REDACTOR.readable(body, fields, limit)
    attribute = content_attribute("x.body", readable)
    record = LogRecord.FromString(LOG_ATTRIBUTE.join((b"", attribute)))
    (pair,) = record.attributes
    assert isinstance(pair, KeyValue)
    assert pair.key == "x.body"
    kind = pair.value.WhichOneof("value")
    if kind == "bytes_value":
        assert len(pair.value.bytes_value) <= limit
    else:
        assert kind == "string_value"
        assert len(pair.value.string_value) <= limit  # a character is a byte at least
    assert readable.cut or not body.truncated
