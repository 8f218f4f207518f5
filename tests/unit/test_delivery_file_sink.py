"""Telemetry in a file."""

import json
import os
import stat
from pathlib import Path

import pytest

from otel_tap.delivery import OtlpJsonFile
from otel_tap.errors import ExportError
from otel_tap.telemetry.chunk import Chunk, Signal
from tests.unit.otlp_requests import log_chunk, trace_chunk, wait_until

TRACES, LOGS = Signal.TRACES, Signal.LOGS


def silent(line: str) -> None:
    raise AssertionError(f"nothing is to be said, but: {line}")


def test_each_chunk_is_a_line_and_every_record_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    sink = OtlpJsonFile(str(path), report=silent)
    for seed in range(5):
        assert sink.offer(trace_chunk(3, seed))
        assert sink.offer(log_chunk(2, seed))
    sink.close(30)
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum("resourceSpans" in document for document in documents) == 5
    assert sum("resourceLogs" in document for document in documents) == 5
    assert (sink.sent_spans, sink.counters[LOGS].sent, sink.dropped_records) == (15, 10, 0)


def test_a_new_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    before = os.umask(0)
    try:
        OtlpJsonFile(str(path)).close(30)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_in_the_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    path.write_text("before\n")
    sink = OtlpJsonFile(str(path))
    sink.offer(trace_chunk(1))
    sink.close(30)
    first, second = path.read_text().splitlines()
    assert first == "before"
    assert "resourceSpans" in json.loads(second)


def test_a_dash_is_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    sink = OtlpJsonFile("-")
    sink.offer(trace_chunk(1))
    sink.close(30)
    out, err = capfd.readouterr()
    assert "resourceSpans" in json.loads(out)
    assert err == ""
    print("stdout is still open")
    assert capfd.readouterr().out == "stdout is still open\n"


@pytest.mark.parametrize("name", ["absent/telemetry.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError) as caught:
        OtlpJsonFile(str(tmp_path / name))
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy


def test_a_full_disk_is_counted_and_said_once() -> None:
    lines: list[str] = []
    sink = OtlpJsonFile("/dev/full", report=lines.append)
    for _ in range(5):
        sink.offer(trace_chunk(2))
    sink.close(30)
    assert sink.counters[TRACES].dropped == 10
    assert sink.counters[TRACES].sent == 0
    assert len(lines) == 1
    assert "/dev/full" in lines[0]
    assert "No space left on device" in lines[0]


def test_a_payload_that_is_none_costs_its_own_records_only(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    lines: list[str] = []
    sink = OtlpJsonFile(str(path), report=lines.append)
    sink.offer(Chunk(TRACES, b"\xff\xff", 4))
    sink.offer(trace_chunk(3))
    sink.close(30)
    assert (sink.counters[TRACES].dropped, sink.counters[TRACES].sent) == (4, 3)
    assert len(path.read_text().splitlines()) == 1
    assert len(lines) == 1


def test_after_half_a_line_the_next_begins_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "telemetry.jsonl"
    real = os.write
    calls = 0

    def failing(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return real(fd, bytes(data)[:10])
        if calls == 2:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    sink = OtlpJsonFile(str(path), report=lambda line: None)
    with monkeypatch.context() as patched:
        patched.setattr("otel_tap.delivery.file_sink.os.write", failing)
        sink.offer(trace_chunk(1))
        sink.offer(trace_chunk(2))
        wait_until(lambda: sink.counters[TRACES].queued_bytes == 0)
    sink.close(30)
    torn, whole = path.read_bytes().splitlines()
    assert len(torn) == 10
    assert "resourceSpans" in json.loads(whole)
    assert (sink.counters[TRACES].dropped, sink.counters[TRACES].sent) == (1, 2)
