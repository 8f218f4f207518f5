"""The programs of the golden recordings: each scenario runs them and tells what they counted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from otel_tap.demo.server import Nginx
from tests.captures import PLANTED_SECRET

PROGRAMS = Path(__file__).parent / "programs"
_TIMEOUT_S = 30

Counted = tuple[str, str, int]
"""Method, target and status of an answered request, secrets as they were sent."""


@dataclass(slots=True)
class Ran:
    """What a scenario did."""

    ports: list[int]  # of its servers
    counted: list[Counted] = field(default_factory=list)  # by the clients or the server's log


def _run(*arguments: str | Path) -> str:
    ended = subprocess.run(
        [str(argument) for argument in arguments],
        stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT_S, check=True,
    )  # fmt: skip
    return ended.stdout


def _by_log(server: Nginx, printed: str) -> Ran:
    """What nginx logged, which must be what the clients printed."""
    logged = [(method, target, status) for method, _, target, status in server.logged()]
    lines = [line.split() for line in printed.splitlines()]
    assert sorted(logged) == sorted((line[0], line[2], int(line[3])) for line in lines)
    return Ran([server.tls_port, server.plain_port], logged)


def curl_nginx(folder: Path) -> Ran:
    """curl over TLS and in plain text: methods, statuses, sizes, a secret in every place."""
    with Nginx(folder) as server:
        bases = (f"https://localhost:{server.tls_port}", f"http://localhost:{server.plain_port}")
        curl = ("curl", "--silent", "--show-error", "--ipv4", "--cacert", server.certificate)
        for base in bases:
            _run(*curl, f"{base}/hello?name=world", f"{base}/missing", f"{base}/report")
            _run(*curl, "--head", f"{base}/hello")
            _run(*curl, "--data", "quantity=3", f"{base}/orders")
            _run(*curl, "--request", "DELETE", f"{base}/orders/3")
            _run(*curl, "--location", f"{base}/broken")
            _run(
                *curl, "--header", f"Authorization: Bearer {PLANTED_SECRET}",
                "--cookie", f"session={PLANTED_SECRET}",
                f"{base}/account?access_token={PLANTED_SECRET}",
            )  # fmt: skip
        counted = [(method, target, status) for method, _, target, status in server.logged()]
    assert len(counted) == 16
    return Ran([server.tls_port, server.plain_port], counted)


def python_nginx(folder: Path) -> Ran:
    """requests, urllib3, http.client and asyncio."""
    with Nginx(folder) as server:
        printed = _run(
            sys.executable, PROGRAMS / "python_clients.py", server.certificate,
            str(server.tls_port), str(server.plain_port),
        )  # fmt: skip
        return _by_log(server, printed)


def node_nginx(folder: Path) -> Ran:
    """Node.js, whose OpenSSL is inside the binary and works on memory BIOs."""
    with Nginx(folder) as server:
        printed = _run(
            "node", PROGRAMS / "node_client.js", server.certificate, str(server.tls_port),
            str(server.plain_port),
        )  # fmt: skip
        return _by_log(server, printed)


def wget_nginx(folder: Path) -> Ran:
    """wget in plain text, with a connection that is kept."""
    with Nginx(folder) as server:
        base = f"http://localhost:{server.plain_port}"
        _run("wget", "--quiet", "--inet4-only", "--output-document=/dev/null",
             *(f"{base}/wget/{number}" for number in range(4)), f"{base}/report")  # fmt: skip
        counted = [(method, target, status) for method, _, target, status in server.logged()]
    assert len(counted) == 5
    return Ran([server.plain_port], counted)


@contextmanager
def _nghttpd(folder: Path, port: int, *options: str | Path) -> Iterator[None]:
    process = subprocess.Popen(
        ["nghttpd", "--address=127.0.0.1", f"--htdocs={folder}", str(port), *map(str, options)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(0.5)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def nghttp2(folder: Path) -> Ran:
    """nghttp and h2load against nghttpd: HTTP/2 over TLS and with prior knowledge."""
    with Nginx(folder) as ports:  # for its certificate and two free ports
        pass
    (folder / "small").write_bytes(b"small\n")
    (folder / "large").write_bytes(b"0123456789" * 10_000)
    counted: list[Counted] = []
    tls = (folder / "key.pem", ports.certificate)
    for port, scheme, options in (
        (ports.tls_port, "https", tls), (ports.plain_port, "http", ("--no-tls",)),
    ):  # fmt: skip
        base = f"{scheme}://127.0.0.1:{port}"
        with _nghttpd(folder, port, *options):
            # -m repeats each on the same connection, at once.
            _run("nghttp", "--null-out", "--multiply=5", f"{base}/small", f"{base}/missing")
            counted += [("GET", "/small", 200), ("GET", "/missing", 404)] * 5
            said = _run("h2load", "-n", "20", "-c", "2", "-m", "5", f"{base}/small")
            assert "20 succeeded" in said
            counted += [("GET", "/small", 200)] * 20
            _run("nghttp", "--null-out", f"{base}/large")
            counted.append(("GET", "/large", 200))
    return Ran([ports.tls_port, ports.plain_port], counted)


def grpc(folder: Path) -> Ran:
    """grpcio in plain text: unary calls, an error, a stream."""
    program = str(PROGRAMS / "grpc_calls.py")
    server = subprocess.Popen(
        [sys.executable, program, "server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    port = int(server.stdout.readline())
    printed = _run(sys.executable, program, "client", str(port))
    time.sleep(0.3)
    server.stdin.close()
    server.wait(_TIMEOUT_S)
    return Ran([port], [("POST", line.split()[0], 200) for line in printed.splitlines()])


SCENARIOS: dict[str, tuple[Callable[[Path], Ran], tuple[str, ...]]] = {
    "curl_nginx": (curl_nginx, ("curl", "nginx", "openssl")),
    "python_nginx": (python_nginx, ("nginx", "openssl")),
    "node_nginx": (node_nginx, ("node", "nginx", "openssl")),
    "wget_nginx": (wget_nginx, ("wget", "nginx", "openssl")),
    "nghttp2": (nghttp2, ("nghttp", "nghttpd", "h2load", "nginx", "openssl")),
    "grpc": (grpc, ()),
}
"""Each with the programs that it needs."""


def missing(name: str) -> list[str]:
    """Programs of a scenario that are not installed."""
    return [program for program in SCENARIOS[name][1] if shutil.which(program) is None]
