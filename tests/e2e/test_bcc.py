"""The second loader sees what programs really do, and what the first one sees."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from otel_tap.capture.bcc.installed import find_headers, find_package
from otel_tap.demo import server as demo_server
from otel_tap.demo.server import Nginx
from otel_tap.receiver import OtlpReceiver
from tests.e2e.conftest import PROGRAMS, Tap
from tests.e2e.test_tap import ASYNCIO_CLIENT, CLIENT, SERVER, curl, expected_of, seen_by

BCC = ("--loader", "bcc")
CORE = ("--loader", "core")

pytestmark = [
    pytest.mark.skipif(
        find_package().folder is None,
        reason="the BPF Compiler Collection is not installed (python3-bpfcc)",
    ),
    pytest.mark.skipif(
        find_headers(os.uname().release) is None,
        reason="no kernel headers are installed to compile with",
    ),
]


def test_both_ends_of_a_curl_request_are_seen_with_process_and_peer(nginx):
    with Tap(*BCC) as tap:
        pid = curl(nginx, f"https://localhost:{nginx.tls_port}/hello?name=world")
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 2)
        (client,) = tap.spans(nginx.tls_port, CLIENT)
        (server,) = tap.spans(nginx.tls_port, SERVER)
    assert client.attributes["url.full"] == f"https://localhost:{nginx.tls_port}/hello?name=world"
    assert client.attributes["network.peer.address"] == "127.0.0.1"
    assert client.attributes["network.peer.port"] == nginx.tls_port
    assert client.resource["process.pid"] == pid
    assert client.resource["process.executable.path"] == "/usr/bin/curl"
    assert server.attributes["url.path"] == "/hello"
    assert server.attributes["client.address"] == "127.0.0.1"
    assert server.resource["process.executable.name"] == "nginx"
    for span in (client, server):
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["otel_tap.tls.library"] == "openssl"
        assert "error.type" not in span.attributes
    # Nothing that this loader sees says that they are the two ends of one connection.
    assert server.parent_span_id == ""


def test_a_thousand_requests_of_every_shape_are_one_span_per_end(shapes_server, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text(
        "telemetry:\n  attributes: [http.request.body.size, http.response.body.size]\n"
    )
    ports = {shapes_server.tls_port: "https", shapes_server.plain_port: "http"}
    with Tap(*BCC, "--config", str(config)) as tap:
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
    assert at_server == expected_of(logged, SERVER)
    assert at_client == expected_of(answered, CLIENT)


def test_sessions_on_memory_bios_have_their_true_peer(nginx):
    with Tap(*BCC) as tap:
        subprocess.run(
            [sys.executable, "-c", ASYNCIO_CLIENT, nginx.certificate, str(nginx.tls_port)],
            timeout=20, check=True,
        )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 48)
        clients = tap.spans(nginx.tls_port, CLIENT)
        servers = tap.spans(nginx.tls_port, SERVER)
    assert len(clients) == len(servers) == 24
    assert {span.attributes.get("network.peer.port") for span in clients} == {nginx.tls_port}
    assert {span.attributes.get("network.peer.address") for span in clients} == {"127.0.0.1"}


def test_the_agent_s_own_telemetry_is_not_tapped_at_its_far_end(nginx):
    with Tap(*BCC) as tap:
        for _ in range(20):
            curl(nginx, f"http://localhost:{nginx.plain_port}/hello")
        tap.wait_for(lambda: len(tap.spans(nginx.plain_port)), 40)
        assert len(tap.spans(nginx.plain_port)) == 40
        paths = {span.attributes.get("url.path") for span in tap.receiver.spans}
    assert paths == {"/hello", None}


CROSS_CLIENT = """
import hashlib, http.client, json, random, ssl, sys, threading
certificate, port, threads, count = sys.argv[1], *map(int, sys.argv[2:])
context = ssl.create_default_context(cafile=certificate)
rows = []
def digest(data): return hashlib.sha256(data).hexdigest()
def text(dice, size): return bytes(dice.choices(b"abcdefghij klmnopqrstuvwxyz", k=size)).strip()
def run(number):
    dice = random.Random(number)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    for turn in range(count):
        method = dice.choice(("GET", "POST", "PUT"))
        sent = b"" if method == "GET" else text(dice, dice.choice((1, 40, 700, 3000)))
        target = f"/cross/{number}/{turn}?n={dice.randrange(10**9)}"
        more = text(dice, dice.choice((0, 10, 300, 3000))).decode()
        connection.request(method, target, sent or None,
                           {"X-More": more, "Content-Type": "text/plain"})
        answer = connection.getresponse()
        got = answer.read()
        rows.append((method, target, answer.status, digest(sent), digest(got)))
