"""HTTP/2 of real programs: nginx, curl and h2load, over TLS and with prior knowledge."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_tap.demo import server as demo
from otel_tap.demo.server import Nginx
from tests.e2e.conftest import Tap

SERVER, CLIENT = 2, 3

pytestmark = pytest.mark.ebpf


@pytest.fixture
def nginx2(world_readable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    """nginx that speaks HTTP/2 at both ports."""
    configuration = demo._CONFIGURATION.replace(" ssl;", " ssl http2;")
    configuration = configuration.replace("{plain_port};", "{plain_port} http2;")
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
