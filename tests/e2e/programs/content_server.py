"""A real HTTP/1.1 server of coded bodies, event streams and model calls; logs what it sent.

usage: content_server.py CERTIFICATE KEY LOG   (prints "TLS_PORT PLAIN_PORT" when it listens)

- GET /coded/CODING/SIZE: `content(SIZE)` in a content coding
- GET /secret/CODING: JSON with a planted password
- GET /events/CODING/COUNT: Server-Sent Events, each written and flushed by itself
- POST /v1/chat/completions, /v1/messages: answers as OpenAI's and Anthropic's do, streamed if asked

The log has one JSON line per response, with the monotonic clock's times of the events written.
"""

import json
import ssl
import sys
import threading
import time
import zlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import brotli
import zstandard

LOG_LOCK = threading.Lock()
PASSWORD = "planted-hunter2"
ANSWER = "an answer nobody may see"


def content(size: int) -> bytes:
    return (b"%07d " * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


def encoder(coding: str):
    """(code and flush, end) of a coding."""
    if coding == "br":
        compressor = brotli.Compressor(quality=4)
        return lambda data: compressor.process(data) + compressor.flush(), compressor.finish
    if coding == "zstd":
        frame = zstandard.ZstdCompressor().compressobj()
        block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return lambda data: frame.compress(data) + frame.flush(block), frame.flush
    if coding in ("gzip", "deflate"):
        deflate = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
        return lambda data: deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH), deflate.flush
    return lambda data: data, lambda: b""


def coded(coding: str, data: bytes) -> bytes:
    code, end = encoder(coding)
    return code(data) + end()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_arguments):
        pass

    def note(self, **facts):
        with LOG_LOCK, Path(sys.argv[3]).open("a") as log:
            log.write(json.dumps({"target": self.path} | facts) + "\n")

    def head(self, kind: str, coding: str, *more: tuple[str, str]):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if coding != "identity":
            self.send_header("Content-Encoding", coding)
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()

    def whole(self, kind: str, coding: str, data: bytes):
        body = coded(coding, data)
        self.note(size=len(body))
        self.head(kind, coding, ("Content-Length", str(len(body))))
        self.wfile.write(body)

    def chunk(self, data: bytes):
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def events(self, coding: str, events: list[bytes], pause: float = 0.0):
        code, end = encoder(coding)
        self.head("text/event-stream", coding, ("Transfer-Encoding", "chunked"))
        times = []
        for event in events:
            time.sleep(pause)
            before = time.monotonic_ns()
            self.chunk(code(event))
            times.append((before, time.monotonic_ns()))
        self.chunk(end())
        # Before the end is sent: whoever has seen the whole response finds it in the log.
        self.note(events=len(events), first=times[0], last=times[-1])
        with suppress(OSError):  # clients of models leave when the stream says that it is over
            self.wfile.write(b"0\r\n\r\n")

    def do_GET(self):
        _, what, coding, *more = self.path.split("/")
        if what == "coded":
            self.whole("text/plain", coding, content(int(more[0])))
        elif what == "secret":
            document = {"user": "bob", "password": PASSWORD, "note": "x" * 500}
            self.whole("application/json", coding, json.dumps(document).encode())
        else:
            count = int(more[0])
            lines = [b": comment\nid: %d\ndata: %s\n\n" % (n, b"x" * 50) for n in range(count)]
            self.events(coding, lines, pause=0.002)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        openai = self.path.endswith("/chat/completions")
        answer = self.chat(asked) if openai else self.message(asked)
        coding = "gzip" if "gzip" in self.headers.get("Accept-Encoding", "") else "identity"
        if not asked.get("stream"):
            self.whole("application/json", coding, json.dumps(answer).encode())
            return
        pieces = self.chat_pieces(answer) if openai else self.message_pieces(answer)
        events = []
        for piece in pieces:
            name = b"" if openai else b"event: %s\n" % piece["type"].encode()
            events.append(name + b"data: " + json.dumps(piece).encode() + b"\n\n")
        if openai:
            events.append(b"data: [DONE]\n\n")
        self.events(coding, events, pause=0.005)

    def chat(self, asked):
        choices = [
            {"index": index, "finish_reason": "stop",
             "message": {"role": "assistant", "content": ANSWER}}
            for index in range(asked.get("n", 1))
        ]  # fmt: skip
        return {
            "id": "chatcmpl-e2e", "object": "chat.completion", "created": 1,
            "model": asked["model"] + "-2026", "choices": choices,
            "usage": {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33},
        }  # fmt: skip

    def chat_pieces(self, answer):
        common = answer | {"object": "chat.completion.chunk", "usage": None}
        for word in ANSWER.split():
            yield common | {"choices": [
                {"index": 0, "delta": {"content": word}, "finish_reason": None}]}  # fmt: skip
        yield common | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield common | {"choices": [], "usage": answer["usage"]}

    def message(self, asked):
        return {
            "id": "msg_e2e", "type": "message", "role": "assistant",
            "model": asked["model"] + "-2026", "content": [{"type": "text", "text": ANSWER}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 7, "cache_read_input_tokens": 3,
                      "cache_creation_input_tokens": 0, "output_tokens": 9},
        }  # fmt: skip

    def message_pieces(self, answer):
        usage = answer["usage"] | {"output_tokens": 1}
        start = answer | {"content": [], "stop_reason": None, "usage": usage}
        yield {"type": "message_start", "message": start}
        text = {"type": "text", "text": ""}
        yield {"type": "content_block_start", "index": 0, "content_block": text}
        for word in ANSWER.split():
            delta = {"type": "text_delta", "text": word}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}
        yield {"type": "message_stop"}


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    servers[0].socket = context.wrap_socket(servers[0].socket, server_side=True)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Path(sys.argv[3]).touch()
    print(*(server.server_port for server in servers), flush=True)
    sys.stdin.read()


main()
