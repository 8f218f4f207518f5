"""A span and a log record put together from what was encoded of one exchange.

Owns the layout of both: which fields stand where, and what is between the attributes. Every part
comes in encoded but for ids and times.
"""

from __future__ import annotations

import struct
from typing import Final

from otel_tap.telemetry.blocks import Common, Fragment
from otel_tap.telemetry.identity import SpanIdentity
from otel_tap.telemetry.otlp import field, utf8, varint

# Fields of one length, with their tags: ids, start, end and flags of a span; time, observed time,
# flags and ids of a log record.
_SPAN_NUMBERS: Final = struct.Struct("<2s16s2s8sBQBQHI").pack
_LOG_NUMBERS: Final = struct.Struct("<BQBQBI2s16s2s8s").pack
_U64: Final = 0xFFFFFFFFFFFFFFFF
_FAR: Final = (1 << 62) - 1  # ns: the year 2116; compiled, numbers beyond are objects

_MAX_PREFIXES: Final = 2048
_MAX_DISPLAYED: Final = 512  # bytes of a target in the display line


def _prefix(length: int) -> bytes:
    return b"\x12" + varint(length)


# What stands before a record, and before the display line in a log record, by the length.
_PREFIXES: Final = [_prefix(length) for length in range(_MAX_PREFIXES)]
_LINE_PREFIXES: Final = [
    b"\x2a" + varint(1 + len(varint(length)) + length) + b"\x0a" + varint(length)
    for length in range(_MAX_PREFIXES)
]

# Durations as they are shown, in whole milliseconds.
_MILLISECONDS: Final = [b"%d ms" % number for number in range(1000)]

Pieces = tuple[bytes, bytes, bytes, bytes, bytes]
"""Encoded fields in some parts of them; joined once, where they are joined with the rest."""

Encoded = tuple[bytes, bytes]
"""A span and a log record as fields of their scope; empty where not asked for."""


class Assembly:
    """Makes spans and log records; `unix_offset_ns` is what makes Unix time of ktime_ns."""

    __slots__ = ("_logs", "_traces", "unix_offset_ns")

    def __init__(self, unix_offset_ns: int, *, traces: bool, logs: bool) -> None:
        self.unix_offset_ns = unix_offset_ns
        self._traces = traces
        self._logs = logs

    def records(
        self,
        ends: Fragment,
        common: Common,
        identity: SpanIdentity,
        start_ktime_ns: int,
        end_ktime_ns: int,
        observed_ktime_ns: int,
        shown: bytes,
        span_attributes: Pieces,
        log_attributes: Pieces,
    ) -> Encoded:
        """Both records; `shown` stands for the target in the display line, redacted.

        `ends` is what the connection says.
        """
        span_ends, log_ends = ends
        span_common, log_common, before, after, last = common
        trace_id, span_id, parent_id, flags, trace_state = identity
        offset = self.unix_offset_ns
        duration_ns = end_ktime_ns - start_ktime_ns
        if duration_ns < 0:
            duration_ns = 0
        start = start_ktime_ns + offset
        end = start + duration_ns
        observed = observed_ktime_ns + offset
        if start < 0 or end > _FAR or (observed != end and not 0 <= observed <= _FAR):
            start &= _U64
            end = (start + duration_ns) & _U64
            observed &= _U64
        span = log = b""
        if self._traces:
            parent = b""
            if parent_id:
                parent = b"\x22\x08" + parent_id
                if trace_state:
                    parent += field(b"\x1a", trace_state)
            numbers = _SPAN_NUMBERS(
                b"\x0a\x10", trace_id, b"\x12\x08", span_id,
                0x39, start, 0x41, end, 0x0185, flags,
            )  # fmt: skip
            one, two, three, four, five = span_attributes
            span = b"".join((numbers, parent, span_ends, span_common, one, two, three, four, five))
            length = len(span)
            span = (_PREFIXES[length] if length < _MAX_PREFIXES else _prefix(length)) + span
        if self._logs:
            took = duration_ns // 1_000_000
            milliseconds = _MILLISECONDS[took] if took < 1000 else b"%d ms" % took
            line = b"".join((before, shown[:_MAX_DISPLAYED], after, milliseconds, last))
            if not line.isascii():
                line = utf8(line)
            numbers = _LOG_NUMBERS(
                0x09, end, 0x59, observed,
                0x45, flags & 0xFF, b"\x4a\x10", trace_id, b"\x52\x08", span_id,
            )  # fmt: skip
            one, two, three, four, five = log_attributes
            prefix = _LINE_PREFIXES[len(line)]
            log = b"".join(
                (numbers, prefix, line, log_ends, log_common, one, two, three, four, five)
            )
            length = len(log)
            log = (_PREFIXES[length] if length < _MAX_PREFIXES else _prefix(length)) + log
        return span, log
