"""Attachment to a busy connection of HTTP/2: what was told before it is unknown, never guessed.

The client's own account says of every field which request had to be seen to know it. So what each
span must tell, and must not, is known to the last field.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_tap.demo import server as demo
from otel_tap.demo.server import Nginx
from otel_tap.receiver import ReceivedSpan
from tests.e2e.conftest import LOADER, PATIENCE, PROGRAMS, Tap

SERVER, CLIENT = 2, 3
BEFORE = 150  # requests; the table is full of their fields
AFTER = 450  # so many go on
WINDOW = 50
MARK = "otel_tap.capture.headers_incomplete"

REQUEST_HEADERS = (
    "accept", "referer", "user-agent", "x-constant", "x-slow", "x-turn", "x-pair", "x-number",
    "x-chain",
)  # fmt: skip
RESPONSE_HEADERS = ("server", "content-type", "content-length", "x-echo", "x-way")
CONFIG = f"""\
telemetry:
  request_headers: [{", ".join(REQUEST_HEADERS)}]
  response_headers: [{", ".join(RESPONSE_HEADERS)}]
"""
_LOCATIONS = """\
        add_header x-echo $http_x_number always;
        add_header x-way "$request_method $request_uri" always;
        location /stored/ {{ root {folder}; dav_methods PUT; }}
        location /missing/ {{ return 404 "no such thing\\n"; }}
        location /broken/ {{ return 503 "try later\\n"; }}
