"""What goes into a recording: processes before their events, and nothing of unwanted ones."""

from otel_tap.capture import wire
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recorder import Recorder
from otel_tap.events import ConnectionOpened, DataEvent, EventsLost, LossReason
from tests.unit.recordings import data_record, opened_record, origin_of, writer_to


def taken(recorder, *records):
    events = [wire.decode(record) for record in records]
    for event, record in zip(events, records, strict=True):
        recorder.take(event, record)
    return events


def kinds(path):
    return [kind for kind, _ in RecordedSource(path).frames()]


def test_a_process_stands_before_its_first_event_and_again_when_more_is_known(tmp_path):
    recorder = Recorder(writer_to(tmp_path / "a.otr"))
    known = {7: origin_of(7)}
    for offset in (0, 3):
        events = taken(recorder, opened_record(), data_record(offset))
        recorder.commit(events, (), known.__getitem__)
    known[7] = origin_of(7, "wget")
    recorder.known(known[7])
    lost = EventsLost(3, LossReason.RING_FULL, 2, 99)
    recorder.commit([lost], (), known.__getitem__)
    recorder.writer.close()
    assert b"".join(kinds(tmp_path / "a.otr")) == b"HO" + b"RR" + b"RR" + b"O" + b"L" + b"E"


def test_nothing_is_recorded_of_processes_that_the_filters_leave_out(tmp_path):
    recorder = Recorder(writer_to(tmp_path / "a.otr"))
    exited = wire.HEADER.pack(wire.PROCESS_EXITED, 8, 100)
    events = taken(
        recorder, opened_record(8), data_record(0, b"hidden", tgid=8), exited, opened_record(7),
        data_record(0, b"shown", tgid=7),
    )  # fmt: skip
    recorder.commit(events, {8}, origin_of)
    recorder.writer.close()
    source = RecordedSource(tmp_path / "a.otr")
    kept = list(source.read())
    assert [type(event) for event in kept] == [ConnectionOpened, DataEvent]
    assert {getattr(event, "tgid", 0) for event in kept} == {7}
    assert source.origin(8) is None
    content = b"".join(bytes(content) for _, content in source.frames())
    assert b"shown" in content
    assert b"hidden" not in content


def test_processes_that_were_written_are_remembered_within_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("otel_tap.capture.recorder._MAX_ORIGINS", 3)
    recorder = Recorder(writer_to(tmp_path / "a.otr"))
    origins = {pid: origin_of(pid) for pid in range(1, 6)}
    for _ in range(2):
        for origin in origins.values():
            recorder.known(origin)
    recorder.known(origins[5])
    assert len(recorder._written) == 3
    recorder.writer.close()
    assert kinds(tmp_path / "a.otr").count(b"O") == 10
