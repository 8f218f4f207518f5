"""A recording gives back what it holds, to the last whole block; all else is one known error."""

import struct
import time
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.capture import wire
from otel_tap.capture.recorded import PacedSource, RecordedSource
from otel_tap.capture.recording import BLOCK, BLOCK_MARK, MAGIC, MAX_BLOCK
from otel_tap.errors import CaptureError
from otel_tap.events import DataEvent
from tests.unit.recordings import (
    END,
    block,
    data_record,
    frame,
    header,
    origin_of,
    write_file,
    writer_to,
)


def drained(source):
    events = []
    while not source.exhausted:
        events += source.read()
    return events


def offsets(events):
    return [event.offset for event in events]


def three_blocks(path):
    records = [frame(b"R", data_record(3 * number)) for number in range(3)]
    return write_file(
        path, block(header() + records[0]), block(records[1]), block(records[2] + END)
    )


def test_a_recording_cut_anywhere_gives_its_whole_blocks_and_is_not_whole(tmp_path):
    path = three_blocks(tmp_path / "a.otr")
    content = path.read_bytes()
    seen = []
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        try:
            source = RecordedSource(path)
        except CaptureError as error:
            assert "ends before its recording begins" in error.message
            continue
        seen.append(len(drained(source)))
        assert source.whole == (cut == len(content))
        assert source.records == seen[-1]
    assert seen == sorted(seen)
    assert set(seen) == {1, 2, 3}


def test_zeros_that_were_never_written_are_the_end(tmp_path):
    path = three_blocks(tmp_path / "a.otr")
    path.write_bytes(path.read_bytes() + bytes(5000))
    source = RecordedSource(path)
    assert len(drained(source)) == 3
    assert source.whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends before"),
        (b"otel-tap rec", "ends before"),
        (MAGIC, "ends before"),
        (b"not a recording at all", "no recording of otel-tap"),
        (b"\x7fELF" + bytes(100), "no recording of otel-tap"),
        (b"otel-tap recording 2\nH", "format '2'; this version reads format 3"),
        (MAGIC + block(frame(b"R", data_record(0))), "ends before"),
        (MAGIC + block(frame(b"H", b"{}")), "header cannot be read"),
        (MAGIC + block(header("little =other")), "another layout"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=said):
        RecordedSource(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CaptureError, match=r"none\.otr cannot be read: No such file"):
        RecordedSource(tmp_path / "none.otr")


BOMB = zstandard.ZstdCompressor().compress(bytes(MAX_BLOCK + 1))


@pytest.mark.parametrize(
    "damage",
    [
        block(frame(b"R", b"short")),
        block(frame(b"R", struct.pack("=IIQ", 99, 7, 1))),
        block(frame(b"?", b"")),
        block(frame(b"O", b"{}")),
        block(frame(b"L", b"\xff")),
        block(frame(b"C", b"short")),
        block(frame(b"E", b"")),
        block(frame(b"D", b"")),
        block(frame(b"R", data_record(0))[:-1]),
        block(b"R\x01"),
        block(b"R\xff\xff\xff\xff"),
        block(b"x", checksum=1),
        block(b"abc", length=4),
        b"XXXX" + bytes(100),
        BLOCK.pack(BLOCK_MARK, len(BOMB), len(BOMB), 0) + BOMB,
        BLOCK.pack(BLOCK_MARK, 10, MAX_BLOCK + 1, 0) + bytes(10),
        BLOCK.pack(BLOCK_MARK, 0xFFFFFFFF, 10, 0),
    ],
)
def test_damage_in_the_midst_is_said_after_what_lies_before_it(tmp_path, damage):
    path = write_file(
        tmp_path / "a.otr", block(header() + frame(b"R", data_record(0))), damage, block(END)
    )
    source = RecordedSource(path)
    with pytest.raises(CaptureError, match="is damaged"):
        drained(source)


