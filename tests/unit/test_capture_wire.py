"""Both sides of the wire agree, and nothing but their own records is believed."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.capture import wire
from otel_tap.errors import CaptureError
from otel_tap.events import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    LossReason,
    PeerEvidence,
    ProcessExited,
    ProcessStarted,
    TlsLibrary,
)

HEADER = Path(__file__).parents[2] / "bpf" / "otel_tap.h"

RECORDS = {
    "ot_header": (wire.HEADER, ["type", "tgid", "ktime_ns"]),
    "ot_data": (
        wire.DATA_RECORD,
        ["header.type", "header.tgid", "header.ktime_ns", "begin_ktime_ns", "connection_id",
         "offset", "tcp_position", "tid", "length", "captured", "direction", "reason"],
    ),
    "ot_opened": (
        wire.OPENED_RECORD,
        ["header.type", "header.tgid", "header.ktime_ns", "connection_id", "socket_id",
         "local_address", "peer_address", "local_port", "peer_port", "iss", "irs", "fd", "tls",
         "evidence", "from_start", "has_addresses", "reserved", "begins", "begins[1]"],
    ),
    "ot_closed": (
        wire.CLOSED_RECORD,
        ["header.type", "header.tgid", "header.ktime_ns", "connection_id", "socket_id", "reason",
         "reserved", "missing.lost", "missing.shed", "missing.filtered", "missing.skipped"],
    ),
    "ot_process_started": (
        wire.PROCESS_STARTED_RECORD,
        ["header.type", "header.tgid", "header.ktime_ns", "start_boottime_ns", "ppid", "uid",
         "mount_namespace", "reserved",
         "comm", "filename"],
    ),
    "ot_account": (wire.ACCOUNT, ["events", "bytes"]),
    "ot_control": (
        wire.CONTROL,
        ["waiting", "wake_bytes", "shed", "filtering", "wishing", "reserved"],
    ),
    "ot_wish": (wire.WISH, ["skip_begin", "skip_begin[1]", "skip_end", "skip_end[1]",
                            "told_ktime_ns", "mute", "reserved"]),
}  # fmt: skip


def python_offsets(layout: struct.Struct) -> list[int]:
    """Where each field of a layout begins, from the layout itself."""
    offsets, position = [], 0
    for field in re.findall(r"\d+s|[A-Za-z]", layout.format.lstrip("=")):
        offsets.append(position)
        position += struct.calcsize("=" + field)
    return offsets


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler to ask for the layout")
def test_every_record_has_the_same_layout_in_c_and_in_python(tmp_path):
    lines = ["#include <stddef.h>", "#include <stdio.h>", f'#include "{HEADER}"', "int main(){"]
    for name, (_, fields) in RECORDS.items():
        lines.append(f'printf("{name} %zu", sizeof(struct {name}));')
        lines += [f'printf(" %zu", offsetof(struct {name}, {field}));' for field in fields]
        lines.append('printf("\\n");')
    source = tmp_path / "layout.c"
    source.write_text("\n".join([*lines, "return 0;}"]))
    subprocess.run(["gcc", "-o", tmp_path / "layout", source], check=True)
    printed = subprocess.run([tmp_path / "layout"], capture_output=True, text=True, check=True)
    in_c = {
        line.split()[0]: list(map(int, line.split()[1:])) for line in printed.stdout.splitlines()
    }
    assert in_c == {
        name: [layout.size, *python_offsets(layout)] for name, (layout, _) in RECORDS.items()
    }


def enumeration(name: str) -> dict[str, int]:
    text = HEADER.read_text()
    body = re.search(rf"enum {name} {{(.*?)}}", text, re.DOTALL)
    assert body is not None
    return {key: int(value) for key, value in re.findall(r"(OT_\w+) = (\d+)", body.group(1))}


def test_the_numbers_of_both_sides_mean_the_same():
    assert enumeration("ot_event_type") == {
        "OT_DATA": wire.DATA,
        "OT_OPENED": wire.OPENED,
        "OT_CLOSED": wire.CLOSED,
        "OT_PROCESS_STARTED": wire.PROCESS_STARTED,
        "OT_PROCESS_EXITED": wire.PROCESS_EXITED,
    }
    assert enumeration("ot_direction") == {
        "OT_INGRESS": Direction.INGRESS,
        "OT_EGRESS": Direction.EGRESS,
    }
    accounts = enumeration("ot_account_of")
    assert accounts.pop("OT_CAPTURED") == 0
    assert accounts.pop("OT_ACCOUNTS") == len(wire.LOSS_REASONS) + 1
    names = [re.sub("OT_(LOST_)?", "", name).lower() for name in accounts]
    assert list(map(LossReason, names)) == list(wire.LOSS_REASONS)


def data_record(payload: bytes, captured: int | None = None) -> bytes:
    size = len(payload) if captured is None else captured
    return wire.DATA_RECORD.pack(wire.DATA, 7, 100, 90, 42, 10, -1, 8, 99, size, 1, 0) + payload


def test_a_data_record_becomes_an_event_with_its_payload():
    assert wire.decode(
        memoryview(
            data_record(b"GET /") + b"slack",
        )[: wire.DATA_RECORD.size + 5]
    ) == DataEvent(100, 90, 42, 7, 8, Direction.EGRESS, 10, 99, b"GET /", -1)


def test_slack_behind_the_captured_bytes_is_not_payload():
    event = wire.decode(memoryview(data_record(b"GET /secret", captured=5)))
    assert isinstance(event, DataEvent)
    assert event.payload == b"GET /"


def test_a_record_amid_others_is_read_from_there_on():
    before, record = data_record(b"before"), data_record(b"GET /")
    event = wire.decode_at(before + record + data_record(b"after"), len(before), len(record))
    assert event == wire.decode(record)


@pytest.mark.parametrize(("captured", "size"), [(6, 5), (100, 200)])
def test_a_record_that_says_more_than_it_holds_or_moved_is_refused(captured, size):
    record = data_record(bytes(size), captured=captured)  # of a call that moved 99 bytes
    with pytest.raises(CaptureError, match="bytes in a record"):
        wire.decode_at(record + bytes(200), 0, len(record))


def test_mapped_ipv4_addresses_are_given_as_ipv4():
    mapped = bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
    record = wire.OPENED_RECORD.pack(
        wire.OPENED, 7, 100, 42, 42, mapped, bytes(15) + b"\1", 80, 5000, 1, 2, 3, 1, 2, 1, 1, 0,
        5, 1,
    )  # fmt: skip
    event = wire.decode(memoryview(record))
    assert event == ConnectionOpened(
        100, 42, 42, 7, 3, TlsLibrary.OPENSSL, PeerEvidence.NESTED_CALL,
        Address("127.0.0.1", 80), Address("::1", 5000), 1, 2, True, (5, 1),
    )  # fmt: skip


def test_a_connection_without_addresses_has_an_unknown_peer():
    record = wire.OPENED_RECORD.pack(
        wire.OPENED, 7, 100, 42, 0, bytes(16), bytes(16), 0, 0, 0, 0, -1, 1, 0, 0, 0, 0,
        wire.UNKNOWN_BEGIN, wire.UNKNOWN_BEGIN,
    )  # fmt: skip
    event = wire.decode(memoryview(record))
    assert isinstance(event, ConnectionOpened)
    assert (event.local, event.peer, event.fd) == (None, None, -1)
    assert event.begins is None


def test_a_connection_of_an_earlier_recording_began_who_knows_where():
    record = wire.OPENED_RECORD.pack(
        wire.OPENED, 7, 100, 42, 0, bytes(16), bytes(16), 0, 0, 0, 0, -1, 1, 0, 1, 0, 0, 3, 4
    )
    event = wire.decode(memoryview(record))
    assert isinstance(event, ConnectionOpened)
    assert event.begins == (3, 4)
    assert wire.decode(memoryview(record[:-16])) == event._replace(begins=None)
    with pytest.raises(CaptureError):
        wire.decode(memoryview(record[:-17]))


def test_process_and_close_records_are_decoded():
    closed = wire.CLOSED_RECORD.pack(wire.CLOSED, 7, 1, 0, 42, 4, 0, 10, 20, 30, 40)
    assert wire.decode(memoryview(closed)) == ConnectionClosed(
        1, 0, 42, 7, CloseReason.RESET, 10, 20, 30, 40
    )
    started = wire.PROCESS_STARTED_RECORD.pack(
        wire.PROCESS_STARTED, 7, 1, 5, 3, 1000, 42, 0, b"cu\xffl\0junk", b"/usr/bin/curl\0"
    )
    assert wire.decode(memoryview(started)) == ProcessStarted(
        1, 7, 3, 1000, 5, "cu\ufffdl", "/usr/bin/curl", 42
    )
    assert wire.decode(memoryview(wire.HEADER.pack(5, 7, 1))) == ProcessExited(1, 7)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_capture_error(record):
    try:
        wire.decode(memoryview(record))
    except CaptureError as error:
        assert "make setup" in error.remedy
