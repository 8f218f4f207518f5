"""nginx as the benchmarks need it: one worker, no log, answers of 36 bytes, 1 KB and 100 KB."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.benchmarks.cpus import LOAD

_CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
user root;
events {{}}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile off;
    server {{
        listen 127.0.0.1:{tls_port} ssl;
        listen 127.0.0.1:{plain_port};
        listen 127.0.0.1:{http2_port} http2;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        location = /1k {{ root {folder}/content; }}
        location = /100k {{ root {folder}/content; }}
        location /shop/ {{ root {folder}/content; try_files /1k =404; }}
        location / {{ return 200 "thirty-six bytes of a small answer.\\n"; }}
    }}
}}
"""


def _free_ports(count: int) -> list[int]:
    """Ports that differ: each is held until all are found."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


class Nginx:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tls_port, plain_port, http2_port = _free_ports(3)
        self.tls = f"https://127.0.0.1:{tls_port}"
        self.plain = f"http://127.0.0.1:{plain_port}"
        self.http2 = f"http://127.0.0.1:{http2_port}"  # with prior knowledge
        self._port = plain_port
        content = folder / "content"
        content.mkdir()
        (content / "1k").write_bytes(os.urandom(512).hex().encode())
        (content / "100k").write_bytes(os.urandom(51200).hex().encode())
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", folder / "key.pem",
             "-out", folder / "certificate.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "nginx.conf").write_text(
            _CONFIGURATION.format(
                folder=folder, tls_port=tls_port, plain_port=plain_port, http2_port=http2_port
            )
        )

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*LOAD, "nginx", "-e", self._folder / "error.log", "-c", self._folder / "nginx.conf"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.05)
        self.__exit__()
        raise RuntimeError("nginx did not start: " + (self._folder / "error.log").read_text())

    @property
    def worker(self) -> int:
        """Pid of the process that answers."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return int(children.split()[0])

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # its worker too
            self._process.wait()
