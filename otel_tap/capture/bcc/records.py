"""Events back to ring records: what was made whole in user space goes into a recording whole."""

from __future__ import annotations

import ipaddress

from otel_tap.capture import wire
from otel_tap.events import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Event,
    LossReason,
    PeerEvidence,
    ProcessExited,
    ProcessStarted,
    TlsLibrary,
)

_TLS = {TlsLibrary.NONE: 0, TlsLibrary.OPENSSL: 1}
_EVIDENCE = {
    PeerEvidence.NONE: 0,
    PeerEvidence.SOCKET: 1,
    PeerEvidence.NESTED_CALL: 2,
    PeerEvidence.CIPHERTEXT: 3,
}
_CLOSE_REASONS = {
    CloseReason.INGRESS_END: 1,
    CloseReason.EGRESS_END: 2,
    CloseReason.CLOSED: 3,
    CloseReason.RESET: 4,
}
_SKIPPED = 1 + wire.LOSS_REASONS.index(LossReason.SKIPPED)


def _packed(address: Address | None) -> bytes:
    if address is None:
        return bytes(16)
    parsed = ipaddress.ip_address(address.host)
    if isinstance(parsed, ipaddress.IPv4Address):
        return bytes(10) + b"\xff\xff" + parsed.packed
    return parsed.packed


def _opened(event: ConnectionOpened) -> bytes:
    return wire.OPENED_RECORD.pack(
        wire.OPENED,
        event.tgid,
        event.ktime_ns,
        event.connection_id,
        event.socket_id,
        _packed(event.local),
        _packed(event.peer),
        event.local.port if event.local else 0,
        event.peer.port if event.peer else 0,
        event.iss,
        event.irs,
        event.fd,
        _TLS[event.tls],
        _EVIDENCE[event.evidence],
        event.from_start,
        event.local is not None or event.peer is not None,
        0,
        *(event.begins or (wire.UNKNOWN_BEGIN, wire.UNKNOWN_BEGIN)),
    )


def encode(event: Event) -> bytes:
    """The ring record that `wire.decode` makes this event of."""
    if isinstance(event, DataEvent):
        return (
            wire.DATA_RECORD.pack(
                wire.DATA,
                event.tgid,
                event.ktime_ns,
                event.begin_ktime_ns,
                event.connection_id,
                event.offset,
                event.tcp_position,
                event.tid,
                event.length,
                len(event.payload),
                event.direction,
                _SKIPPED if event.skipped else 0,
            )
            + event.payload
        )
    if isinstance(event, ConnectionOpened):
        return _opened(event)
    if isinstance(event, ConnectionClosed):
        return wire.CLOSED_RECORD.pack(
            wire.CLOSED,
            event.tgid,
            event.ktime_ns,
            event.connection_id,
            event.socket_id,
            _CLOSE_REASONS[event.reason],
            0,
            event.lost_bytes,
            event.shed_bytes,
            event.filtered_bytes,
            event.skipped_bytes,
        )
    if isinstance(event, ProcessStarted):
        return wire.PROCESS_STARTED_RECORD.pack(
            wire.PROCESS_STARTED,
            event.tgid,
            event.ktime_ns,
            event.start_boottime_ns,
            event.ppid,
            event.uid,
            event.mount_namespace,
            0,
            event.comm.encode(),
            event.filename.encode(errors="surrogateescape"),
        )
    if isinstance(event, ProcessExited):
        return wire.HEADER.pack(wire.PROCESS_EXITED, event.tgid, event.ktime_ns)
    raise TypeError("lost events are no ring record")
