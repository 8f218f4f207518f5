"""Counts of what the connections stage saw and what it had to leave out.

Owns the numbers only. Every byte or message that does not end in a whole exchange is in one of
them; they only grow, and are read by whoever reports on the agent itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the start of the agent."""

    connections_opened: int = 0
    connections_closed: int = 0
    connections_expired: int = 0  # idle too long without an open exchange
    connections_evicted: int = 0  # the table had no room
    opaque_not_http: int = 0  # connections given up: something else than HTTP
    opaque_tunnel: int = 0  # connections given up: no HTTP in a tunnel, or another upgrade
    opaque_malformed: int = 0  # connections given up: broken HTTP
    websocket_sessions: int = 0  # that are over, or were given up
    websocket_messages: int = 0  # that were told: contents are wanted
    websocket_malformed: int = 0  # sessions given up: what moved is no frame
    exchanges_complete: int = 0
    exchanges_incomplete: int = 0  # both messages known, one or both without its end
    exchanges_without_request: int = 0
    exchanges_without_response: int = 0
    exchanges_unknown: int = 0  # neither message was known: nothing was emitted
    messages_malformed: int = 0
    messages_late: int = 0  # ended after their exchange had been emitted (time-out)
    field_blocks: int = 0  # of HTTP/2, that were decoded
    field_blocks_incomplete: int = 0  # of them: a field is unknown, or was left out
    stream_bytes: int = 0  # captured bytes of all streams, overlaps excluded
    gap_bytes: int = 0
    spared_bytes: int = 0  # of contents, beyond what is kept of them: not copied, no gap
    connections_shed: int = 0  # times that a connection was left out for overload
    skipped_bytes: int = 0  # captured, but the beginning of a message was not found
    opaque_bytes: int = 0  # captured bytes of connections that had been given up
    overlap_bytes: int = 0  # dropped: their range of the stream had been read before
    events_out_of_order: int = 0
