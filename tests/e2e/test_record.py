"""Recordings of real programs: whatever ends the recorder, what it wrote can be replayed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from otel_tap.capture.recorded import RecordedSource
from otel_tap.demo import server as demo
from otel_tap.demo.server import Nginx
from tests.e2e.conftest import LOADER, OTEL_TAP, PATIENCE, Tap, agent_environment
from tests.unit.test_telemetry_har import VALIDATOR

pytestmark = pytest.mark.ebpf

RATE = 1200  # requests a second: far below what the agent can follow


class Record:
    """`otel-tap record` while the block runs."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self._command = [*OTEL_TAP, "record", str(path), "--loader", LOADER, *arguments]
        self.stderr: list[str] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            env=agent_environment(),
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + 30 * PATIENCE
        while not any("ready" in line for line in self.stderr):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr.append(line)

    @property
    def said(self) -> str:
        return "".join(self.stderr)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(30 * PATIENCE)
        self._reader.join(5)
        return code

    def __exit__(self, *_: object) -> None:
        self.end()


def replay(path: Path, *arguments: str, drop_rights: bool = False) -> subprocess.CompletedProcess:
    command = [*OTEL_TAP, "replay", str(path), *arguments]
    if drop_rights:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=120 * PATIENCE)


def played(path: Path, *arguments: str) -> list[dict]:
    ended = replay(path, "--output", "json", *arguments)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture
