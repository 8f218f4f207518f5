"""One exchange as a reader meets it: a line, a JSON object, a page of details.

Owns the words and the order of what is shown; decides nothing about what may be shown: exchanges
arrive redacted. All text that leaves here for a terminal went through `safe`; JSON is ASCII.

The JSON object of `otel-tap live --output json`, a key being null where nothing is known:

    time                             when the exchange began, RFC 3339, UTC, microseconds
    duration_ns                      first to last byte, integer
    role                             "client" or "server": the end at which it was seen
    pid, process, executable, user   who: process id, name, path of the executable, user name
    service                          service.name
    container, pod, host             container id, pod uid, name of this host
    method, url, version             "GET", "https://example.org/x", "1.1"
    status                           integer
    request_bytes, response_bytes    content that moved, integers
    request_headers, response_headers   lists of [name, value]
    headers_incomplete               true if some of either are missing there
    request_body, response_body      text of the captured content; null unless bodies are enabled
    truncated                        true if some bytes of the exchange were not captured
    lost_bytes                       how many
    ambiguity                        words for what readers of HTTP may differ about (a list)
    tls                              library the plain text was taken from; null for plain TCP
    local, peer                      "address:port"
    peer_evidence                    what proved the peer: "socket", "nested_call", ...
    reused                           not the first exchange of its connection
    rpc                              of a gRPC call: its method, status ("OK"), deadline, and
                                     counts of messages; null for anything else
    error                            why it is not whole, for instance "connection_reset"
    websocket                        null for an exchange; of a WebSocket session that is over, or
                                     of one of its messages, what was counted or said. All other
                                     keys are then those of its handshake, but for the duration.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otel_tap.cli import rpc_view, websocket_view
from otel_tap.cli.terminal_text import safe, safe_bytes, short_duration, short_size
from otel_tap.content_coding import codings_of, decoded
from otel_tap.events import Address, TlsLibrary
from otel_tap.exchange import Exchange, Role
from otel_tap.media_type import charset_of, media_type_of, text_of
from otel_tap.messages import UNKNOWN, UNKNOWN_FIELD, Field, Request, Response, field_value
from otel_tap.origin import Origin
from otel_tap.protocols.http1.ambiguity import ambiguity_of
from otel_tap.telemetry.rpc import status_name

Identity = tuple[int, str, int | None, int, str]

_MAX_UNPACKED = 1 << 20  # bytes of a coded body
_ARROWS = {Role.CLIENT: "->", Role.SERVER: "<-"}


@dataclass(slots=True, eq=False)
class ExchangeView:
    """What is shown of one exchange; every text is safe for a terminal.

    `wall_offset_ns` added to a ktime_ns gives nanoseconds since 1970. `running`: it is not over,
    and what is shown is how it was when somebody last looked.
    """

    exchange: Exchange
    origin: Origin
    wall_offset_ns: int
    running: bool = False
    _line: str = ""  # made once: a filter asks for the lines of all rows at every drawing

    def look(self, exchange: Exchange) -> None:
        """How it is now."""
        self.exchange = exchange
        self._line = ""

    @property
    def identity(self) -> Identity:
        """The same of an exchange while it runs and when it is over."""
        exchange = self.exchange
        position = exchange.position
        return (
            exchange.connection.connection_id,
            position.kind,
            position.offset,
            exchange.start_ktime_ns,
            "" if exchange.websocket is None else websocket_view.kind(exchange.websocket),
        )

    @property
    def time(self) -> str:
        """Local time of day at which it began."""
        begin_ns = self.exchange.start_ktime_ns + self.wall_offset_ns
        moment = datetime.fromtimestamp(begin_ns // 1_000_000 / 1000, tz=UTC).astimezone()
        return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"

    @property
    def process(self) -> str:
        """Name and pid: `curl[4242]`."""
        return f"{safe(self.origin.executable_name)}[{self.origin.pid}]"

    @property
    def arrow(self) -> str:
        """`->` seen at the client, `<-` at the server."""
        return _ARROWS[self.exchange.role]

    @property
    def method(self) -> str:
        """The method, `?` where the request is not known."""
        if self.exchange.websocket is not None:
            return websocket_view.kind(self.exchange.websocket)
        if self.exchange.rpc is not None:
            return rpc_view.KIND
        request = self.exchange.request
        return safe_bytes(request.method) if request is not None else "?"

    @property
    def url(self) -> str:
        """The target as a URL as far as it is known."""
        return safe(_url(self.exchange) or "?")

    @property
    def status(self) -> str:
        """The status, or why there is none."""
        if self.exchange.websocket is not None:
            return websocket_view.outcome(self.exchange.websocket)
        if self.exchange.rpc is not None and self.exchange.rpc.status is not None:
            return status_name(self.exchange.rpc.status)
        return self._http_status

    @property
    def _http_status(self) -> str:
        response = self.exchange.response
        return str(response.status) if response is not None and response.status >= 0 else "-"

    @property
    def duration(self) -> str:
        """First to last byte, or to now."""
        shown = short_duration(self.exchange.duration_ns)
        return f"{shown}+" if self.running else shown

    @property
    def size(self) -> str:
        """Content of the response."""
        if self.exchange.websocket is not None:
            return short_size(websocket_view.moved(self.exchange.websocket))
        response = self.exchange.response
        if response is None:
            return "-"
        return short_size(response.body.size) + ("+" if self.running else "")

    @property
    def notes(self) -> str:
        """Where and what else: `peer=192.0.2.1:443 container=0123456789ab lost=12B`."""
        exchange, container = self.exchange, self.origin.container
        notes = ["running"] if self.running else []
        if exchange.connection.peer is not None:
            notes.append(f"peer={_address(exchange.connection.peer)}")
        if container is not None:
            notes.append(f"container={safe(container.id[:12])}")
            if container.pod_uid is not None:
                notes.append(f"pod={safe(container.pod_uid)}")
        if exchange.error is not None:
            notes.append(f"error={exchange.error.value}")
        lost = exchange.lost_bytes
        if exchange.websocket is not None:
            lost = websocket_view.lost(exchange.websocket)
        if lost:
            notes.append(f"lost={lost}B")
        notes += [f"ambiguity={word}" for word in ambiguity_of(exchange)]
        return " ".join(notes)

    def line(self) -> str:
        """The whole exchange in one line, without its end."""
        if not self._line:
            parts = [self.time, self.process, self.arrow, self.method, self.url, self.status]
            parts += [self.duration, self.size, self.notes]
            self._line = " ".join(parts).rstrip()
        return self._line

    def json_line(self) -> str:
        """The whole exchange as one ASCII line of JSON, without its end."""
        return json.dumps(_object(self.exchange, self.origin, self.wall_offset_ns))

    def details(self) -> list[tuple[str, str]]:
        """(name, value) of everything that is known, in the order to show it."""
        exchange, origin = self.exchange, self.origin
        connection = exchange.connection
        rows = [
            ("time", self.time),
            ("seen at", f"{exchange.role.value} {self.process}"),
            ("executable", origin.executable_path),
            ("user", origin.user),
            ("service", origin.service_name),
            ("container", origin.container.id if origin.container is not None else None),
            ("pod", origin.container.pod_uid if origin.container is not None else None),
            ("host", origin.host.name),
            ("peer", _address(connection.peer) or "unknown"),
            ("peer evidence", connection.evidence.value),
            ("local", _address(connection.local)),
            ("tls", connection.tls.value or "none"),
            ("connection", "reused" if exchange.reused else None),
            ("running", f"{self.duration}, {self.size} so far" if self.running else None),
            ("duration", None if self.running else self.duration),
            ("error", exchange.error.value if exchange.error is not None else None),
            ("lost", f"{exchange.lost_bytes} B" if exchange.lost_bytes else None),
            ("ambiguity", " ".join(ambiguity_of(exchange))),
        ]
        shown = [(name, safe(value)) for name, value in rows if value]
        if exchange.websocket is not None:
            found = websocket_view.rows(exchange.websocket)
            return [*shown, ("", f"{self.method} {self.url}"), *((n, safe(v)) for n, v in found)]
        if exchange.rpc is not None:
            shown += [(name, safe(value)) for name, value in rpc_view.rows(exchange.rpc)]
        if exchange.request is not None:
            method = safe_bytes(exchange.request.method)
            shown.append(("", f"{method} {self.url} HTTP/{exchange.request.version}"))
            shown += _message_rows(exchange.request)
        if exchange.response is not None:
            reason = safe_bytes(exchange.response.reason)
            shown.append(("", f"HTTP/{exchange.response.version} {self._http_status} {reason}"))
            shown += _message_rows(exchange.response)
        return shown

    def matches(self, wanted: str) -> bool:
        """Whether every word of `wanted` (lower-case) stands in the line."""
        line = self.line().lower()
        return all(word in line for word in wanted.split())


def _message_rows(message: Request | Response) -> list[tuple[str, str]]:
    rows = [(safe_bytes(name), safe_bytes(value)) for name, value in message.fields]
    rows += [(f"{safe_bytes(name)} (trailer)", safe_bytes(v)) for name, v in message.trailers]
    cut = ", not all captured" if message.body.truncated and message.body.content else ""
    rows.append(("content", f"{short_size(message.body.size)}{cut}"))
    text = _body(message) or ""
    rows += [("|", safe(line)) for line in text.splitlines()]
    return rows


def _url(exchange: Exchange) -> str | None:
    request = exchange.request
    if request is None:
        return None
    target = request.target.decode("utf-8", "backslashreplace")
    if not target.startswith("/"):
        return target  # absolute or authority form: it names its host itself
    authority = field_value(request.fields, b"host") or field_value(request.fields, b":authority")
    if not authority:
        return target
    tls = exchange.connection.tls is not TlsLibrary.NONE
    scheme = "https" if tls else "http"
    return f"{scheme}://{authority.decode('utf-8', 'backslashreplace')}{target}"


def _address(address: Address | None) -> str:
    if address is None:
        return ""
    return (
        f"[{address.host}]:{address.port}"
        if ":" in address.host
        else f"{address.host}:{address.port}"
    )


def _pairs(fields: tuple[Field, ...]) -> list[list[str]]:
    return [[_text(name), _text(value)] for name, value in fields if name != UNKNOWN_FIELD[0]]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _known(raw: bytes) -> str | None:
    return None if raw == UNKNOWN else _text(raw)


def _body(message: Request | Response) -> str | None:
    """The captured content as text, its coding removed as far as that can be done."""
    content = message.body.content
    if not content:
        return None
    plain = decoded(content, codings_of(message.fields), max(_MAX_UNPACKED, len(content)))
    if plain is None:
        return _text(content)
    charset = charset_of(media_type_of(message.fields))
    if charset is None:
        return _text(plain.content)
    cut = message.body.truncated or not plain.complete
    text = text_of(plain.content, charset, cut=cut)
    return _text(plain.content if text is None else text)


def _object(exchange: Exchange, origin: Origin, wall_offset_ns: int) -> dict[str, Any]:
    request, response, connection = exchange.request, exchange.response, exchange.connection
    known = request if request is not None else response
    container = origin.container
    begin_us = (exchange.start_ktime_ns + wall_offset_ns) // 1000
    seconds, micros = divmod(begin_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {
        "time": f"{moment}.{micros:06d}Z",
        "duration_ns": exchange.duration_ns,
        "role": exchange.role.value,
        "pid": origin.pid,
        "process": origin.executable_name,
        "executable": origin.executable_path,
        "user": origin.user,
        "service": origin.service_name,
        "container": container.id if container is not None else None,
        "pod": container.pod_uid if container is not None else None,
        "host": origin.host.name,
        "method": _known(request.method) if request is not None else None,
        "url": _url(exchange) if request is None or request.target != UNKNOWN else None,
        "version": known.version if known is not None else None,
        "status": response.status if response is not None and response.status >= 0 else None,
        "request_bytes": request.body.size if request is not None else None,
        "response_bytes": response.body.size if response is not None else None,
        "request_headers": _pairs(request.fields) if request is not None else None,
        "response_headers": _pairs(response.fields) if response is not None else None,
        "headers_incomplete": any(
            message is not None and message.headers_incomplete for message in (request, response)
        ),
        "request_body": _body(request) if request is not None else None,
        "response_body": _body(response) if response is not None else None,
        "truncated": exchange.lost_bytes > 0,
        "lost_bytes": exchange.lost_bytes,
        "ambiguity": list(ambiguity_of(exchange)),
        "tls": connection.tls.value or None,
        "local": _address(connection.local) or None,
        "peer": _address(connection.peer) or None,
        "peer_evidence": connection.evidence.value,
        "reused": exchange.reused,
        "rpc": rpc_view.json_object(exchange.rpc),
        "error": exchange.error.value if exchange.error is not None else None,
        "websocket": websocket_view.json_object(exchange.websocket),
    }
