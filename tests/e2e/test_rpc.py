"""gRPC calls of grpcio, and HTTP/1.1 that nghttpx lets go on as HTTP/2."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from otel_tap.demo.server import Nginx
from otel_tap.receiver import ReceivedSpan
from tests.e2e.conftest import PATIENCE, PROGRAMS, Tap, losses

SERVER, CLIENT = 2, 3

pytestmark = pytest.mark.ebpf


def test_calls_have_their_names_counts_and_status_at_both_ends():
    with Tap() as tap:
        calls = subprocess.Popen(
            [sys.executable, PROGRAMS / "grpc_calls.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert calls.stdout is not None
        port = int(calls.stdout.readline())
        said, _ = calls.communicate("\n", 30)
        assert (calls.returncode, said.split()) == (0, ["UNIMPLEMENTED", "DEADLINE_EXCEEDED"])
        tap.wait_for(lambda: len(tap.spans(port)), 8)
        ends = [{one.name: one for one in tap.spans(port, kind)} for kind in (CLIENT, SERVER)]
        assert len(tap.spans(port)) == 8

    for spans in ends:
        assert sorted(spans) == [
            f"pkg.Greeter/{method}" for method in ("Absent", "Count", "Hello", "Slow")
        ]
        for span in spans.values():
            assert span.attributes["rpc.system.name"] == "grpc"
            assert span.attributes["rpc.method"] == span.name
            assert "otel_tap.capture.truncated" not in span.attributes
        told = spans["pkg.Greeter/Hello"].attributes
        assert told["rpc.response.status_code"] == "OK"
        assert 4 < told["otel_tap.rpc.timeout"] <= 5
        assert told["otel_tap.rpc.request.message_bytes"] == 3
        assert told["otel_tap.rpc.response.message_bytes"] == 9
        told = spans["pkg.Greeter/Count"].attributes
        assert told["otel_tap.rpc.response.messages"] == 3
        assert told["otel_tap.rpc.response.message_bytes"] == 6
        assert "otel_tap.rpc.timeout" not in told
        told = spans["pkg.Greeter/Absent"].attributes
        assert told["rpc.response.status_code"] == told["error.type"] == "UNIMPLEMENTED"
        # Who gave it up first, and whether the server's word was still read, is a race.
        told = spans["pkg.Greeter/Slow"].attributes
        assert told["error.type"] in ("DEADLINE_EXCEEDED", "CANCELLED", "cancelled")


Row = tuple[str, str | None, int, int]


def account(said: str) -> Counter[Row]:
    """Method, status, messages of the request and of the response: of how many calls."""
    rows: Counter[Row] = Counter()
    for method, status, asked, answered, count in json.loads(said):
        rows[method, status, asked, answered] = count
    return rows


PACKAGE = "load.Calls/"
LEFT = ("Slow", "SlowDown", "SlowUp", "Leave", "LeaveDown", "LeaveBoth")
FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


def row(span: ReceivedSpan) -> Row:
    """What a span tells, as an account would; a stream that was cancelled is a call that was."""
    told: dict[str, Any] = span.attributes
    assert told["rpc.system.name"] == "grpc"
    assert span.name == told["rpc.method"]
    assert not [name for name in told if name.startswith("otel_tap.capture.")]
    method = span.name.removeprefix(PACKAGE)
    status = told.get("rpc.response.status_code")
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    timeout = told["otel_tap.rpc.timeout"]
    if status is None:
        assert told["error.type"] == "cancelled"
        assert seconds < timeout
        status = "CANCELLED"
    else:
        failed = status != "OK" if span.kind == CLIENT else status in FAULTS
        assert told.get("error.type") == (status if failed else None)
        if status == "DEADLINE_EXCEEDED" and method != "Fail":
            assert 0.99 * timeout < seconds < timeout + 10 * PATIENCE
    assert (span.status_code == 2) == ("error.type" in told)
    asked, answered = (told[f"otel_tap.rpc.{side}.messages"] for side in ("request", "response"))
    return method, status, asked, answered


def test_ten_thousand_calls_of_every_kind_are_told_as_either_end_counted_them():
    program = [sys.executable, str(PROGRAMS / "grpc_load.py")]
    environment = {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRIC_EXPORT_INTERVAL": "500"}
    with (
        Tap(environment=environment) as tap,
        subprocess.Popen(
            [*program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        ) as server,
    ):  # fmt: skip
        assert server.stdout is not None
        port = int(server.stdout.readline())
        # Paced: the agent shares two processors with both ends.
        client = subprocess.run(
            [*program, "call", str(port), "320"],
            stdout=subprocess.PIPE, text=True, check=True, timeout=120 * PATIENCE,
        )  # fmt: skip
        said = server.communicate("", 30 * PATIENCE)[0]
        counted = {CLIENT: account(client.stdout), SERVER: account(said)}
        tap.wait_for(lambda: len(tap.receiver.spans), 20_000, 30)
        assert tap.stop() == 0
        ends = {kind: tap.spans(port, kind) for kind in (CLIENT, SERVER)}
        lost = losses(tap)
    assert {name: count for name, count in lost.items() if count} == {}, tap.stderr

    assert counted[CLIENT].total() == counted[SERVER].total() == 10_000
    assert len({row[:2] for row in counted[CLIENT]}) == 30
    told = {kind: Counter(map(row, spans)) for kind, spans in ends.items()}
    # Where a head moves long after its deadline was set, on a busy machine, the call ends before
    # that would be over: it is told as cancelled then.
    ended = Counter(
        (method, "DEADLINE_EXCEEDED" if "Slow" in method else status, asked, answered)
        for method, status, asked, answered in told[CLIENT].elements()
    )
    assert ended == counted[CLIENT]
    in_time = sum(
        count
        for (method, status, _, _), count in told[CLIENT].items()
        if "Slow" in method and status == "DEADLINE_EXCEEDED"
    )
    assert in_time > 200  # of 300
    # A server cannot know why it was left, but by its own clock.
    for method, status, _, _ in told[SERVER]:
        if method in LEFT:
            assert status in ("CANCELLED", "DEADLINE_EXCEEDED" if "Slow" in method else "")
    assert counted[SERVER] == Counter(
        (method, None if method in LEFT else status, asked, answered)
        for method, status, asked, answered in told[SERVER].elements()
    )
    assert {span.parent_span_id for span in ends[SERVER]} == {span.span_id for span in ends[CLIENT]}
    assert len({span.span_id for span in ends[CLIENT] + ends[SERVER]}) == 20_000


@pytest.fixture
def nghttpx(nginx: Nginx) -> Iterator[int]:
    """The port of a proxy that grants h2c, before nginx."""
    if shutil.which("nghttpx") is None:
        pytest.skip("the Debian package nghttp2-proxy is missing")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            "nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{port};no-tls",
            f"--backend=127.0.0.1,{nginx.plain_port}", "--workers=1", "--errorlog-file=/dev/null",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        else:
            break
    yield port
    process.terminate()
    process.wait(10)


def test_the_request_that_asks_for_h2c_is_one_exchange_at_both_ends(nghttpx):
    url = f"http://localhost:{nghttpx}"
    with Tap() as tap:
        subprocess.run(
            ["curl", "--silent", "--http2", "--output", "/dev/null", f"{url}/hello?name=a",
             "--output", "/dev/null", f"{url}/missing"],
            check=True, timeout=20,
        )  # fmt: skip
        subprocess.run(
            ["nghttp", "-n", "-u", f"{url}/report"],
            check=True, timeout=20, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        # The proxy asks nginx in the name of its own port: as many again, of HTTP/1.1.
        tap.wait_for(lambda: len(tap.spans(nghttpx)), 12)
        ends = [
            [
                one
                for one in tap.spans(nghttpx, kind)
                if one.resource["process.executable.name"] in executables
            ]
            for kind, executables in ((CLIENT, ("curl", "nghttp")), (SERVER, ("nghttpx",)))
        ]
        assert len(tap.spans(nghttpx)) == 12

    for spans in ends:
        assert sorted(
            (
                one.attributes["http.response.status_code"],
                one.attributes["otel_tap.connection.reused"],
            )
            for one in spans
        ) == [(200, False), (200, False), (404, True)]
        assert {one.attributes["network.protocol.version"] for one in spans} == {"2"}
        for one in spans:
            assert "otel_tap.capture.truncated" not in one.attributes
    clients, servers = ends
    assert {one.span_id for one in clients} == {one.parent_span_id for one in servers}
    assert {one.attributes["url.path"] for one in servers} == {"/hello", "/missing", "/report"}
