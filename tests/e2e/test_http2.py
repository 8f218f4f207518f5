"""HTTP/2 of real programs: nginx, curl and h2load, over TLS and with prior knowledge."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_tap.demo import server as demo
from otel_tap.demo.server import Nginx
from tests.e2e.conftest import PATIENCE, Tap, losses

SERVER, CLIENT = 2, 3

pytestmark = pytest.mark.ebpf


# A connection is not closed in the midst of a test, and the server's own account of every request
# says what a span says.
_AT_SIZE = """\
    keepalive_requests 1000000;
    log_format sized '$request_method $status $body_bytes_sent $request_uri';
    access_log {folder}/sized.log sized;
"""
# Reads what it is sent, where `return` would answer before, and let a client send less.
_STORED = """\
        location /stored/ {{ root {folder}; dav_methods PUT; }}
"""


@pytest.fixture
def nginx2(world_readable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    """nginx that speaks HTTP/2 at both ports."""
    configuration = demo._CONFIGURATION.replace(" ssl;", " ssl http2;")
    configuration = configuration.replace("{plain_port};", "{plain_port} http2;")
    configuration = configuration.replace("    access_log", _AT_SIZE + "    access_log")
    configuration = configuration.replace("        location / ", _STORED + "        location / ")
    stored = world_readable / "stored"
    stored.mkdir()
    stored.chmod(0o777)
    monkeypatch.setattr(demo, "_CONFIGURATION", configuration)
    with Nginx(world_readable) as server:
        yield server


def curl(server: Nginx, *arguments: str) -> None:
    subprocess.run(
        ["curl", "--silent", "--cacert", server.certificate, "--output", "/dev/null", *arguments],
        check=True,
        timeout=20,
    )


def test_both_ends_of_requests_by_curl_are_spans_of_one_trace_each(nginx2):
    base = f"https://localhost:{nginx2.tls_port}"
    with Tap() as tap:
        curl(nginx2, "--http2", f"{base}/hello?name=world")
        curl(nginx2, "--http2", "--parallel", f"{base}/missing", f"{base}/report")
        tap.wait_for(lambda: len(tap.spans(nginx2.tls_port)), 6)
        clients = tap.spans(nginx2.tls_port, CLIENT)
        servers = tap.spans(nginx2.tls_port, SERVER)

    by_id = {span.span_id: span for span in clients}
    assert len(servers) == len(clients) == 3
    for span in servers:
        client = by_id[span.parent_span_id]
        assert span.trace_id == client.trace_id
        assert client.attributes["url.full"] == base + span.attributes["url.path"] + (
            "?" + span.attributes["url.query"] if "url.query" in span.attributes else ""
        )
        for end in (span, client):
            assert end.attributes["network.protocol.version"] == "2"
            assert end.attributes["server.address"] == "localhost"
            assert "otel_tap.capture.truncated" not in end.attributes
    assert Counter(
        (one.attributes["url.path"], one.attributes["http.response.status_code"]) for one in servers
    ) == Counter({("/hello", 200): 1, ("/missing", 404): 1, ("/report", 200): 1})


def test_prior_knowledge_is_recognised_at_both_ends(nginx2):
    with Tap() as tap:
        url = f"http://127.0.0.1:{nginx2.plain_port}/plain"
        curl(nginx2, "--http2-prior-knowledge", url)
        tap.wait_for(lambda: len(tap.spans(nginx2.plain_port)), 2)
        (client,) = tap.spans(nginx2.plain_port, CLIENT)
        (server,) = tap.spans(nginx2.plain_port, SERVER)
    assert client.attributes["url.full"] == url
    assert server.parent_span_id == client.span_id
    assert server.attributes["network.protocol.version"] == "2"


def test_concurrent_streams_of_h2load_are_all_there_at_both_ends(nginx2):
    count = 230
    with Tap() as tap:
        subprocess.run(
            ["h2load", "-n", str(count), "-c", "3", "-m", "10",
             f"https://127.0.0.1:{nginx2.tls_port}/load"],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(nginx2.tls_port)), 2 * count)
        clients = tap.spans(nginx2.tls_port, CLIENT)
        servers = tap.spans(nginx2.tls_port, SERVER)
    logged = [one for one in nginx2.logged() if one[2] == "/load"]
    assert len(clients) == len(servers) == len(logged) == count
    assert {span.attributes["url.path"] for span in servers} == {"/load"}
    assert {span.parent_span_id for span in servers} == {span.span_id for span in clients}


def accounted(folder: Path) -> Counter[tuple[str, int, int, str]]:
    """Method, status, bytes of response content and path of every request, by nginx."""
    rows: Counter[tuple[str, int, int, str]] = Counter()
    for line in (folder / "sized.log").read_text().splitlines():
        method, status, size, path = line.split()
        rows[method, int(status), int(size), path] += 1
    return rows


def test_fifty_thousand_requests_of_h2load_are_told_to_the_byte_at_both_ends(nginx2, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text(
        "telemetry:\n  attributes: [http.request.body.size, http.response.body.size]\n"
    )
    form = tmp_path / "form"
    form.write_bytes(b"f" * 1234)
    base = f"https://127.0.0.1:{nginx2.tls_port}"
    targets = ("/hello", "/missing", "/report", "/moved", "/broken", "/other")
    # Paced: the agent shares two processors with all of them, and would shed connections.
    loads = {
        "GET": ["-n", "40000", "-c", "8", *(base + target for target in targets)],
        "PUT": ["-n", "10000", "-c", "2", "-d", str(form), "-H", ":method: PUT",
                f"{base}/stored/a", f"{base}/stored/b"],
    }  # fmt: skip
    with Tap(
        "--config", str(config),
        environment={"OTEL_LOGS_EXPORTER": "none", "OTEL_METRIC_EXPORT_INTERVAL": "500"},
    ) as tap:  # fmt: skip
        processes = [
            subprocess.Popen(
                ["h2load", "-m", "100", "--rps", "250", *load], stdout=subprocess.PIPE, text=True
            )
            for load in loads.values()
        ]
        said = [process.communicate(timeout=120 * PATIENCE)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        tap.wait_for(lambda: len(tap.receiver.spans), 100_000, 60)
        assert tap.stop() == 0
        ends = {kind: tap.spans(nginx2.tls_port, kind) for kind in (CLIENT, SERVER)}
        lost = losses(tap)
    assert ("otel_tap.payload.shed", "None") in lost
    assert {name: count for name, count in lost.items() if count} == {}, tap.stderr

    # By h2load: nothing failed, and so many answers of each class.
    classes: Counter[str] = Counter()
    for text, count in zip(said, (40_000, 10_000), strict=True):
        assert f"{count} done" in text, text
        for number, name in re.findall(r"(\d+) ([2345]xx)", text):
            classes[name] += int(number)
    logged = accounted(nginx2.folder)
    assert logged.total() == classes.total() == 50_000
    assert len(logged) == len(targets) + 4  # a file that is there already is answered with 204
    for spans in ends.values():
        told: Counter[tuple[str, int, int, str]] = Counter()
        for span in spans:
            attributes = span.attributes
            method = str(attributes["http.request.method"])
            path = attributes.get("url.path") or str(attributes["url.full"]).removeprefix(base)
            status = int(str(attributes["http.response.status_code"]))
            told[method, status, int(str(attributes["http.response.body.size"])), str(path)] += 1
            assert attributes["http.request.body.size"] == (1234 if method == "PUT" else 0)
            assert not [name for name in attributes if name.startswith("otel_tap.capture.")]
        assert told == logged
        by_class: Counter[str] = Counter()
        for (_, status, _, _), count in told.items():
            by_class[f"{status // 100}xx"] += count
        assert by_class == +classes
    assert {span.parent_span_id for span in ends[SERVER]} == {span.span_id for span in ends[CLIENT]}
    assert len({span.span_id for span in ends[CLIENT] + ends[SERVER]}) == 100_000