"""

Row = dict[str, Any]


@pytest.fixture
def nginx2(world_readable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    """nginx that speaks HTTP/2 at both ports, and says what it was asked."""
    configuration = demo._CONFIGURATION.replace(" ssl;", " ssl http2;")
    configuration = configuration.replace("{plain_port};", "{plain_port} http2;")
    configuration = configuration.replace(
        "    keepalive_timeout", "    keepalive_requests 1000000;\n    keepalive_timeout"
    )
    configuration = configuration.replace("        location / ", _LOCATIONS + "        location / ")
    stored = world_readable / "stored"
    stored.mkdir()
    stored.chmod(0o777)
    monkeypatch.setattr(demo, "_CONFIGURATION", configuration)
    with Nginx(world_readable) as server:
        yield server


class Busy:
    """tests/e2e/programs/busy_http2_client.py in a process of its own."""

    def __init__(self, server: Nginx, folder: Path, *, tls: bool) -> None:
        self._log = folder / "busy.log"
        self.scheme = "https" if tls else "http"
        self.port = server.tls_port if tls else server.plain_port
        certificate = [server.certificate] if tls else []
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "busy_http2_client.py", str(self.port), self._log,
             *certificate],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def logged(self) -> list[Row]:
        """What was asked and answered so far."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def goes_on(self, count: int) -> None:
        """Until so many requests were answered in all."""
        deadline = time.monotonic() + 60 * PATIENCE
        while len(self.logged()) < count:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def upload(self, pieces: int) -> None:
        """From the next moment on, a hundred pieces a second."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{pieces}\n")
        self.process.stdin.flush()

    def stop(self) -> dict[int, Row]:
        """The whole account, by number."""
        errors = self.process.communicate(timeout=20 * PATIENCE)[1]
        assert self.process.returncode == 0, errors
        return {row["number"]: row for row in self.logged()}


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def busy(request: pytest.FixtureRequest, nginx2: Nginx, tmp_path: Path) -> Iterator[Busy]:
    if LOADER == "bcc" and not request.param:
        pytest.skip("loader bcc takes up HTTP/2 in mid-connection in TLS sessions only")
    client = Busy(nginx2, tmp_path, tls=request.param)
    yield client
    if client.process.poll() is None:
        client.process.kill()
        client.process.communicate()


def workers(server: Nginx) -> list[int]:
    """The processes of nginx that answer."""
    master = int((server.folder / "nginx.pid").read_text())
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def selecting(pids: list[int]) -> list[str]:
    """What leaves out whatever else runs on the host."""
    return [word for pid in pids for word in ("--pid", str(pid))]


def number_of(span: ReceivedSpan) -> int | None:
    """Which request it is of, where that was seen."""
    told = span.attributes.get("http.request.header.x-number")
    return None if told is None else int(told[0])  # type: ignore[index]


def expected(row: Row, first: int, busy: Busy, kind: int) -> dict[str, object]:
    """What a span must say of this request, if the first one that was seen is `first`."""
    known = [(name, text) for name, text, root in row["fields"] if root >= first]
    by_name = dict(reversed(known))
    said: dict[str, object] = {"http.response.status_code": row["status"]}
    for name in REQUEST_HEADERS:
        if name in by_name:
            said[f"http.request.header.{name}"] = [text for one, text in known if one == name]
    for name in RESPONSE_HEADERS:
        texts = [text for one, text in row["answer"] if one == name]
        if texts:
            said[f"http.response.header.{name}"] = texts
    if ":method" in by_name:
        said["http.request.method"] = by_name[":method"]
    if ":authority" in by_name:
        said["server.address"] = "localhost"
        said["server.port"] = busy.port
    if len(known) < len(row["fields"]):
        said[MARK] = True
    path = by_name.get(":path")
    if kind == CLIENT:
        if path is not None and ":authority" in by_name:
            said["url.full"] = f"{busy.scheme}://{by_name[':authority']}{path}"
        return said
    if path is not None:
        said["url.path"], _, said["url.query"] = path.partition("?")
    if "user-agent" in by_name:
        said["user_agent.original"] = by_name["user-agent"]
    return said


def check(spans: list[ReceivedSpan], rows: dict[int, Row], busy: Busy, kind: int) -> list[bool]:
    """Every span says what it must, and nothing else of what is looked at; which are complete."""
    numbered = {number: span for span in spans if (number := number_of(span)) is not None}
    first = min(numbered)
    # No request behind the first one is missing, and none is there twice.
    assert sorted(numbered) == list(range(first, max(rows) + 1))
    looked_at = ("http.", "url.full", "url.path", "url.query", "server.", "user_agent.", MARK)
    for number, span in numbered.items():
        told = {name: said for name, said in span.attributes.items() if name.startswith(looked_at)}
        assert told == expected(rows[number], first, busy, kind), number
    # Of those before, answers at most. That of a request names it.
    for span in spans:
        if number_of(span) is None:
            attributes = span.attributes
            assert "http.response.header.x-echo" in attributes, span
            echo = int(attributes["http.response.header.x-echo"][0])  # type: ignore[index]
            assert echo < first
            assert attributes["http.response.status_code"] == rows[echo]["status"]
            assert not {"url.full", "url.path", "http.request.method"} & set(attributes)
            assert not [name for name in attributes if name.startswith("http.request.header.")]
    return [MARK not in span.attributes for _, span in sorted(numbered.items())]


def test_a_busy_connection_is_told_truly_from_the_first_moment_and_wholly_in_the_end(
    busy, nginx2, tmp_path
):
    config = tmp_path / "tap.yaml"
    config.write_text(CONFIG)
    busy.goes_on(BEFORE)
    pids = [busy.process.pid, *workers(nginx2)]
    only = selecting(pids)
    with Tap("--config", str(config), *only) as tap:
        busy.goes_on(len(busy.logged()) + AFTER)
        rows = busy.stop()

        def last() -> int:
            numbers = [number_of(span) for span in tap.receiver.spans]
            return numbers.count(max(rows))

        tap.wait_for(last, 2)
        assert tap.stop() == 0
        spans = tap.receiver.spans
        own = {point.name: point.value for point in tap.receiver.points}
    assert {span.resource["process.pid"] for span in spans} == set(pids)

    marked = 0
    for kind in (CLIENT, SERVER):
        complete = check([one for one in spans if one.kind == kind], rows, busy, kind)
        assert len(complete) >= AFTER
        shares = [
            sum(complete[at : at + WINDOW]) / len(complete[at : at + WINDOW])
            for at in range(0, len(complete), WINDOW)
        ]
        print(kind, [f"{share:.0%}" for share in shares])
        assert not complete[0]
        assert shares[0] < 0.9
        assert all(complete[-100:])
        marked += complete.count(False)

    # Only requests refer to what moved before; nginx says all of an answer each time.
    assert own["otel_tap.http2.header_blocks.incomplete"] == marked
    requests = sum(number_of(span) is not None for span in spans)
    assert own["otel_tap.http2.header_blocks"] == len(spans) + requests
    if LOADER == "bcc":
        return  # it sees no TCP sequence numbers, which join the ends
    ends = {
        kind: {number_of(span): span for span in spans if span.kind == kind and number_of(span)}
        for kind in (CLIENT, SERVER)
    }
    for number in ends[CLIENT].keys() & ends[SERVER].keys():
        client, server = ends[CLIENT][number], ends[SERVER][number]
        assert (server.parent_span_id, server.trace_id) == (client.span_id, client.trace_id)


def test_a_stream_that_goes_on_for_long_hides_none_that_come_after_it(busy, nginx2, tmp_path):
    """Of its frames none shows what the connection speaks, nor that it speaks anything else."""
    config = tmp_path / "tap.yaml"
    config.write_text(CONFIG)
    busy.goes_on(20)
    busy.upload(800)
    only = selecting([busy.process.pid, *workers(nginx2)])
    with Tap("--config", str(config), *only) as tap:
        before = len(busy.logged())
        time.sleep(1)
        assert len(busy.logged()) == before  # it had begun, and goes on
        busy.goes_on(before + 100)
        rows = busy.stop()

        def last() -> int:
            return [number_of(span) for span in tap.receiver.spans].count(max(rows))

        tap.wait_for(last, 2)
        spans = tap.receiver.spans
    for kind in (CLIENT, SERVER):
        told = check([one for one in spans if one.kind == kind], rows, busy, kind)
        assert len(told) >= 99
