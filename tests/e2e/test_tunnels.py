"""Requests through a forward proxy: the CONNECT, and what goes through the tunnel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from otel_tap.demo.server import Nginx
from tests.e2e.conftest import PROGRAMS, Tap, running_node

SERVER, CLIENT = 2, 3


class Tinyproxy:
    """A forward proxy on a port of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        configuration = folder / "tinyproxy.conf"
        configuration.write_text(
            f"Port {self.port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nAllow 127.0.0.1\n"
        )
        self.process = subprocess.Popen(
            ["tinyproxy", "-d", "-c", configuration],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline
                assert self.process.poll() is None
                time.sleep(0.02)
            else:
                return

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Tinyproxy]:
    if shutil.which("tinyproxy") is None:
        pytest.skip("the Debian package tinyproxy is missing")
    server = Tinyproxy(tmp_path)
    yield server
    server.close()


def curl(nginx: Nginx, proxy: Tinyproxy, *arguments: str) -> int:
    """Runs curl through the proxy; returns its process id."""
    process = subprocess.Popen(
        ["curl", "--silent", "--cacert", nginx.certificate, "--output", "/dev/null",
         "--proxy", f"http://127.0.0.1:{proxy.port}", *arguments]
    )  # fmt: skip
    assert process.wait(20) == 0
    return process.pid


def of(tap: Tap, executable: str, method: str, kind: int) -> list[Any]:
    return [
        span
        for span in tap.receiver.spans
        if span.resource["process.executable.name"] == executable
        and (span.name, span.kind) == (method, kind)
    ]


def peer(span: Any) -> tuple[str, int]:
    return span.attributes["network.peer.address"], span.attributes["network.peer.port"]


def server(span: Any) -> tuple[str, int]:
    return span.attributes["server.address"], span.attributes["server.port"]


def check_tunnel(tap: Tap, executable: str, proxy: Tinyproxy, port: int) -> tuple[Any, Any]:
    """The CONNECT at both ends is true; returns the requests at client and origin."""
    (asked,) = of(tap, executable, "CONNECT", CLIENT)
    (granted,) = of(tap, "tinyproxy", "CONNECT", SERVER)
    for span in (asked, granted):
        assert span.attributes["http.response.status_code"] == 200
        assert server(span) == ("localhost", port)
        assert "otel_tap.tls.library" not in span.attributes
    assert peer(asked) == ("127.0.0.1", proxy.port)
    assert granted.parent_span_id == asked.span_id
    (inner,) = of(tap, executable, "GET", CLIENT)
    (origin,) = of(tap, "nginx", "GET", SERVER)
    assert peer(inner) == ("127.0.0.1", proxy.port)
    assert server(inner) == ("localhost", port)
    assert origin.attributes["network.peer.address"] == "127.0.0.1"
    assert origin.attributes["network.peer.port"] != proxy.port
    for span in (inner, origin):
        assert span.attributes["http.response.status_code"] == 200
    return inner, origin


def test_https_through_a_proxy_is_the_connect_and_the_request_with_their_true_peers(nginx, proxy):
    with Tap() as tap:
        pid = curl(nginx, proxy, f"https://localhost:{nginx.tls_port}/hello")
        tap.wait_for(lambda: len(tap.receiver.spans), 4)
        inner, origin = check_tunnel(tap, "curl", proxy, nginx.tls_port)
        assert len(tap.receiver.spans) == 4
    assert inner.resource["process.pid"] == pid
    assert inner.attributes["url.full"] == f"https://localhost:{nginx.tls_port}/hello"
    assert inner.attributes["otel_tap.peer.evidence"] == "nested_call"
    for span in (inner, origin):
        assert span.attributes["otel_tap.tls.library"] == "openssl"


# TLS on memory BIOs: the session's ciphertext is met again at the socket of the tunnel.
ASYNCIO_CLIENT = """
import asyncio, ssl, sys

async def main(certificate, proxy, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy))
    origin = f"localhost:{port}"
    writer.write(f"CONNECT {origin} HTTP/1.1\\r\\nHost: {origin}\\r\\n\\r\\n".encode())
    await reader.readuntil(b"\\r\\n\\r\\n")
    context = ssl.create_default_context(cafile=certificate)
    await writer.start_tls(context, server_hostname="localhost")
    writer.write(f"GET / HTTP/1.1\\r\\nHost: {origin}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    await reader.read()
    writer.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("command", "name", "evidence"),
    [
        pytest.param(
            ["node", str(PROGRAMS / "tunnel_client.js")], "node", "nested_call",
            marks=pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
        ),
        ([sys.executable, "-c", ASYNCIO_CLIENT], Path(sys.executable).resolve().name, "ciphertext"),
    ],
)  # fmt: skip
def test_sessions_without_a_socket_of_their_own_are_bound_to_that_of_the_tunnel(
    nginx, proxy, command, name, evidence
):
    with Tap() as tap, running_node() if name == "node" else nullcontext():
        client = subprocess.run(
            [*command, nginx.certificate, str(proxy.port), str(nginx.tls_port)],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert client.returncode == 0, client.stderr
        tap.wait_for(lambda: len(tap.receiver.spans), 4)
        inner, _ = check_tunnel(tap, name, proxy, nginx.tls_port)
    assert inner.attributes["otel_tap.peer.evidence"] == evidence
    assert inner.attributes["otel_tap.tls.library"] == "openssl"


def test_plain_http_through_a_tunnel_is_read_inside_it(nginx, proxy):
    with Tap() as tap:
        curl(nginx, proxy, "--proxytunnel", f"http://localhost:{nginx.plain_port}/inside")
        tap.wait_for(lambda: len(tap.receiver.spans), 6)
        inner, _ = check_tunnel(tap, "curl", proxy, nginx.plain_port)
        # The proxy has the same bytes in its hands: it received and it sent this request.
        (received,) = of(tap, "tinyproxy", "GET", SERVER)
        (sent,) = of(tap, "tinyproxy", "GET", CLIENT)
        (origin,) = of(tap, "nginx", "GET", SERVER)
    assert inner.attributes["url.full"] == f"http://localhost:{nginx.plain_port}/inside"
    assert inner.attributes["otel_tap.peer.evidence"] == "socket"
    assert inner.attributes["otel_tap.connection.reused"] is True
    assert received.parent_span_id == inner.span_id
    assert origin.parent_span_id == sent.span_id
    assert peer(sent) == ("127.0.0.1", nginx.plain_port)


def test_a_proxied_request_names_the_proxy_as_peer_and_the_origin_as_server(nginx, proxy):
    with Tap() as tap:
        curl(nginx, proxy, f"http://localhost:{nginx.plain_port}/absolute")
        tap.wait_for(lambda: len(tap.receiver.spans), 4)
        (asked,) = of(tap, "curl", "GET", CLIENT)
        (received,) = of(tap, "tinyproxy", "GET", SERVER)
        (sent,) = of(tap, "tinyproxy", "GET", CLIENT)
        (answered,) = of(tap, "nginx", "GET", SERVER)
    assert peer(asked) == ("127.0.0.1", proxy.port)
    assert peer(sent) == ("127.0.0.1", nginx.plain_port)
    for span in (asked, sent):
        assert span.attributes["url.full"] == f"http://localhost:{nginx.plain_port}/absolute"
    for span in (asked, received, sent, answered):
        assert server(span) == ("localhost", nginx.plain_port)
    assert received.parent_span_id == asked.span_id
    assert answered.parent_span_id == sent.span_id
