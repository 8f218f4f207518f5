"""A real nginx on free loopback ports, with TLS and without, and its own log of every request."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from otel_tap.errors import OtelTapError

_CONFIGURATION = """\
daemon off;
user nobody nogroup;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{}}
http {{
    log_format demo '$request_method $scheme $request_uri $status';
    access_log {folder}/access.log demo;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    keepalive_timeout 60s;
    default_type text/plain;
    server {{
        listen 127.0.0.1:{tls_port} ssl;
        listen 127.0.0.1:{plain_port};
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        location = /report {{ root {folder}/content; }}
        location = /moved {{ return 302 /hello; }}
        location = /broken {{ return 503 "try later\\n"; }}
        location = /missing {{ return 404 "no such thing\\n"; }}
        location / {{ return 200 "hello from nginx\\n"; }}
    }}
}}
"""
_START_S = 10.0
REPORT_BYTES = 20_000


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def require_programs(*names: str) -> None:
    """Raises `OtelTapError` for the first program that is not installed."""
    for name in names:
        if shutil.which(name) is None:
            raise OtelTapError(
                f"the demo needs {name}, which is not installed",
                remedy="make setup (or: apt-get install nginx-light curl wget openssl)",
            )


class Nginx:
    """A running server; use as a context manager. `folder` must be readable by nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tls_port = _free_port()
        self.plain_port = _free_port()
        self.certificate = folder / "certificate.pem"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        content = self.folder / "content"
        content.mkdir()
        (content / "report").write_bytes(b"0123456789" * (REPORT_BYTES // 10))
        for path in (self.folder, content):
            path.chmod(0o755)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", self.folder / "key.pem", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=self.folder, tls_port=self.tls_port, plain_port=self.plain_port
            )
        )
        self._process = subprocess.Popen(
            ["nginx", "-e", self.folder / "error.log", "-c", configuration],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait_until_it_listens()
        return self

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.plain_port)) == 0:
                    return
            time.sleep(0.05)
        self.__exit__()
        log = self.folder / "error.log"
        reason = log.read_text().strip().splitlines()[-1:] if log.exists() else []
        raise OtelTapError(f"nginx did not start: {' '.join(reason) or 'it says nothing'}")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def logged(self) -> list[tuple[str, str, str, int]]:
        """Every request answered so far: method, scheme, target, status."""
        requests = []
        for line in (self.folder / "access.log").read_text().splitlines():
            method, scheme, target, status = line.split()
            requests.append((method, scheme, target, int(status)))
        return requests
