"""What a user sees of real programs: one span per exchange and end, true in every attribute."""

import json
import os
import pwd
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from otel_tap.demo.server import REPORT_BYTES, Nginx
from tests.e2e.conftest import PROGRAMS, Tap
from tests.e2e.programs.shapes_server import content

SERVER, CLIENT = 2, 3


def curl(server: Nginx, *arguments: str) -> int:
    """Runs curl to its end; returns its process id."""
    process = subprocess.Popen(
        ["curl", "--silent", "--cacert", server.certificate, "--output", "/dev/null", *arguments]
    )
    assert process.wait(20) == 0
    return process.pid


def test_both_ends_of_a_curl_request_to_nginx_are_spans_of_one_trace(nginx):
    with Tap() as tap:
        pid = curl(nginx, f"https://localhost:{nginx.tls_port}/hello?name=world")
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 2)
        (client,) = tap.spans(nginx.tls_port, CLIENT)
        (server,) = tap.spans(nginx.tls_port, SERVER)
        logs = {(log.trace_id, log.span_id): log for log in tap.receiver.log_records}

    assert client.name == server.name == "GET"
    assert server.trace_id == client.trace_id
    assert server.parent_span_id == client.span_id
    assert client.parent_span_id == ""
    assert client.attributes["url.full"] == f"https://localhost:{nginx.tls_port}/hello?name=world"
    assert client.attributes["network.peer.address"] == "127.0.0.1"
    assert client.attributes["network.peer.port"] == nginx.tls_port
    assert server.attributes["url.scheme"] == "https"
    assert server.attributes["url.path"] == "/hello"
    assert server.attributes["url.query"] == "name=world"
    assert server.attributes["client.address"] == "127.0.0.1"
    assert server.attributes["user_agent.original"].startswith("curl/")
    assert server.attributes["otel_tap.tls.library"] == "openssl"
    for span in (client, server):
        assert span.attributes["http.request.method"] == "GET"
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["network.protocol.version"] == "1.1"
        assert span.attributes["server.address"] == "localhost"
        assert "error.type" not in span.attributes
        assert span.start_time_unix_nano < span.end_time_unix_nano <= time.time_ns()
        assert span.start_time_unix_nano > time.time_ns() - 60e9
        assert (span.trace_id, span.span_id) in logs
    assert client.start_time_unix_nano <= server.start_time_unix_nano

    assert client.resource["process.pid"] == pid
    assert client.resource["process.executable.name"] == "curl"
    assert client.resource["process.executable.path"] == "/usr/bin/curl"
    assert client.resource["process.owner"] == pwd.getpwuid(os.getuid()).pw_name
    assert server.resource["process.executable.name"] == "nginx"
    assert server.resource["process.owner"] == "nobody"
    for span in (client, server):
        assert span.resource["host.name"] == socket.gethostname()
        assert span.resource["service.name"] == (
            f"unknown_service:{span.resource['process.executable.name']}"
        )


