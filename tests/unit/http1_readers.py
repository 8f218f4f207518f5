"""The same bytes read by us, by h11 and by llhttp (as httptools), in one form.

A reading is a list of messages, each (start, fields, content, trailers), and `REFUSED` at the end
when the reader took no more. `start` is (method, target) or (status, reason).
"""

from __future__ import annotations

from typing import Any

import h11
import httptools

from otel_tap.messages import Request, Response
from tests.unit.wire import SECOND, Wire

REFUSED = "refused"
Reading = list[Any]


def _message(message: Request | Response) -> Any:
    if isinstance(message, Request):
        start: Any = (message.method, message.target)
    else:
        start = (message.status, message.reason)
    return start, message.fields, message.body.content, message.trailers


DECLINED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def we_read_requests(data: bytes) -> Reading:
    # What is behind a request to switch protocols is read when the switch was declined.
    wire = Wire().opened().request(data)
    for _ in range(3):
        wire.response(DECLINED)
    wire.closed().later(2 * SECOND)
    return _ours(wire, [one.request for one in wire.exchanges])


def we_read_responses(data: bytes, methods: list[bytes]) -> Reading:
    wire = Wire().opened()
    for method in methods:
        wire.request(b"%s /%s HTTP/1.1\r\n\r\n" % (method, b"" if method != b"CONNECT" else b":1"))
    wire.response(data).closed().later(2 * SECOND)
    return _ours(wire, [one.response for one in wire.exchanges])


def _ours(wire: Wire, messages: list[Any]) -> Reading:
    whole = [_message(one) for one in messages if one is not None and one.complete]
    return [*whole, REFUSED] if wire.counters.messages_malformed else whole


def h11_reads_requests(data: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    reading: Reading = []
    while (message := _h11_message(connection)) is not None:
        reading.append(message)
        if message == REFUSED:
            break
        head = [("content-length", "0")]
        connection.send(h11.Response(status_code=404, headers=head))
        connection.send(h11.EndOfMessage())
        try:
            connection.start_next_cycle()
        except h11.LocalProtocolError:
            break  # the connection is to be closed, or switches protocols
    return reading


def h11_reads_responses(data: bytes, methods: list[bytes]) -> Reading:
    connection = h11.Connection(h11.CLIENT)
    connection.receive_data(data)
    connection.receive_data(b"")
    reading: Reading = []
    for method in methods:
        connection.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        connection.send(h11.EndOfMessage())
        message = _h11_message(connection)
        if message is not None:
            reading.append(message)
        if message is None or message == REFUSED:
            break
        if connection.trailing_data == (b"", True):
            break
        try:
            connection.start_next_cycle()
        except h11.LocalProtocolError:
            break
    return reading


def _h11_message(connection: Any) -> Any:
    head: Any = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return REFUSED
        if isinstance(event, h11.Request):
            head = (bytes(event.method), bytes(event.target)), tuple(event.headers)
        elif isinstance(event, h11.Response):
            head = (event.status_code, bytes(event.reason)), tuple(event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return *head, body, tuple(event.headers)
        elif not isinstance(event, h11.InformationalResponse):
            return None


class _Llhttp:
    """What llhttp calls."""

    def __init__(self) -> None:
        self.messages: Reading = []
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self.target = self.reason = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.head_done = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes | None) -> None:
        field = (name.lower().strip(), (value or b"").strip())
        (self.trailers if self.head_done else self.fields).append(field)

    def on_headers_complete(self) -> None:
        self.head_done = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        start: Any
        if isinstance(self.parser, httptools.HttpRequestParser):
            start = (self.parser.get_method(), self.target)
        else:
            start = (self.parser.get_status_code(), self.reason)
            if start[0] < 200 and start[0] != 101:
                return
        self.messages.append((start, tuple(self.fields), self.body, tuple(self.trailers)))

    parser: Any = None


def llhttp_reads_requests(data: bytes) -> Reading:
    return _llhttp(httptools.HttpRequestParser, data)


def llhttp_reads_responses(data: bytes) -> Reading:
    """Of responses whose requests were no HEAD and no CONNECT: it cannot be told of them."""
    return _llhttp(httptools.HttpResponseParser, data)


def _llhttp(kind: Any, data: bytes) -> Reading:
    heard = _Llhttp()
    heard.parser = kind(heard)
    try:
        heard.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return [*heard.messages, REFUSED]
    return heard.messages