def timed_nginx(world_readable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    """nginx whose log ends each line with the time."""
    configuration = demo._CONFIGURATION.replace("$status';", "$status:$msec';")
    configuration = configuration.replace(
        "keepalive_timeout", "keepalive_requests 1000000;\n    keepalive_timeout"
    )
    monkeypatch.setattr(demo, "_CONFIGURATION", configuration)
    with Nginx(world_readable) as server:
        yield server


def logged_times(server: Nginx) -> list[float]:
    lines = (server.folder / "access.log").read_text().splitlines()
    return [float(line.rsplit(":", 1)[1]) for line in lines if " /load " in line]


def test_a_killed_recorder_leaves_all_but_the_last_second(timed_nginx, tmp_path):
    path = tmp_path / "killed.otr"
    with Record(path) as recorder:
        load = subprocess.Popen(
            ["h2load", "--h1", "-c", "6", f"--rps={RATE // 6}", "-D", "6",
             f"https://127.0.0.1:{timed_nginx.tls_port}/load"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(4)
        assert load.poll() is None  # it is amid its load
        recorder.process.kill()
        killed = time.time()
        recorder.wait()
        load.communicate(timeout=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    ended = replay(path, "--output", "json", "--comm", "nginx", drop_rights=True)
    assert ended.returncode == 0, ended.stderr
    assert "ends early" in ended.stderr
    assert "(0 lost)" in ended.stderr
    seen = [json.loads(line) for line in ended.stdout.splitlines()]
    whole = [one for one in seen if one["status"] == 200 and one["error"] is None]
    times = logged_times(timed_nginx)
    due = sum(moment <= killed - 1 for moment in times)
    assert due > 2 * RATE / 2
    # nginx logs a request after its answer, so what it logged the tap has seen before.
    assert due <= len(whole) <= sum(moment <= killed + 0.1 for moment in times)


def test_two_replays_are_the_same_and_nothing_secret_leaves_them(nginx, tmp_path):
    path, har = tmp_path / "a.otr", tmp_path / "a.har"
    base = f"https://localhost:{nginx.tls_port}"
    with Record(path, "--bodies") as recorder:
        curl = ["curl", "-sS", "--cacert", nginx.certificate, "-o", "/dev/null"]
        for number in range(5):
            subprocess.run([*curl, f"{base}/n/{number}?token=planted-s3cret"], check=True)
        subprocess.run([*curl, f"{base}/report"], check=True)
        time.sleep(1)
        assert recorder.end() == 0
    assert "secrets included" in recorder.said
    outputs = []
    for number in range(2):
        lines = tmp_path / f"{number}.jsonl"
        ended = replay(path, "--bodies", "--output", f"otlp-json:{lines}", drop_rights=True)
        assert ended.returncode == 0, ended.stderr
        assert "ends early" not in ended.stderr
        outputs.append(lines.read_bytes())
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"/n/") > 10
    assert replay(path, "--bodies", "--output", "none", "--har", str(har)).returncode == 0
    text = har.read_text()
    VALIDATOR.validate(json.loads(text))
    assert "s3cret" not in text + outputs[0].decode()
    (report,) = [
        entry
        for entry in json.loads(text)["log"]["entries"]
        if entry["request"]["url"] == f"{base}/report" and entry["_otelTap"]["role"] == "client"
    ]
    assert len(report["response"]["content"]["text"]) == demo.REPORT_BYTES
    raw = b"".join(bytes(content) for _, content in RecordedSource(path).frames())
    assert b"planted-s3cret" in raw  # it is raw, and says so


def test_a_replay_says_the_same_as_the_agent_said(nginx, tmp_path):
    """Recording and tapping at once: the same ends, ids, parents and durations."""
    path = tmp_path / "a.otr"
    with Tap() as tap, Record(path) as recorder:
        for number in range(10):
            for base in (f"https://localhost:{nginx.tls_port}",
                         f"http://localhost:{nginx.plain_port}"):  # fmt: skip
                subprocess.run(
                    ["curl", "-sS", "--cacert", nginx.certificate, "-o", "/dev/null",
                     f"{base}/n/{number}"],
                    check=True,
                )  # fmt: skip
        tap.wait_for(lambda: len(spans(tap, nginx)), 40)
        live = spans(tap, nginx)
        recorder.end()
    lines = tmp_path / "a.jsonl"
    assert replay(path, "--output", f"otlp-json:{lines}").returncode == 0
    recorded = {
        (span["traceId"], span["spanId"], span.get("parentSpanId", ""), span["kind"])
        for line in lines.read_text().splitlines()
        for resource in json.loads(line).get("resourceSpans", ())
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
        if "/n/" in json.dumps(span["attributes"])
    }
    assert len(live) == 40
    assert recorded == {
        (span.trace_id, span.span_id, span.parent_span_id, span.kind) for span in live
    }


def spans(tap: Tap, server: Nginx) -> list:
    return tap.spans(server.tls_port) + tap.spans(server.plain_port)


def test_filters_on_processes_hold_for_the_recording(nginx, tmp_path):
    path = tmp_path / "a.otr"
    with Record(path, "--comm", "curl") as recorder:
        for number in range(5):
            subprocess.run(
                ["curl", "-sSk", "-o", "/dev/null", f"https://localhost:{nginx.tls_port}/n/{number}"],
                check=True,
            )  # fmt: skip
        time.sleep(0.5)
        recorder.end()
    names = {one["process"] for one in played(path)}
    assert names == {"curl"}
    assert len(played(path)) == 5


def test_it_ends_after_its_time_and_at_its_size(timed_nginx, tmp_path):
    timed, sized = tmp_path / "timed.otr", tmp_path / "sized.otr"
    with Record(timed, "--duration", "1s") as recorder:
        assert recorder.wait() == 0
    assert RecordedSource(timed).header.host.name

    url = f"http://127.0.0.1:{timed_nginx.plain_port}/load"
    load = subprocess.Popen(
        ["h2load", "--h1", "-c", "4", "--rps=1500", "-D", "20", url], stdout=subprocess.DEVNULL
    )
    try:
        with Record(sized, "--max-size", "64KiB") as recorder:
            assert recorder.wait() == 0
    finally:
        load.terminate()
        load.wait(20)
    assert "ended at --max-size" in recorder.said
    assert sized.stat().st_size <= 64 * 1024
    assert len(played(sized)) > 100
    assert "ends early" not in replay(sized, "--output", "none").stderr


def test_a_full_disk_is_a_clear_error_and_leaves_what_fits(nginx, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be made here: {mounted.stderr.strip()}")
    try:
        path = disk / "a.otr"
        with Record(path, "--bodies") as recorder:
            for number in range(20):
                subprocess.run(
                    ["curl", "-sS", "-o", "/dev/null", "--data-binary", "@-",
                     f"http://localhost:{nginx.plain_port}/n/{number}"],
                    input=os.urandom(30_000), check=True,
                )  # fmt: skip
                time.sleep(0.2)
                if recorder.process.poll() is not None:
                    break
            assert recorder.wait() == 1
        assert "ended early" in recorder.said
        assert "No space left" in recorder.said
        kept = [one for one in played(path) if one["process"] == "curl"]
        assert 1 <= len(kept) < 20
        assert all(one["request_bytes"] == 30_000 for one in kept[:-1])
    finally:
        subprocess.run(["umount", disk], check=True)


def test_run_keeps_a_har_file_that_is_whole_at_any_moment(nginx, tmp_path):
    har = tmp_path / "live.har"
    with Tap("--har", str(har)) as tap:
        for number in range(8):
            subprocess.run(
                ["curl", "-sSk", "-o", "/dev/null", "-H", "Authorization: Bearer planted-s3cret",
                 f"https://localhost:{nginx.tls_port}/n/{number}"],
                check=True,
            )  # fmt: skip
            VALIDATOR.validate(json.loads(har.read_text()))
        time.sleep(1.5)
        tap.process.kill()
        tap.process.wait(10)
    entries = [
        entry
        for entry in json.loads(har.read_text())["log"]["entries"]
        if f":{nginx.tls_port}/n/" in entry["request"]["url"]
    ]
    assert len(entries) == 16
    assert "s3cret" not in har.read_text()
    assert stat.S_IMODE(har.stat().st_mode) == 0o600
