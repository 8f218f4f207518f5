"""The wire format of bpf/otel_tap.h in Python: bytes of one ring record to one event.

A record that is shorter than it says, or of an unknown type, is a `CaptureError`: kernel side and
agent then are of different builds, and nothing they say to each other can be trusted.
"""

from __future__ import annotations

import ipaddress
import mmap
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NoReturn

from otel_tap.errors import CaptureError
from otel_tap.events import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    Event,
    LossReason,
    PeerEvidence,
    ProcessExited,
    ProcessStarted,
    TlsLibrary,
)

DATA: Final = 1
OPENED: Final = 2
CLOSED: Final = 3
PROCESS_STARTED: Final = 4
PROCESS_EXITED: Final = 5

HEADER: Final = struct.Struct("=IIQ")
DATA_RECORD: Final = struct.Struct("=IIQQQQqIIIHH")
_OPENED_WITHOUT_BEGINS: Final = struct.Struct("=IIQQQ16s16sHHIIiBBBBI")  # of earlier builds
OPENED_RECORD: Final = struct.Struct(_OPENED_WITHOUT_BEGINS.format + "QQ")
CLOSED_RECORD: Final = struct.Struct("=IIQQQIIQQQQ")
PROCESS_STARTED_RECORD: Final = struct.Struct("=IIQQIIII16s128s")
ACCOUNT: Final = struct.Struct("=QQ")
UNKNOWN_BEGIN: Final = (1 << 64) - 1


def _layout(opened: struct.Struct) -> str:
    records = (DATA_RECORD, opened, CLOSED_RECORD, PROCESS_STARTED_RECORD)
    return " ".join((sys.byteorder, *(record.format for record in records)))


LAYOUT: Final = _layout(OPENED_RECORD)
"""What tells records of this build from those of another: for recordings."""

LAYOUTS: Final = frozenset((LAYOUT, _layout(_OPENED_WITHOUT_BEGINS)))
"""The layouts that `decode` understands: this one and those of earlier builds."""

CONTROL: Final = struct.Struct("=IIIIII")
WISH: Final = struct.Struct("=QQQQQB7x")

LOSS_REASONS = (
    LossReason.RING_FULL,
    LossReason.UNREADABLE,
    LossReason.TRUNCATED,
    LossReason.STATE_FULL,
    LossReason.SENDFILE,
    LossReason.UNSEEN,
    LossReason.SHED,
    LossReason.FILTERED,
    LossReason.MUTED,
    LossReason.SKIPPED,
)
"""The kernel's accounts in their order, behind the first one, of the bytes that were captured."""

_SKIPPED: Final = 1 + LOSS_REASONS.index(LossReason.SKIPPED)

DATA_SIZE: Final = DATA_RECORD.size
unpack_data: Final = DATA_RECORD.unpack_from

