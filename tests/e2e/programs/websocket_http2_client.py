"""Holds WebSocket sessions on streams of HTTP/2; prints what each sent and received, a line each.

usage: websocket_http2_client.py CERTIFICATE TLS_PORT PLAIN_PORT

All sessions of a port are on one connection and take turns, with a plain request between them. The
streams are spoken by h2, the frames by wsproto.
"""

import json
import os
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

MESSAGES = [
    "hello",
    "grüße " * 40,
    bytes(range(256)),
    '{"tick": 1, "price": 100}' * 20,
    '{"tick": 2, "price": 101}' * 20,
    os.urandom(50_000),
    "last",
]


def said(message: str | bytes) -> list:
    return ["text", message] if isinstance(message, str) else ["binary", message.hex()]


def connect(path: str) -> dict:
    return {":method": "CONNECT", ":protocol": "websocket", ":path": path}


class Peer:
    """One connection, and what arrived on its streams and was not taken yet."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.scheme = "http" if context is None else "https"
        self.authority = f"127.0.0.1:{port}"
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()
        self.heads, self.data = {}, {}

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def take(self) -> None:
        """What the next read brings."""
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError
        for event in self.h2.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    def ask(self, pseudo: dict, fields: dict, *, ends: bool = False) -> int:
        """The stream of a request that was answered."""
        stream = self.h2.get_next_available_stream_id()
        place = {":scheme": self.scheme, ":authority": self.authority}
        self.h2.send_headers(stream, list((pseudo | place | fields).items()), end_stream=ends)
        self.flush()
        while stream not in self.heads:
            self.take()
        return stream

    def send(self, stream: int, data: bytes) -> None:
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0:
                self.take()
                continue
            self.h2.send_data(stream, data[:room])
            self.flush()
            data = data[room:]


class Session:
    def __init__(self, peer: Peer, path: str, *, deflates: bool) -> None:
        self.peer = peer
        self.path = path
        deflate = PerMessageDeflate()
        fields = {"sec-websocket-version": "13", "sec-websocket-protocol": "chat"}
        if deflates:
            fields["sec-websocket-extensions"] = f"permessage-deflate; {deflate.offer()}"
        self.stream = peer.ask(connect("/" + path), fields)
        head = peer.heads[self.stream]
        assert head[":status"] == "200", head
        extensions = []
        if deflates:
            deflate.finalize(head["sec-websocket-extensions"].partition(";")[2])
            extensions.append(deflate)
        self.end = Connection(ConnectionType.CLIENT, extensions)
        self.sent, self.received, self.code = [], [], None
        self.over = False
        self.pongs = 0
        self.parts = []

    def send(self, event) -> None:
        self.peer.send(self.stream, self.end.send(event))

    def take(self) -> None:
        data = self.peer.data.setdefault(self.stream, bytearray())
        while not data:
            self.peer.take()
        self.end.receive_data(bytes(data))
        data.clear()
        for event in self.end.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                self.parts.append(event.data)
                if event.message_finished:
                    whole = self.parts[0][:0].join(self.parts)
                    self.received.append(said(whole if isinstance(whole, str) else bytes(whole)))
                    self.parts = []
            elif isinstance(event, Pong):
                self.pongs += 1
            elif isinstance(event, CloseConnection):
                self.over = True
                if self.code is None:
                    self.send(event.response())
                    self.code = event.code

    def says(self, message: str | bytes) -> None:
        half = len(message) // 2
        kind = TextMessage if isinstance(message, str) else BytesMessage
        if half % 2:
            self.send(kind(message[:half], message_finished=False))
            self.send(kind(message[half:]))
        else:
            self.send(kind(message))
        self.sent.append(said(message))

    def closes(self) -> None:
        if self.path.endswith("server-closes"):
            self.says("close")
        else:
            self.code = 1000
            self.send(CloseConnection(1000, "done"))
        while not self.over:
            self.take()
        # As browsers do; Hypercorn takes no more data where the client closed.
        self.peer.h2.reset_stream(self.stream, h2.errors.ErrorCodes.CANCEL)
        self.peer.flush()
        row = {"path": self.path, "sent": self.sent, "received": self.received}
        print(json.dumps(row | {"close": self.code}), flush=True)


def main() -> None:
    certificate, tls_port, plain_port = sys.argv[1:]
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["h2"])
    for name, port, tls in (("wss", tls_port, context), ("ws", plain_port, None)):
        peer = Peer(int(port), tls)
        sessions = [
            Session(peer, f"{name}-{coding}/{how}", deflates=coding == "deflate")
            for coding in ("deflate", "plain")
            for how in ("client-closes", "server-closes")
        ]
        for session in sessions:
            session.send(Ping(b"there?"))
            while not session.pongs:
                session.take()
        for message in MESSAGES:
            for session in sessions:
                session.says(message)
            for session in sessions:
                while len(session.received) < len(session.sent):
                    session.take()
        peer.ask({":method": "GET", ":path": "/plain"}, {}, ends=True)
        for session in sessions:
            session.closes()
        peer.ask(connect("/refused"), {"sec-websocket-version": "13"})
        peer.socket.close()


main()
