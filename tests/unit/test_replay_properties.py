"""Whatever stands in a recording, a replay gives exchanges or the one error, at every output."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.agent import Agent
from otel_tap.capture import wire
from otel_tap.cli.exchange_view import ExchangeView
from otel_tap.errors import CaptureError
from otel_tap.settings import Settings
from otel_tap.settings.model import BodySettings
from tests.unit.recordings import block, frame, header, write_file
from tests.unit.test_telemetry_har import VALIDATOR

U64 = (1 << 64) - 1
few = st.integers(0, 3)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.one_of(few, st.integers(0, U64))
near = st.one_of(st.integers(10**9, 10**9 + 10**8), u64)
pieces = st.lists(
    st.sampled_from(
        [
            b"GET /x?token=s HTTP/1.1\r\n", b"POST http://u:p@h/ HTTP/1.0\r\n", b"Host: \xff\r\n",
            b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 304 \r\n", b"Content-Length: 5\r\n", b"\r\n",
            b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello",
            b"Content-Encoding: gzip\r\n", b"Set-Cookie: a=b; Expires=x\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0",
            b"\0\0\x01\x01\x05\0\0\0\x01\x82",
        ]
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


@st.composite
def data_records(draw):
    payload = draw(pieces)
    length = len(payload) + draw(st.one_of(st.just(0), few, st.integers(0, 10**6)))
    return (
        wire.DATA_RECORD.pack(
            wire.DATA, draw(few), draw(near), draw(near), draw(few), draw(u64),
            draw(st.integers(-1, 10**6)), draw(few), length, len(payload),
            draw(st.integers(0, 1)), draw(few),
        )
        + payload
    )  # fmt: skip


opened_records = st.builds(
    wire.OPENED_RECORD.pack,
    st.just(wire.OPENED), few, near, few, few, st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16), u16, u16, u32, u32, st.integers(-1, 9),
    st.integers(0, 1), st.integers(0, 3), st.integers(0, 1), st.integers(0, 1), st.just(0),
    u64, u64,
)  # fmt: skip
closed_records = st.builds(
    wire.CLOSED_RECORD.pack,
    st.just(wire.CLOSED), few, near, few, few, st.integers(1, 5), st.just(0), u64, u64, u64, u64,
)  # fmt: skip
started_records = st.builds(
    wire.PROCESS_STARTED_RECORD.pack,
    st.just(wire.PROCESS_STARTED), few, near, u64, u32, u32, u32, st.just(0),
    st.binary(max_size=16), st.binary(max_size=128),
)  # fmt: skip
exited_records = st.builds(wire.HEADER.pack, st.just(wire.PROCESS_EXITED), few, near)
numbers = st.one_of(few, st.integers(-(10**30), 10**30))
origins = st.builds(
    lambda pid, start, unix, name: json.dumps(
        {
            "pid": pid, "start_boottime_ns": start, "start_unix_ns": unix, "parent_pid": 1,
            "executable_name": name, "executable_path": name, "command": None,
            "command_line": None, "user": name, "container": None, "service_name": name,
            "service_attributes": [[name, name]],
            "host": {"name": name, "id": None, "boot_id": name, "arch": "amd64",
                     "os_type": "linux", "os_version": ""},
        }
    ).encode(),
    few, numbers, numbers, st.text(max_size=5),
)  # fmt: skip


@st.composite
def conversations(draw):
    """A request and its response, whole, at any times, with any bytes among them."""
    tgid, connection, client = draw(few), draw(few), draw(st.booleans())
    request = b"%s %s HTTP/1.1\r\nHost: %s\r\nCookie: a=b\r\nContent-Length: 3\r\n\r\nq=1" % (
        draw(st.sampled_from([b"POST", b"M\xff"])),
        draw(
            st.sampled_from([b"/x?token=s&%ff", b"*", b"http://u:p@h:99999/", b"/\xff\x00\x1b[m"])
        ),
        draw(st.sampled_from([b"h", b"[::1]:80", b"\xff", b"", b"u@h"])),
    )
    response = b"HTTP/1.1 200 \xff\r\nContent-Length: 4\r\nContent-Encoding: %s\r\n\r\n\xff\0zz" % (
        draw(st.sampled_from([b"gzip", b"identity", b"br", b"x"]))
    )
    return b"".join(
        frame(
            b"R",
            wire.DATA_RECORD.pack(
                wire.DATA, tgid, draw(near), draw(near), connection, 0, -1, 1, len(payload),
                len(payload), direction, 0,
            )
            + payload,
        )
        for direction, payload in ((int(client), request), (int(not client), response))
    )  # fmt: skip


frames = st.one_of(
    conversations(),
    st.one_of(data_records(), opened_records, closed_records, started_records, exited_records).map(
        lambda record: frame(b"R", record)
    ),
    origins.map(lambda origin: frame(b"O", origin)),
    st.integers(-(1 << 63), (1 << 63) - 1).map(
        lambda offset: frame(b"C", offset.to_bytes(8, "little", signed=True))
    ),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frames, max_size=25))
def test_any_records_are_replayed_to_every_output(tmp_path_factory, rows):
    folder: Path = tmp_path_factory.mktemp("replay")
    path = write_file(folder / "a.otr", block(header() + b"".join(rows)))
    har, otlp = folder / "a.har", folder / "a.jsonl"
    lines: list[str] = []
    agent = Agent(
        Settings(output=f"otlp-json:{otlp}", har=str(har), bodies=BodySettings(enabled=True)),
        on_exchange=lambda exchange, origin: lines.append(
            ExchangeView(exchange, origin, agent.unix_offset_ns).line()
            + ExchangeView(exchange, origin, agent.unix_offset_ns).json_line()
        ),
        report=lambda _: None,
        environ={},
        replay=path,
    )
    agent.start()
    try:
        while not agent.finished:
            agent.run_once()
    except CaptureError as error:
        assert str(path) in error.message
    finally:
        agent.stop()
    status = agent.status()
    assert status.dropped == 0
    assert status.sent == status.exchanges == len(lines)
    document = json.loads(har.read_text())
    VALIDATOR.validate(document)
    assert len(document["log"]["entries"]) == len(lines)
