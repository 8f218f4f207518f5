"""What every kernel must show: `make test-kernels` runs this in emulators too.

One start of the tap for all programs, for that is what takes long there; and nothing here hangs on
how fast a program or the agent is.
"""

import os
import pwd
import re
import subprocess
import sys
from collections import Counter

import pytest

from otel_tap.demo.server import REPORT_BYTES
from tests.e2e.conftest import Tap

SERVER, CLIENT = 2, 3

# One keep-alive connection in plain text, then one over TLS, from one process.
PYTHON_CLIENT = """
import http.client, ssl, sys
trusted = ssl.create_default_context(cafile=sys.argv[1])
for client in (http.client.HTTPConnection("localhost", int(sys.argv[3])),
               http.client.HTTPSConnection("localhost", int(sys.argv[2]), context=trusted)):
    for target in ("/hello", "/missing", "/report"):
        client.request("GET", target, headers={"Authorization": "Bearer planted-s3cret"})
        client.getresponse().read()
"""


@pytest.mark.smoke
def test_programs_in_plain_text_and_over_tls_are_spans_at_both_ends(nginx, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text("telemetry:\n  attributes: [http.response.body.size]\n")
    ports = {"https": nginx.tls_port, "http": nginx.plain_port}
    curl = ["curl", "--silent", "--cacert", nginx.certificate, "--output", "/dev/null"]
    with Tap("--config", str(config), environment={"OTEL_METRICS_EXPORTER": "none"}) as tap:
        urls = [f"{scheme}://localhost:{port}/hello?by=curl" for scheme, port in ports.items()]
        curls = {}
        for url in urls:
            with subprocess.Popen([*curl, url]) as process:
                curls[url] = process.pid
            assert process.returncode == 0
        subprocess.run(
            [sys.executable, "-c", PYTHON_CLIENT, nginx.certificate, *map(str, ports.values())],
            check=True,
        )
        tap.wait_for(lambda: sum(len(tap.spans(port)) for port in ports.values()), 16)
        spans = [span for port in ports.values() for span in tap.spans(port)]
        stopped = tap.stop()
        said = "".join(tap.stderr)
    assert stopped == 0

    sizes = {"/hello": len("hello from nginx\n"), "/report": REPORT_BYTES}
    sizes["/missing"] = len("no such thing\n")
    of_each = [("/hello", 200), ("/hello", 200), ("/missing", 404), ("/report", 200)]
    expected = Counter((port, path, code, sizes[path]) for port in ports.values()
                       for path, code in of_each)  # fmt: skip
    for kind in (CLIENT, SERVER):
        seen = Counter(
            (
                span.attributes["server.port"],
                _path(span.attributes),
                span.attributes.get("http.response.status_code"),
                span.attributes.get("http.response.body.size"),
            )
            for span in spans
            if span.kind == kind
        )
        assert seen == expected, said

    for span in spans:
        assert span.attributes["network.protocol.version"] == "1.1"
        if span.kind == CLIENT:
            assert span.attributes["network.peer.address"] == "127.0.0.1"
            assert span.attributes["network.peer.port"] in ports.values()
            assert span.resource["process.owner"] == pwd.getpwuid(os.getuid()).pw_name
        else:
            assert span.resource["process.executable.name"] == "nginx"
    by_url = {span.attributes["url.full"]: span for span in spans if span.kind == CLIENT}
    for url, pid in curls.items():
        assert by_url[url].resource["process.pid"] == pid
        assert by_url[url].resource["process.executable.name"] == "curl"
    # nginx sends its file by sendfile, in plain text: those bytes no probe can see.
    assert re.search(r"\(\d+ lost: sendfile \d+; 20\.0 kB\)", said), said
    assert "s3cret" not in repr(tap.receiver.spans) + repr(tap.receiver.log_records) + said


def _path(attributes: dict) -> str:
    """Of a server's span, or of a client's URL."""
    url = str(attributes.get("url.path") or attributes["url.full"])
    return "/" + url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