def test_connections_that_were_open_before_the_start_are_seen(nginx):
    script = (
        "import http.client, ssl, sys\n"
        "c = ssl.create_default_context(cafile=sys.argv[1])\n"
        "s = [http.client.HTTPSConnection('127.0.0.1', int(sys.argv[2]), context=c),\n"
        "     http.client.HTTPConnection('127.0.0.1', int(sys.argv[3]))]\n"
        "for target in ('/before', '/after', '/again'):\n"
        "    for x in s:\n"
        "        x.request('GET', target); x.getresponse().read()\n"
        "    print('done', flush=True); sys.stdin.readline()\n"
    )
    ports = (nginx.tls_port, nginx.plain_port)
    client = subprocess.Popen(
        [sys.executable, "-c", script, nginx.certificate, *map(str, ports)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdin
    assert client.stdout
    client.stdout.readline()
    with Tap() as tap:
        client.stdin.write("\n\n\n")
        client.stdin.close()
        client.wait(10)
        tap.wait_for(lambda: sum(len(tap.spans(port)) for port in ports), 8)
        for port in ports:
            for kind in (CLIENT, SERVER):
                spans = tap.spans(port, kind)
                assert [span.attributes["http.response.status_code"] for span in spans] == [200] * 2
                assert all(span.attributes["network.peer.address"] == "127.0.0.1" for span in spans)
            parents = {(span.trace_id, span.parent_span_id) for span in tap.spans(port, SERVER)}
            assert parents == {(span.trace_id, span.span_id) for span in tap.spans(port, CLIENT)}


def seen_by(tap: Tap, ports: dict[int, str], kind: int) -> Counter:
    """What the spans of one end say, in the words of the server's log."""
    rows: Counter = Counter()
    for port, scheme in ports.items():
        for span in tap.spans(port, kind):
            attributes = span.attributes
            if kind == CLIENT:
                target = re.sub(rf"^https?://127\.0\.0\.1:{port}", "", attributes["url.full"])
            else:
                target = attributes.get("url.path", "")
                if "url.query" in attributes:
                    target += "?" + attributes["url.query"]
            rows[
                scheme,
                attributes.get("http.request.method_original", attributes["http.request.method"]),
                target,
                attributes["http.response.status_code"],
                attributes["http.request.body.size"],
                attributes["http.response.body.size"],
            ] += 1
    return rows


def expected_of(rows: list[list], kind: int) -> Counter:
    """Lines of the programs in the words of spans."""
    counted: Counter = Counter()
    for scheme, method, target, *numbers in rows:
        # An absolute target names what Host names too; `OPTIONS *` asks for no path.
        path = re.sub(r"^http://127\.0\.0\.1:\d+", "", target)
        if path == "*" and kind == CLIENT:
            path = ""
        counted[(scheme, method, path, *numbers)] += 1
    return counted


def test_a_thousand_requests_of_every_shape_are_one_span_per_end(shapes_server, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text(
        "telemetry:\n  attributes: [http.request.body.size, http.response.body.size]\n"
    )
    ports = {shapes_server.tls_port: "https", shapes_server.plain_port: "http"}
    with Tap("--config", str(config)) as tap:
        client = subprocess.run(
            [sys.executable, PROGRAMS / "shapes_client.py", shapes_server.certificate,
             *map(str, ports), "16"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert client.returncode == 0, client.stderr
        answered = [json.loads(line) for line in client.stdout.splitlines()]
        logged = shapes_server.logged()
        assert len(logged) == len(answered) >= 1000
        tap.wait_for(lambda: sum(len(tap.spans(port)) for port in ports), 2 * len(logged), 40)
        at_server = seen_by(tap, ports, SERVER)
        at_client = seen_by(tap, ports, CLIENT)
        resets = [
            span for port in ports for span in tap.spans(port) if "/reset/" in str(span.attributes)
        ]
    assert at_server == expected_of(logged, SERVER)
    assert at_client == expected_of(answered, CLIENT)
    assert {span.attributes.get("error.type") for span in resets} == {"connection_reset"}
    assert tap.stop() == 0


def test_bodies_are_exact_up_to_the_limit_and_say_when_they_are_cut(shapes_server):
    limit = 10_000
    port = shapes_server.plain_port
    with Tap("--bodies", "--body-limit", str(limit)) as tap:
        for path, sent in (("/ok/9999", 0), ("/chunked/10000", 0), ("/ok/50000", 20_000)):
            subprocess.run(
                ["curl", "--silent", "--output", "/dev/null", "--data-binary", "@-",
                 "--request", "POST", f"http://127.0.0.1:{port}{path}"],
                input=content(sent), timeout=20, check=True,
            )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(port)), 6)
        logs = [
            log for log in tap.receiver.log_records if log.attributes.get("server.port") == port
        ]
        assert len(logs) == 6
        for log in logs:
            text = str(log.attributes.get("url.full") or log.attributes.get("url.path"))
            size = int(text.rsplit("/", 1)[1])
            # Text is text where a media type says so; the chunked answer says nothing.
            body = log.attributes["http.response.body.content"]
            whole = content(size)[:limit]
            assert body == (whole if "chunked" in text else whole.decode())
            request = log.attributes.get("http.request.body.content", "")
            assert request == content(20_000 if size == 50_000 else 0)[:limit].decode()
            assert log.attributes.get("otel_tap.capture.truncated", False) is (size == 50_000)


def test_nothing_of_a_body_leaves_unless_asked_for(shapes_server):
    port = shapes_server.plain_port
    with Tap() as tap:
        subprocess.run(
            ["curl", "--silent", "--output", "/dev/null", "--data", "planted-body-s3cret",
             "--header", "Authorization: Bearer planted-header-s3cret",
             "--header", "Cookie: id=planted-cookie-s3cret",
             f"http://user:planted-user-s3cret@127.0.0.1:{port}/ok/5?token=planted-query-s3cret"],
            timeout=20, check=True,
        )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(port)), 2)
        assert len(tap.spans(port)) == 2
        assert "token=REDACTED" in repr(tap.receiver.spans)
        for seen in (tap.receiver.spans, tap.receiver.log_records, tap.stderr):
            assert "s3cret" not in repr(seen)


def test_a_file_sent_by_the_kernel_has_its_size_and_says_that_it_was_not_seen(nginx, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text("telemetry:\n  attributes: [http.response.body.size]\n")
    with Tap("--config", str(config)) as tap:
        curl(nginx, f"http://localhost:{nginx.plain_port}/report")
        tap.wait_for(lambda: len(tap.spans(nginx.plain_port)), 2)
        (server,) = tap.spans(nginx.plain_port, SERVER)
        (client,) = tap.spans(nginx.plain_port, CLIENT)
    for span in (server, client):
        assert span.attributes["http.response.body.size"] == REPORT_BYTES
        assert span.attributes["http.response.status_code"] == 200
    assert server.attributes["otel_tap.capture.lost_bytes"] == REPORT_BYTES
    assert "otel_tap.capture.lost_bytes" not in client.attributes


ASYNCIO_CLIENT = """
import asyncio, ssl, sys
async def one(path):
    c = ssl.create_default_context(cafile=sys.argv[1])
    r, w = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]), ssl=c)
    for i in range(3):
        w.write(b"GET /hello?%d.%d HTTP/1.1\\r\\nHost: 127.0.0.1:%d\\r\\n\\r\\n"
                % (path, i, int(sys.argv[2])))
        await r.readuntil(b"hello from nginx\\n")
    w.close()
async def main():
    await asyncio.gather(*map(one, range(8)))
asyncio.run(main())
"""


def test_asyncio_sessions_have_their_true_peer_and_are_linked(nginx):
    with Tap() as tap:
        subprocess.run(
            [sys.executable, "-c", ASYNCIO_CLIENT, nginx.certificate, str(nginx.tls_port)],
            timeout=20, check=True,
        )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 48)
        clients = {
            (span.trace_id, span.span_id): span for span in tap.spans(nginx.tls_port, CLIENT)
        }
        servers = tap.spans(nginx.tls_port, SERVER)
    assert len(clients) == len(servers) == 24
    for server in servers:
        client = clients[server.trace_id, server.parent_span_id]
        assert client.attributes["url.full"].endswith("?" + server.attributes["url.query"])
        assert client.attributes["otel_tap.peer.evidence"] == "ciphertext"
        assert client.attributes["network.peer.port"] == nginx.tls_port


NODE = """
const https = require("https"), fs = require("fs");
const [certificate, key, total] = process.argv.slice(1);
const server = https.createServer(
  { key: fs.readFileSync(key), cert: fs.readFileSync(certificate) },
  (request, response) => response.end("node " + request.url));
server.listen(0, "127.0.0.1", () => {
  const port = server.address().port;
  let left = Number(total);
  const next = (n) => https.get(
    { host: "127.0.0.1", port, path: "/n?" + n, ca: fs.readFileSync(certificate) },
    (response) => { response.resume(); response.on("end", () => {
      if (--left === 0) { console.log(port); setTimeout(() => process.exit(0), 300); }
      else next(n + 1); }); });
  setTimeout(() => next(0), 1500);
});
"""


@pytest.mark.skipif(
    subprocess.run(["which", "node"], capture_output=True).returncode != 0,
    reason="node is not installed",
)
def test_node_whose_openssl_is_inside_the_binary_is_tapped_at_both_ends(nginx):
    with Tap() as tap:
        result = subprocess.run(
            ["node", "-e", NODE, nginx.certificate, nginx.folder / "key.pem", "5"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        port = int(result.stdout)
        tap.wait_for(lambda: len(tap.spans(port)), 10)
        clients = {(span.trace_id, span.span_id) for span in tap.spans(port, CLIENT)}
        servers = tap.spans(port, SERVER)
    assert len(clients) == len(servers) == 5
    assert {(span.trace_id, span.parent_span_id) for span in servers} == clients


def test_a_request_out_of_a_container_names_that_container(nginx, container):
    with Tap() as tap:
        container_id = container(
            "/usr/bin/curl", "--silent", "--insecure", "--output", "/dev/null",
            f"https://127.0.0.1:{nginx.tls_port}/hello",
        )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 2)
        (client,) = tap.spans(nginx.tls_port, CLIENT)
        (server,) = tap.spans(nginx.tls_port, SERVER)
    assert client.resource["container.id"] == container_id
    assert client.resource["process.executable.name"] == "curl"
    assert "container.id" not in server.resource
    assert server.parent_span_id == client.span_id


def test_a_library_of_a_container_s_own_is_tapped(nginx, container, tmp_path):
    with Tap() as tap:
        # Another copy of libssl is another inode: nothing but discovery can have covered it.
        for _ in range(3):
            container(
                "/bin/sh", "-c",
                "sleep 0.3; for i in 1 2 3 4; do sleep 0.1; curl --silent --insecure --output "
                f"/dev/null https://127.0.0.1:{nginx.tls_port}/own; done",
                own_libraries=True,
            )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 24)
        assert len(tap.spans(nginx.tls_port, SERVER)) == 12
        clients = tap.spans(nginx.tls_port, CLIENT)
    assert {span.resource["process.executable.name"] for span in clients} == {"curl"}
    assert len(clients) == 12


def test_exchanges_over_ipv6_have_ipv6_peers():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this host has no IPv6 loopback")
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "::1"],
        cwd=PROGRAMS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with Tap() as tap:
            subprocess.run(
                ["curl", "--silent", "--retry", "5", "--retry-connrefused", "--output",
                 "/dev/null", f"http://[::1]:{port}/"],
                timeout=20, check=True,
            )  # fmt: skip
            tap.wait_for(lambda: len(tap.spans(port)), 2)
            (client,) = tap.spans(port, CLIENT)
    finally:
        server.kill()
        server.wait()
    assert client.attributes["network.peer.address"] == "::1"
    assert client.attributes["url.full"] == f"http://[::1]:{port}/"


