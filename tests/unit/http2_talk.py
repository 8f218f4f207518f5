"""HTTP/2 conversations for tests, spoken by two real peers of the h2 library."""

from __future__ import annotations

import struct
from typing import Any

import h2.config
import h2.connection
import h2.settings
from hpack import NeverIndexedHeaderTuple

from otel_tap.events import Direction
from tests.unit.wire import Wire

Header = tuple[bytes, bytes]

REQUEST = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"h.example"),
    (b":path", b"/a?b=c"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame, valid or not."""
    return (
        struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload
    )


class Talk:
    """A client and a server of h2; what they send is kept in `script`, in order.

    Each step is (whether the client sent it, the bytes).
    """

    def __init__(self) -> None:
        config: dict[str, Any] = {
            "header_encoding": None,
            "validate_outbound_headers": False,
            "validate_inbound_headers": False,
            "normalize_outbound_headers": False,
            "split_outbound_cookies": False,
        }
        self.client = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, **config)
        )
        self.server = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, **config)
        )
        self.script: list[tuple[bool, bytes]] = []

    def begun(self, *, early_server: bool = False) -> Talk:
        self.client.initiate_connection()
        self.server.initiate_connection()
        if early_server:
            self.flush(self.server)
        self.flush(self.client)
        self.settle()
        return self

    def flush(self, sender: Any) -> bool:
        data = sender.data_to_send()
        if not data:
            return False
        self.script.append((sender is self.client, data))
        receiver = self.server if sender is self.client else self.client
        receiver.receive_data(data)
        return True

    def settle(self) -> None:
        """Until neither has anything to say: settings are acknowledged, and so on."""
        while self.flush(self.client) | self.flush(self.server):
            pass

    def request(
        self,
        stream: int,
        headers: list[Header] | None = None,
        body: bytes | None = None,
        trailers: list[Header] | None = None,
        **facts: Any,
    ) -> Talk:
        self.send(
            self.client, stream, REQUEST if headers is None else headers, body, trailers, **facts
        )
        return self

    def response(
        self,
        stream: int,
        headers: list[Header] | None = None,
        body: bytes | None = b"ok",
        trailers: list[Header] | None = None,
        **facts: Any,
    ) -> Talk:
        headers = [(b":status", b"200")] if headers is None else headers
        self.send(self.server, stream, headers, body, trailers, **facts)
        return self

    def send(
        self,
        sender: Any,
        stream: int,
        headers: list[Header],
        body: bytes | None = None,
        trailers: list[Header] | None = None,
        *,
        pad: int | None = None,
        ends: bool = True,
        priority: int | None = None,
    ) -> None:
        alone = ends and body is None and trailers is None
        sender.send_headers(stream, headers, end_stream=alone, priority_weight=priority)
        self.flush(sender)
        if body is not None:
            sender.send_data(stream, body, end_stream=ends and trailers is None, pad_length=pad)
            self.flush(sender)
        if trailers is not None:
            sender.send_headers(stream, trailers, end_stream=True)
            self.flush(sender)

    def sent(self, by_client: bool) -> bytes:
        return b"".join(data for client, data in self.script if client == by_client)


def play(talk: Talk, wire: Wire, since: int = 0) -> Wire:
    """Every step of the script is one call."""
    for by_client, data in talk.script[since:]:
        (wire.request if by_client else wire.response)(data)
    return wire


def direction_of(wire: Wire, by_client: bool) -> Direction:
    return Direction.EGRESS if by_client == wire.client else Direction.INGRESS


def secret(name: bytes, value: bytes) -> Header:
    return NeverIndexedHeaderTuple(name, value)
