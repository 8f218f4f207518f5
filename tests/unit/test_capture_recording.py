"""A recording is written without waiting for the disk, by its owner alone, up to its bound."""

import errno
import os
import stat
import threading
import time

import pytest

from otel_tap.capture import recording
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recording import MAGIC, RecordingWriter
from otel_tap.errors import CaptureError
from otel_tap.events import DataEvent, Event, EventsLost, LossReason
from tests.unit.recordings import data_record, origin_of, writer_to

LOST = EventsLost(3, LossReason.RING_FULL, 2, 99)


def all_events(path):
    source = RecordedSource(path)
    events: list[Event] = []
    while not source.exhausted:
        events += source.read()
    return events, source


class Disk:
    """os.write of the recording's thread: can be held up, or full."""

    def __init__(self, monkeypatch):
        self.free = threading.Event()
        self.free.set()
        self.room = None
        self.write = os.write
        monkeypatch.setattr("otel_tap.capture.recording.os.write", self)

    def __call__(self, fd, content):
        if threading.current_thread().name != "otel-tap-recording":
            return self.write(fd, content)
        assert self.free.wait(20)
        if self.room is not None:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            content = content[: self.room]
            self.room -= len(content)
        return self.write(fd, content)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_events_host_and_processes_come_back(tmp_path):
    writer = writer_to(tmp_path / "a.otr")
    writer.origin(origin_of(7))
    writer.record(data_record(0), 3)
    writer.lost(LOST)
    writer.record(data_record(3), 3)
    writer.note({"sent": "2"})
    writer.close(777)
    events, source = all_events(tmp_path / "a.otr")
    assert [type(event) for event in events] == [DataEvent, EventsLost, DataEvent]
    assert events[1] == LOST
    assert source.header.unix_offset_ns == 1234
    assert source.origin(7) == origin_of(7)
    assert source.origin(8) is None
    assert source.notes() == {"sent": "2"}
    assert source.whole
    assert source.ktime_ns == 777


def test_only_its_owner_may_read_a_recording(tmp_path):
    before = os.umask(0)
    try:
        writer_to(tmp_path / "a.otr").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.otr").stat().st_mode) == 0o600


def test_a_file_that_is_there_is_kept_unless_it_shall_be_replaced(tmp_path):
    path = tmp_path / "a.otr"
    path.write_text("mine")
    path.chmod(0o644)
    with path.open() as held:
        with pytest.raises(CaptureError, match="there already"):
            writer_to(path)
        assert path.read_text() == "mine"
        writer_to(path, replace=True).close()
        # Who had the old file open does not see the new one.
        assert held.read() == "mine"
    assert path.read_bytes().startswith(MAGIC)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_links_are_not_followed(tmp_path, replace, there):
    target = tmp_path / "target"
    if there:
        target.write_text("mine")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(CaptureError):
        writer_to(tmp_path / "link", replace=replace)
    assert target.exists() == there
    assert not there or target.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CaptureError, match=r"cannot write .*no such folder"):
        writer_to(tmp_path / "no such folder" / "a.otr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CaptureError, match="regular file"):
        writer_to(tmp_path / "folder", replace=True)


def test_nothing_waits_longer_than_a_turn_for_the_disk(tmp_path):
    path = tmp_path / "a.otr"
    writer = writer_to(path)
    writer.record(data_record(0), 3)
    deadline = time.monotonic() + 20
    seen = 0
    while not seen and time.monotonic() < deadline:
        writer.turn()
        time.sleep(0.02)
        if path.stat().st_size > len(MAGIC):
            events, source = all_events(path)  # as after a kill: nothing was closed
            seen = len(events)
            assert not source.whole
    assert seen == 1
    writer.close()


def test_what_a_slow_disk_cannot_take_is_counted_and_said_where_it_is_missing(
    tmp_path, disk, monkeypatch
):
    monkeypatch.setattr(recording, "_MAX_QUEUED", 2000)
    monkeypatch.setattr(recording, "_BLOCK_BYTES", 500)
    path = tmp_path / "a.otr"
    disk.free.clear()
    writer = writer_to(path)
    offset = 0
    for number in range(200):
        if number == 100:
            writer.origin(origin_of(9))  # must not be lost with the records around it
        writer.record(data_record(offset), 3)
        offset += 3
    unrecorded = writer.unrecorded
    disk.free.set()
    deadline = time.monotonic() + 20
    while writer._queued and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.record(data_record(offset), 3)
    writer.close()
    events, source = all_events(path)
    data = [event for event in events if type(event) is DataEvent]
    (lost,) = [event for event in events if type(event) is EventsLost]
    assert 100 < unrecorded == writer.unrecorded
    assert len(data) == 201 - unrecorded
    assert lost[1:] == (LossReason.UNRECORDED, unrecorded, 3 * unrecorded)
    # It stands where they are missing.
    before = events[events.index(lost) - 1]
    after = events[events.index(lost) + 1]
    assert isinstance(before, DataEvent)
    assert isinstance(after, DataEvent)
    assert after.offset - before.offset == 3 * (unrecorded + 1)
    assert source.origin(9) == origin_of(9)


def test_who_is_patient_waits_instead(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(recording, "_MAX_QUEUED", 2000)
    monkeypatch.setattr(recording, "_BLOCK_BYTES", 500)
    disk.free.clear()
    threading.Timer(0.2, disk.free.set).start()
    writer = writer_to(tmp_path / "a.otr", patient=True)
    for number in range(200):
        writer.record(data_record(3 * number), 3)
    writer.close()
    assert writer.unrecorded == 0
    assert len(all_events(tmp_path / "a.otr")[0]) == 200


def random_records(count):
    return [data_record(3 * number, os.urandom(1000)) for number in range(count)]


def test_a_full_disk_ends_the_recording_and_leaves_it_whole(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(recording, "_BLOCK_BYTES", 5000)
    path = tmp_path / "a.otr"
    disk.room = 20_000
    writer = writer_to(path, patient=True)
    for record in random_records(100):
        writer.record(record, 1000)
    writer.close()
    assert writer.failure == "No space left on device"
    assert writer.ended
    events, source = all_events(path)
    assert 5 < len(events) == 100 - writer.unrecorded
    assert not source.whole
    assert path.stat().st_size == writer.written_bytes <= 20_000


def test_a_file_never_grows_beyond_its_bound_and_has_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_BLOCK_BYTES", 5000)
    path = tmp_path / "a.otr"
    writer = writer_to(path, max_bytes=65_536, patient=True)
    for record in random_records(100):
        writer.record(record, 1000)
    writer.close(123)
    assert writer.full
    assert path.stat().st_size <= 65_536
    events, source = all_events(path)
    assert 40 < len(events) == 100 - writer.unrecorded
    assert source.whole


def test_a_recording_that_never_began_is_taken_away(tmp_path):
    writer_to(tmp_path / "a.otr").discard()
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_although_the_disk_does_not_answer(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(recording, "_CLOSE_S", 0.2)
    disk.free.clear()
    writer: RecordingWriter = writer_to(tmp_path / "a.otr")
    writer.record(data_record(0), 3)
    writer.close()
    assert "does not answer" in writer.failure
    disk.free.set()
    writer._thread.join(20)
