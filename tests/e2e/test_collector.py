"""An independent collector understands what arrives: rotel takes it in and passes it on."""

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_tap.receiver import OtlpReceiver
from tests.e2e.conftest import OTEL_TAP, Tap, agent_environment

SERVER, CLIENT = 2, 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Rotel:
    """The compiled collector of the PyPI package rotel, forwarding to an embedded receiver."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.find_spec("rotel")
        if spec is None or spec.origin is None:
            pytest.skip("the package rotel is not installed")
        self.receiver = OtlpReceiver()
        self.receiver.__enter__()
        self.grpc_port = self.http_port = free_port()
        while self.http_port == self.grpc_port:
            self.http_port = free_port()
        self.process = subprocess.Popen(
            [Path(spec.origin).with_name("rotel-agent"), "start",
             "--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc_port}",
             "--otlp-http-endpoint", f"127.0.0.1:{self.http_port}",
             "--exporter", "otlp", "--otlp-exporter-endpoint", self.receiver.endpoint,
             "--batch-timeout", "200ms"],
            stdout=(folder / "rotel.log").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.grpc_port)) == 0:
                    return
            time.sleep(0.05)
        log = (folder / "rotel.log").read_text()
        self.close()
        pytest.fail(f"rotel did not start: {log[-500:]}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.receiver.__exit__(None, None, None)


@pytest.fixture
def rotel(tmp_path: Path) -> Iterator[Rotel]:
    collector = Rotel(tmp_path)
    yield collector
    collector.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_spans_and_logs_pass_through_an_independent_collector(nginx, rotel, protocol):
    port = rotel.grpc_port if protocol == "grpc" else rotel.http_port
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    count = 20
    with Tap(environment=environment) as tap:
        for number in range(count):
            subprocess.run(
                ["curl", "--silent", "--cacert", nginx.certificate, "--output", "/dev/null",
                 f"https://localhost:{nginx.tls_port}/hello?{number}"],
                check=True, timeout=20,
            )  # fmt: skip

        def spans() -> list:
            return [
                span
                for span in rotel.receiver.spans
                if span.attributes.get("server.port") == nginx.tls_port
            ]

        tap.wait_for(lambda: len(spans()), 2 * count)
        assert tap.stop() == 0
        received = spans()
        logs = {(log.trace_id, log.span_id) for log in rotel.receiver.log_records}
        # The collector is a process of this host too, but what the agent tells it is no traffic.
        paths = {
            str(span.attributes.get("url.path")) + str(span.attributes.get("url.full"))
            for span in rotel.receiver.spans
        }
    clients = {(span.trace_id, span.span_id) for span in received if span.kind == CLIENT}
    servers = {(span.trace_id, span.parent_span_id) for span in received if span.kind == SERVER}
    assert len(clients) == len(servers) == count
    assert clients == servers
    assert {(span.trace_id, span.span_id) for span in received} <= logs
    assert not any("/v1/traces" in path or "/v1/logs" in path for path in paths)


def test_without_an_endpoint_lines_of_otlp_json_are_written(nginx, tmp_path):
    path = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [*OTEL_TAP, "run", "--output", f"otlp-json:{path}"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=agent_environment(),
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "ready" in line:
            break
    subprocess.run(
        ["curl", "--silent", "--output", "/dev/null",
         f"http://127.0.0.1:{nginx.plain_port}/written"],
        check=True, timeout=20,
    )  # fmt: skip
    time.sleep(0.5)
    process.terminate()
    said = process.stderr.read()
    assert process.wait(20) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    script = (
        "import json, sys\n"
        "from google.protobuf.json_format import ParseDict\n"
        "names = {}\n"
        "for line in open(sys.argv[1]):\n"
        "    body = json.loads(line)\n"
        "    for key in body:\n"
        "        names[key] = names.get(key, 0) + line.count('/written')\n"
        "print(names['resourceSpans'] >= 2, names['resourceLogs'] >= 2)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True", "True"]
    assert "exchanges" in said
