"""Keeps a connection of HTTP/2 busy until its standard input ends; logs every request, a line each.

A line on its standard input is a number: of the pieces of an upload, in which it says nothing else.

usage: busy_http2_client.py PORT LOG [CERTIFICATE]

A line has the number of the request, its fields as [name, value, root], the status, and the fields
of the answer. The root of a field is the first request whose bytes are needed to know the field:
its own one where it is told in full or by the static table; where it refers to the dynamic table,
that in which the name of the entry was told, or the entry's own one.
"""

import json
import queue
import socket
import ssl
import sys
import threading
import time
from collections import deque
from pathlib import Path

import h2.config
import h2.connection
import h2.events
from hpack import NeverIndexedHeaderTuple
from hpack.table import HeaderTable

BURSTS = (1, 3, 2, 5, 1, 4)
PAUSE_S = 0.04
PIECE_S = 0.01
PUT = "PUT"
METHODS = ("GET", "POST", "GET", "DELETE", "PATCH")
ENTRY_OVERHEAD = 32


class Watched(HeaderTable):
    """The encoder's table, and the root of each of its entries."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.told = []  # the root of each field that was encoded
        self._roots = deque()  # of the entries, newest first

    def search(self, name: bytes, value: bytes):
        while len(self._roots) > len(self.dynamic_entries):
            self._roots.pop()
        found = super().search(name, value)
        place = -1 if found is None else found[0] - self.STATIC_TABLE_LENGTH - 1
        self.told.append(self.number if place < 0 else self._roots[place])
        return found

    def add(self, name: bytes, value: bytes) -> None:
        super().add(name, value)
        assert len(name) + len(value) + ENTRY_OVERHEAD <= self.maxsize
        self._roots.appendleft(self.told[-1])


def fields(number: int, scheme: str, authority: str) -> list[tuple[str, str]]:
    """What request `number` says: what stays, what changes now and then, and what always does."""
    kind = ("page", "page", "missing", "page", "broken")[number % 5]
    path = f"/{kind}/again?of={number % 3}" if number % 4 == 0 else f"/{kind}/{number}?is={number}"
    said = [
        (":method", METHODS[number % 7 % 5]),
        (":scheme", scheme),
        (":authority", authority),
        # Of a path that comes once, half are kept out of the table.
        NeverIndexedHeaderTuple(":path", path) if number % 8 == 1 else (":path", path),
        ("user-agent", "busy/1"),
        ("accept", ("text/plain", "text/html", "*/*")[number % 3]),
        ("referer", f"https://elsewhere.example/{number}"),  # its name is a static one
        ("x-constant", "stays"),
        ("x-slow", f"of {number // 150}"),
        NeverIndexedHeaderTuple("x-number", str(number)),
    ]
    if number // 100 % 2 == 0:
        # These names are taken from an entry of a request before, as long as there is one: who did
        # not see the first one learns them when a run begins anew.
        said += [
            ("x-chain", f"link {number}"),
            ("x-turn", f"round {number % 11}"),
            ("x-pair", "left"),
            ("x-pair", f"right {number % 2}"),
        ]
    return said


class Client:
    def __init__(self, port: int, log_path: str, certificate: str | None) -> None:
        self.scheme = "http" if certificate is None else "https"
        self.authority = f"localhost:{port}"
        self.log = Path(log_path).open("w")  # noqa: SIM115 - as long as the process
        self.socket = socket.create_connection(("127.0.0.1", port))
        if certificate is not None:
            context = ssl.create_default_context(cafile=certificate)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.table = self.h2.encoder.header_table = Watched()
        self.h2.initiate_connection()
        self.flush()
        self.rows = {}
        self.number = 0

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def ask(self, method: str = "") -> int:
        self.number += 1
        said = fields(self.number, self.scheme, self.authority)
        if method:
            said[0], said[3] = (":method", method), (":path", f"/stored/{self.number}?is=long")
        self.table.number = self.number
        self.table.told = []
        stream = self.h2.get_next_available_stream_id()
        has_content = said[0][1] in ("POST", "PATCH")  # a PUT has what is uploaded
        self.h2.send_headers(stream, said, end_stream=not (has_content or method))
        if has_content:
            self.h2.send_data(stream, b"content" * (self.number % 50), end_stream=True)
        rooted = [[*field, root] for field, root in zip(said, self.table.told, strict=True)]
        self.rows[stream] = {"number": self.number, "fields": rooted}
        return stream

    def take(self) -> None:
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError
        for event in self.h2.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                answer = [list(field) for field in event.headers]
                self.rows[event.stream_id] |= {"status": int(answer[0][1]), "answer": answer[1:]}
            elif isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.log.write(json.dumps(self.rows.pop(event.stream_id)) + "\n")
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                raise ConnectionError(event)
        self.flush()

    def upload(self, pieces: int) -> None:
        """One request in so many calls, each of which is a frame of content."""
        stream = self.ask(PUT)
        self.flush()
        for piece in range(pieces):
            self.h2.send_data(stream, b"%08d" % piece, end_stream=piece == pieces - 1)
            self.flush()
            time.sleep(PIECE_S)
        while self.rows:
            self.take()
        self.log.flush()

    def burst(self, count: int) -> None:
        """So many requests, in one call or in one each; until all are answered."""
        for _ in range(count):
            self.ask()
            if count % 2 == 0:
                self.flush()
        self.flush()
        while self.rows:
            self.take()
        self.log.flush()


def main() -> None:
    client = Client(int(sys.argv[1]), *sys.argv[2:3], *(sys.argv[3:] or [None]))
    over = threading.Event()
    wanted = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            wanted.put(int(line))
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    turn = 0
    while not over.is_set():
        if not wanted.empty():
            client.upload(wanted.get())
        client.burst(BURSTS[turn % len(BURSTS)])
        turn += 1
        time.sleep(PAUSE_S)
    client.h2.close_connection()
    client.flush()
    client.socket.close()


main()