def test_a_block_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    lying = BLOCK.pack(BLOCK_MARK, len(bomb), 100, zlib.crc32(bomb)) + bomb
    source = RecordedSource(write_file(tmp_path / "a.otr", block(header()), lying))
    with pytest.raises(CaptureError, match="wrong length"):
        source.read()


@given(at=st.integers(0, 2000), bits=st.integers(1, 255))
def test_a_changed_byte_is_an_error_or_an_early_end_never_other_events(tmp_path_factory, at, bits):
    path = three_blocks(tmp_path_factory.mktemp("damaged") / "a.otr")
    whole = offsets(drained(RecordedSource(path)))
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= bits
    path.write_bytes(content)
    try:
        source = RecordedSource(path)
        events = drained(source)
    except CaptureError:
        return
    assert offsets(events) == whole[: len(events)]


@given(content=st.binary(max_size=300))
def test_any_frames_give_events_or_the_one_error(tmp_path_factory, content):
    path = write_file(
        tmp_path_factory.mktemp("any") / "a.otr", block(header() + content), block(content)
    )
    try:
        drained(RecordedSource(path))
    except CaptureError as error:
        assert str(path) in error.message


def test_what_is_said_of_a_process_holds_from_there_on(tmp_path):
    path = tmp_path / "a.otr"
    writer = writer_to(path)
    first, second = origin_of(7, "curl", 5), origin_of(7, "wget", 9)
    writer.origin(first)
    writer.record(data_record(0), 3)
    writer.record(data_record(3), 3)
    writer.origin(second)  # the same pid again
    writer.clock(9999)
    writer.record(data_record(6), 3)
    writer.close()
    source = RecordedSource(path)
    assert offsets(source.read()) == [0, 3]
    assert source.origin(7) == first
    assert source.unix_offset_ns == 1234
    assert offsets(source.read()) == [6]
    assert source.origin(7) == second
    assert source.unix_offset_ns == 9999


def test_a_batch_is_bounded_by_its_payload(tmp_path):
    writer = writer_to(tmp_path / "a.otr", patient=True)
    for number in range(100):
        writer.record(data_record(number, bytes(100_000)), 100_000)
    writer.close()
    source = RecordedSource(tmp_path / "a.otr")
    sizes = []
    while not source.exhausted:
        data = [event for event in source.read() if isinstance(event, DataEvent)]
        sizes.append(sum(len(event.payload) for event in data))
    assert sum(sizes) == 10_000_000
    assert max(sizes) < 5_000_000


class Clock:
    def __init__(self, monkeypatch):
        self.now = 50.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("speed", [1, 2, 0.5])
def test_a_paced_replay_gives_events_when_their_time_has_come(tmp_path, monkeypatch, speed):
    path = tmp_path / "a.otr"
    second = 1_000_000_000
    times = [10 * second, 10 * second + 1, 11 * second, 14 * second]
    records = [frame(b"R", data_record(n, ktime_ns=t)) for n, t in enumerate(times)]
    write_file(path, block(header() + b"".join(records) + END))
    clock = Clock(monkeypatch)
    source = PacedSource(RecordedSource(path), speed)
    assert source.ktime_ns == 0
    arrived = {}
    while not source.exhausted:
        for event in source.read():
            assert isinstance(event, DataEvent)
            arrived[event.offset] = clock.now - 50
    for number, ktime_ns in enumerate(times):
        due = (ktime_ns - times[0]) / second / speed
        assert due - 0.001 <= arrived[number] <= due + 0.11
    # Nobody waits longer than a turn of the agent may take.
    assert max(clock.slept) <= 0.1
    assert source.ktime_ns >= times[-1]
    source.close()


def test_layouts_name_every_record_that_a_recording_holds():
    for layout in (
        wire.DATA_RECORD,
        wire.OPENED_RECORD,
        wire.CLOSED_RECORD,
        wire.PROCESS_STARTED_RECORD,
    ):
        assert layout.format in wire.LAYOUT
