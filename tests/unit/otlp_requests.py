"""Random OTLP requests, and collectors and waits for the tests of delivery."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from otel_tap.telemetry.chunk import Chunk, Signal

_TEXTS = ["", "GET", "ünï", "a" * 300, "\x00\n", "9" * 40]


def _attributes(dice: random.Random) -> list[KeyValue]:
    pairs = []
    for number in range(dice.randrange(6)):
        pair = KeyValue(key=f"key.{number}")
        match dice.randrange(5):
            case 0:
                pair.value.string_value = dice.choice(_TEXTS)
            case 1:
                pair.value.int_value = dice.choice([0, -1, 2**63 - 1, -(2**63)])
            case 2:
                pair.value.bytes_value = dice.randbytes(dice.randrange(9))
            case 3:
                pair.value.double_value = dice.random()
            case _:
                pair.value.array_value.values.add(string_value=dice.choice(_TEXTS))
        pairs.append(pair)
    return pairs


def _groups(count: int, dice: random.Random) -> list[int]:
    """`count` as a sum of a few numbers."""
    sizes = []
    while count:
        sizes.append(dice.randint(1, count))
        count -= sizes[-1]
    return sizes


def trace_chunk(count: int, seed: int = 1) -> Chunk:
    """`count` random spans, named "0", "1", ... in order, in random resources and scopes."""
    dice = random.Random(seed)
    request = ExportTraceServiceRequest()
    number = 0
    for in_resource in _groups(count, dice):
        group = request.resource_spans.add(schema_url=f"schema{seed}")
        group.resource.attributes.extend(_attributes(dice))
        for in_scope in _groups(in_resource, dice):
            scoped = group.scope_spans.add(schema_url="scope schema")
            scoped.scope.name = dice.choice(_TEXTS)
            scoped.scope.version = "1"
            for _ in range(in_scope):
                span = scoped.spans.add(
                    name=str(number),
                    kind=dice.choice([2, 3]),
                    trace_id=dice.randbytes(16),
                    span_id=dice.randbytes(8),
                    parent_span_id=dice.choice([b"", dice.randbytes(8)]),
                    start_time_unix_nano=dice.getrandbits(60),
                    end_time_unix_nano=dice.getrandbits(60),
                    flags=dice.choice([0, 0x101]),
                    trace_state=dice.choice(["", "a=b"]),
                    attributes=_attributes(dice),
                )
                span.status.code = dice.choice([Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR])
                number += 1
    return Chunk(Signal.TRACES, request.SerializeToString(), count)


def log_chunk(count: int, seed: int = 1) -> Chunk:
    """`count` random log records; their event names are "0", "1", ... in order."""
    dice = random.Random(seed)
    request = ExportLogsServiceRequest()
    number = 0
    for in_resource in _groups(count, dice):
        group = request.resource_logs.add(schema_url=f"schema{seed}")
        group.resource.attributes.extend(_attributes(dice))
        for in_scope in _groups(in_resource, dice):
            scoped = group.scope_logs.add()
            scoped.scope.name = dice.choice(_TEXTS)
            for _ in range(in_scope):
                record = scoped.log_records.add(
                    event_name=str(number),
                    trace_id=dice.randbytes(16),
                    span_id=dice.randbytes(8),
                    time_unix_nano=dice.getrandbits(60),
                    observed_time_unix_nano=dice.getrandbits(60),
                    severity_number=dice.choice([9, 13, 17]),
                    severity_text="INFO",
                    attributes=_attributes(dice),
                )
                record.body.string_value = dice.choice(_TEXTS)
                number += 1
    return Chunk(Signal.LOGS, request.SerializeToString(), count)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Fails if it does not become true; `seconds` is only there to end a broken test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)


class Reply:
    """A scripted HTTP answer."""

    def __init__(
        self, status: int, body: bytes = b"", content_type: str = "", **headers: str
    ) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type:
            self.headers["content-type"] = content_type


class HttpCollector:
    """What a scripted HTTP server was asked: (path, headers with lower-case names, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections: set[object] = set()  # addresses that requests came from
        self.replies: list[Reply] = []  # one each; then 200 without a body
        self.max_body = 1 << 40  # a larger body gets 413
        self.endpoint = ""


@contextmanager
def http_collector(*replies: Reply) -> Iterator[HttpCollector]:
    collector = HttpCollector()
    collector.replies = list(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.connections.add(self.client_address)
            collector.requests.append((self.path, headers, body))
            reply = collector.replies.pop(0) if collector.replies else Reply(200)
            if len(body) > collector.max_body:
                reply = Reply(413)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
