"""A recording gives back what was written, to the last whole frame."""

import stat

import pytest

from otel_tap.capture import wire
from otel_tap.capture.recording import RecordedSource, RecordingWriter
from otel_tap.errors import CaptureError
from otel_tap.events import DataEvent, EventsLost, LossReason
from otel_tap.origin import Container, Host, Origin

HOST = Host("web-1", "0123", "abcd", "amd64", "linux", "6.1.0")
ORIGIN = Origin(
    7, 5, 6, 1, "curl", "/usr/bin/curl", "curl", None, "alice", Container("c" * 64, "docker", None),
    "unknown_service:curl", (("team", "a"),), HOST,
)  # fmt: skip
LOST = EventsLost(3, LossReason.RING_FULL, 2, 99)


def record(offset: int) -> bytes:
    return wire.DATA_RECORD.pack(wire.DATA, 7, 100, 90, 42, offset, -1, 8, 3, 3, 1, 0) + b"abc"


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.otr"
    writer = RecordingWriter(path, unix_offset_ns=1234, host=HOST)
    writer.record(memoryview(record(0)))
    writer.lost(LOST)
    writer.record(memoryview(record(3)))
    writer.origin(ORIGIN)
    writer.close()
    return path


def test_events_host_and_processes_come_back(recording):
    source = RecordedSource(recording)
    assert source.header.unix_offset_ns == 1234
    assert source.header.host == HOST
    assert source.origin(7) == ORIGIN
    assert source.origin(8) is None
    events = list(source.read())
    assert [type(event) for event in events] == [DataEvent, EventsLost, DataEvent]
    assert events[1] == LOST
    assert source.exhausted
    assert list(source.read()) == []


def test_what_lies_behind_the_captured_bytes_is_not_kept(tmp_path):
    path = tmp_path / "a.otr"
    writer = RecordingWriter(path, unix_offset_ns=0, host=HOST)
    writer.record(memoryview(record(0) + b"older-s3cret"))
    writer.close()
    assert b"s3cret" not in path.read_bytes()
    (event,) = RecordedSource(path).read()
    assert isinstance(event, DataEvent)
    assert event.payload == b"abc"


def test_only_its_owner_may_read_a_recording(recording):
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600


def test_a_recording_cut_anywhere_gives_its_whole_frames(recording):
    content = recording.read_bytes()
    seen = set()
    for cut in range(len(content), 0, -7):
        recording.write_bytes(content[:cut])
        try:
            seen.add(len(list(RecordedSource(recording).read())))
        except CaptureError as error:
            assert "recording" in error.message
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("content", [b"", b"not a recording at all", b"otel-tap recording 1\n"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(CaptureError):
        RecordedSource(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CaptureError, match=r"none\.otr cannot be read"):
        RecordedSource(tmp_path / "none.otr")


def test_a_frame_of_absurd_length_is_damage(recording):
    content = recording.read_bytes()
    recording.write_bytes(content + b"R\xff\xff\xff\xff")
    with pytest.raises(CaptureError, match="damaged"):
        RecordedSource(recording)