DataFields = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""What stands before the bytes in a data record, as `unpack_data` gives it."""

_DIRECTIONS = (Direction.INGRESS, Direction.EGRESS)
_TLS = (TlsLibrary.NONE, TlsLibrary.OPENSSL)
_EVIDENCE = (
    PeerEvidence.NONE,
    PeerEvidence.SOCKET,
    PeerEvidence.NESTED_CALL,
    PeerEvidence.CIPHERTEXT,
)
_CLOSE_REASONS: Final = {
    1: CloseReason.INGRESS_END,
    2: CloseReason.EGRESS_END,
    3: CloseReason.CLOSED,
    4: CloseReason.RESET,
    5: CloseReason.SHED,
}


@lru_cache(maxsize=4096)
def _host(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _opened(record: memoryview) -> Event:
    (
        _,
        tgid,
        ktime_ns,
        connection_id,
        socket_id,
        local,
        peer,
        local_port,
        peer_port,
        iss,
        irs,
        fd,
        tls,
        evidence,
        from_start,
        has_addresses,
        _,
        ingress_begin,
        egress_begin,
    ) = (
        OPENED_RECORD.unpack_from(record)
        if len(record) >= OPENED_RECORD.size
        else (*_OPENED_WITHOUT_BEGINS.unpack_from(record), UNKNOWN_BEGIN, UNKNOWN_BEGIN)
    )
    return ConnectionOpened(
        ktime_ns,
        connection_id,
        socket_id,
        tgid,
        fd,
        _TLS[tls],
        _EVIDENCE[evidence],
        Address(_host(local), local_port) if has_addresses else None,
        Address(_host(peer), peer_port) if has_addresses else None,
        iss,
        irs,
        bool(from_start),
        None if ingress_begin == UNKNOWN_BEGIN else (ingress_begin, egress_begin),
    )


def _closed(record: memoryview) -> Event:
    _, tgid, ktime_ns, connection_id, socket_id, reason, _, lost, shed, filtered, skipped = (
        CLOSED_RECORD.unpack_from(record)
    )
    return ConnectionClosed(
        ktime_ns,
        connection_id,
        socket_id,
        tgid,
        _CLOSE_REASONS[reason],
        lost,
        shed,
        filtered,
        skipped,
    )


def _process_started(record: memoryview) -> Event:
    _, tgid, ktime_ns, start_boottime_ns, ppid, uid, mount_namespace, _, comm, filename = (
        PROCESS_STARTED_RECORD.unpack_from(record)
    )
    return ProcessStarted(
        ktime_ns,
        tgid,
        ppid,
        uid,
        start_boottime_ns,
        _text(comm),
        _text(filename),
        mount_namespace,
    )


def _process_exited(record: memoryview) -> Event:
    _, tgid, ktime_ns = HEADER.unpack_from(record)
    return ProcessExited(ktime_ns, tgid)


_DECODERS: dict[int, Callable[[memoryview], Event]] = {
    OPENED: _opened,
    CLOSED: _closed,
    PROCESS_STARTED: _process_started,
    PROCESS_EXITED: _process_exited,
}


def decode(record: memoryview | bytes) -> Event:
    """The event that one ring record holds."""
    return decode_at(bytes(record), 0, len(record))


def decode_at(buffer: mmap.mmap | bytes, at: int, size: int) -> Event:
    """The event of the ring record at `buffer[at : at + size]`; it is copied, not kept.

    Raises `CaptureError` for bytes that the kernel side of this build cannot have written.
    """
    try:
        if size >= DATA_SIZE:
            fields: DataFields = unpack_data(buffer, at)
            if fields[0] == DATA:
                return data_event(fields, buffer, at, size)
        record = memoryview(buffer[at : at + size])
        return _DECODERS[HEADER.unpack_from(record)[0]](record)
    except (struct.error, KeyError, IndexError) as error:
        _refuse(str(error))


def data_event(fields: DataFields, buffer: mmap.mmap | bytes, at: int, size: int) -> DataEvent:
    """The event of the data record at `buffer[at : at + size]`, of which `fields` were unpacked."""
    (
        _,
        tgid,
        ktime_ns,
        begin_ktime_ns,
        connection_id,
        offset,
        tcp_position,
        tid,
        length,
        captured,
        direction,
        reason,
    ) = fields
    if captured > size - DATA_SIZE or captured > length:
        _refuse(f"{captured} of {length} bytes in a record of {size}")
    if direction >= len(_DIRECTIONS):
        _refuse(f"direction {direction}")
    begin = at + DATA_SIZE
    return DataEvent(
        ktime_ns,
        begin_ktime_ns,
        connection_id,
        tgid,
        tid,
        _DIRECTIONS[direction],
        offset,
        length,
        buffer[begin : begin + captured],
        tcp_position,
        reason == _SKIPPED,
    )


def _refuse(why: str) -> NoReturn:
    raise CaptureError(
        f"the kernel side sent a record that is not understood ({why})",
        remedy="rebuild both sides together: make setup",
    )
