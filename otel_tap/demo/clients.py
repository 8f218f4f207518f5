"""Real clients of the demo: curl, wget, python; each counts for itself what it got answered."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

from otel_tap.demo.server import Nginx

# Said where a secret would be; none of it may ever be seen behind the redaction.
PLANTED_SECRET = "demo-s3cret-"  # noqa: S105 - planted on purpose

_TIMEOUT_S = 20
_URLLIB = """
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
answered = 0
for url in sys.argv[2:]:
    try:
        urllib.request.urlopen(url, context=context, timeout=10).read()
    except urllib.error.HTTPError as error:
        error.read()
    answered += 1
print(answered)
"""
# Opens its connections, waits for a line on stdin, then goes on with the same connections.
_KEEP_ALIVE = """
import http.client, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
connections = [
    http.client.HTTPSConnection("localhost", int(sys.argv[2]), context=context, timeout=30),
    http.client.HTTPConnection("localhost", int(sys.argv[3]), timeout=30),
]
def get(connection, path):
    connection.request("GET", path)
    connection.getresponse().read()
for connection in connections:
    get(connection, "/before")
print("open", flush=True)
sys.stdin.readline()
answered = 0
for number in range(int(sys.argv[4])):
    for connection in connections:
        get(connection, "/kept-open/%d" % number)
        answered += 1
print(answered, flush=True)
"""
KEPT_OPEN_ROUNDS = 3
BEFORE = "/before"


@dataclass(slots=True)
class Sent:
    """What the clients say they sent and got answered, by program."""

    by_program: dict[str, int] = field(default_factory=dict)

    def add(self, program: str, count: int) -> None:
        """`count` more by `program`."""
        self.by_program[program] = self.by_program.get(program, 0) + count

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_program.values())


class KeepAliveClient:
    """A process whose connections are open before the agent starts."""

    def __init__(self, server: Nginx) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _KEEP_ALIVE, server.certificate, str(server.tls_port),
             str(server.plain_port), str(KEPT_OPEN_ROUNDS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_until_open(self) -> None:
        """Until both connections have answered once."""
        if self._process.stdout is None or self._process.stdout.readline().strip() != "open":
            raise RuntimeError("the keep-alive client did not get its connections open")

    def go_on(self, sent: Sent) -> None:
        """Send the rest on the connections that were open."""
        answered, _ = self._process.communicate("go\n", timeout=_TIMEOUT_S)
        sent.add("python", int(answered))

    def close(self) -> None:
        """End the process if it is still there."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _curl(server: Nginx, sent: Sent, *arguments: str) -> None:
    result = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", server.certificate, "--output",
         "/dev/null", "--write-out", "%{http_code} %{num_redirects}\n", *arguments],
        capture_output=True, text=True, timeout=_TIMEOUT_S, check=True,
    )  # fmt: skip
    code, redirects = result.stdout.split()
    sent.add("curl", int(redirects) + (code != "000"))


def _wget(server: Nginx, sent: Sent, url: str) -> None:
    result = subprocess.run(
        ["wget", "--quiet", "--tries=1", f"--ca-certificate={server.certificate}",
         "--output-document=/dev/null", url],
        timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    sent.add("wget", result.returncode in (0, 8))  # 8: answered with an error status


def send_everything(server: Nginx, kept_open: KeepAliveClient) -> Sent:
    """Run every client to its end; returns what they counted."""
    sent = Sent()
    secure = f"https://localhost:{server.tls_port}"
    plain = f"http://localhost:{server.plain_port}"
    kept_open.go_on(sent)
    for base in (secure, plain):
        _curl(server, sent, f"{base}/hello?name=world")
        _curl(server, sent, "--head", f"{base}/hello")
        _curl(server, sent, "--data", "quantity=3", f"{base}/orders")
        _curl(server, sent, "--request", "DELETE", f"{base}/orders/3")
        _curl(server, sent, f"{base}/missing")
        _curl(server, sent, f"{base}/broken")
        _curl(server, sent, f"{base}/report")
        _curl(server, sent, f"{base}/account?access_token={PLANTED_SECRET}query",
              "--header", f"Authorization: Bearer {PLANTED_SECRET}header")  # fmt: skip
        urls = [f"{base}/hello?from=urllib&number={number}" for number in range(4)]
        answered = subprocess.run(
            [sys.executable, "-c", _URLLIB, server.certificate, *urls, f"{base}/missing"],
            capture_output=True, text=True, timeout=_TIMEOUT_S, check=True,
        )  # fmt: skip
        sent.add("python", int(answered.stdout))
        _wget(server, sent, f"{base}/hello?from=wget")
    _curl(server, sent, "--location", f"{secure}/moved")  # two requests on one connection
    return sent