def test_vectored_and_message_calls_are_seen(tmp_path):
    source = PROGRAMS / "calls.c"
    program = tmp_path / "calls"
    if subprocess.run(["which", "gcc"], capture_output=True).returncode:
        pytest.skip("no C compiler to build the caller with")
    subprocess.run(["gcc", "-O1", "-o", program, source], check=True)
    with Tap() as tap:
        result = subprocess.run([program], capture_output=True, text=True, timeout=20, check=True)
        port, *ways = result.stdout.split()
        tap.wait_for(lambda: len(tap.spans(int(port))), 2 * len(ways))
        seen = {
            kind: Counter(
                (span.attributes.get("url.full") or span.attributes["url.path"]).rsplit("/", 1)[1]
                for span in tap.spans(int(port), kind)
            )
            for kind in (CLIENT, SERVER)
        }
        statuses = {span.attributes["http.response.status_code"] for span in tap.spans(int(port))}
    assert seen[CLIENT] == seen[SERVER] == Counter(ways)
    assert statuses == {200}
    assert Path(program).exists()


def test_a_stop_takes_everything_that_was_captured_before_it(nginx):
    count = 3000
    script = (
        "import http.client, sys\n"
        "c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))\n"
        "for n in range(int(sys.argv[2])):\n"
        "    c.request('GET', f'/hello?{n}'); c.getresponse().read()\n"
    )
    with Tap() as tap:
        subprocess.run(
            [sys.executable, "-c", script, str(nginx.plain_port), str(count)],
            check=True, timeout=60,
        )  # fmt: skip
        assert tap.stop() == 0
        seen = {kind: len(tap.spans(nginx.plain_port, kind)) for kind in (CLIENT, SERVER)}
        said = "".join(tap.stderr)
    assert seen == {CLIENT: count, SERVER: count}, said
    assert "(0 lost)" in said