all_threads = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
for thread in all_threads: thread.start()
for thread in all_threads: thread.join()
json.dump(rows, sys.stdout)
"""


def exchanges_of(tap: Tap) -> dict[int, Counter]:
    """Method, target, status and digests of both bodies, as the log records of one end say."""
    seen: dict[int, Counter] = {CLIENT: Counter(), SERVER: Counter()}
    for log in tap.receiver.log_records:
        attributes = log.attributes
        kind = CLIENT if "url.full" in attributes else SERVER
        if kind == CLIENT:
            target = "/" + str(attributes["url.full"]).split("/", 3)[3]
        else:
            target = str(attributes["url.path"])
            if "url.query" in attributes:
                target += f"?{attributes['url.query']}"
        digests = [
            hashlib.sha256(str(attributes.get(name, "")).encode()).hexdigest()
            for name in ("http.request.body.content", "http.response.body.content")
        ]
        status = attributes.get("http.response.status_code")
        seen[kind][attributes["http.request.method"], target, status, *digests] += 1
    return seen


def _length(receiver: OtlpReceiver) -> int:
    return len(receiver.log_records)


@pytest.mark.timeout(400)
def test_both_loaders_find_the_same_bytes_in_ten_thousand_exchanges(
    world_readable: Path, monkeypatch
):
    # Answers as different as their requests.
    echo = demo_server._CONFIGURATION.replace(
        '"hello from nginx\\n"', '"$request_uri $http_x_more\\n"'
    )
    assert echo != demo_server._CONFIGURATION
    monkeypatch.setattr(demo_server, "_CONFIGURATION", echo)
    threads, count = 4, 2500
    # Each agent sends telemetry that the other one could tap: only these exchanges are wanted.
    wanted = ("--bodies", "--path", "/cross/*")
    # Room for nearly all that moves: on a slow machine two agents, client and server share a CPU.
    room = {"OTEL_TAP_CAPTURE__RING_SIZE": "256MiB"}
    with (
        Nginx(world_readable) as nginx,
        Tap(*BCC, *wanted, environment=room) as bcc,
        Tap(*CORE, *wanted, environment=room) as core,
    ):
        client = subprocess.run(
            [sys.executable, "-c", CROSS_CLIENT, nginx.certificate,
             *map(str, (nginx.tls_port, threads, count))],
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert client.returncode == 0, client.stderr
        expected = Counter(map(tuple, json.loads(client.stdout)))
        served = Counter((m, target, status) for m, _, target, status in nginx.logged())
        for tap in (bcc, core):
            tap.wait_for(partial(_length, tap.receiver), 2 * threads * count, 60)
        by_bcc, by_core = exchanges_of(bcc), exchanges_of(core)
    assert sum(expected.values()) == threads * count
    assert served == Counter(row[:3] for row in expected.elements())
    for tap, seen in ((bcc, by_bcc), (core, by_core)):
        for kind in (CLIENT, SERVER):
            missing, wrong = expected - seen[kind], seen[kind] - expected
            assert (missing, wrong) == (Counter(), Counter()), tap.stderr[-3:]
    assert by_bcc == by_core
