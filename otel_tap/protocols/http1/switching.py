"""What reads a connection once HTTP/1 was left: after 101, or after CONNECT was granted.

Owns the choice, one case for each protocol, and the way of the bytes that came with the switch. It
must not know how HTTP/1 found out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Exchange
from otel_tap.messages import Request, Response, field_values
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.http2 import Http2, Upgraded
from otel_tap.protocols.websocket import WebSocket, is_websocket

_TUNNEL_LIMIT: Final = 4  # tunnels inside tunnels that are followed


def switched(carrier: Carrier, granted: Exchange | None, requests: Direction) -> Protocol:
    """Who reads on behind `granted`; `requests` is the direction that its request took."""
    response = None if granted is None else granted.response
    if granted is not None and response is not None and response.complete:
        request = granted.request
        if response.status == 101:
            if is_websocket(response.fields):
                return WebSocket(carrier, granted, requests)
            if is_http2(response):
                return _http2(carrier, granted, requests)
        elif (
            request is not None
            and request.method == b"CONNECT"
            and carrier.detect is not None
            and carrier.tunnels < _TUNNEL_LIMIT
        ):
            carrier.tunnels += 1
            return carrier.detect(carrier)
    carrier.counters.opaque_tunnel += 1
    return carrier.opaque


def is_http2(response: Response) -> bool:
    """Whether a 101 says that HTTP/2 follows (RFC 7540 3.2)."""
    chosen = b",".join(field_values(response.fields, b"upgrade"))
    return chosen.strip().lower() == b"h2c"


def goes_on_as_http2(request: Request | None, response: Response | None) -> bool:
    """Whether this 101 is no answer: stream 1 of HTTP/2 will be, and tell the exchange."""
    return (
        request is not None
        and response is not None
        and response.status == 101
        and response.complete
        and is_http2(response)
    )


def _http2(carrier: Carrier, granted: Exchange, requests: Direction) -> Protocol:
    request = granted.request
    if request is None:
        return Http2(carrier, requests)
    upgraded = Upgraded(
        request,
        granted.tid,
        granted.start_ktime_ns,
        granted.request_end_ktime_ns,
        granted.reused,
    )
    return Http2(carrier, requests, upgraded)


def hand_over(reader: Protocol, events: Iterable[DataEvent]) -> Protocol:
    """Gives `reader` what moved behind the switch; returns who reads after that."""
    for event in events:
        reader.data(event)
        while reader.successor is not None:
            reader = reader.successor
    return reader


def behind(event: DataEvent, at: int) -> DataEvent:
    """What is behind the first `at` bytes of the payload."""
    # Where its record began says nothing of what is left of it.
    payload = event.payload[at:]
    return replace(
        event, offset=event.offset + at, length=len(payload), payload=payload, tcp_position=-1
    )
