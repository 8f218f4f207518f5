"""What a child's calls moved is compared with what probes delivered; its events reach nobody."""

import os
import sys
from dataclasses import replace

import pytest

from otel_tap.capture.self_check import CannotCheck, SelfChecks, difference, loadable, unbound
from otel_tap.events import (
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    PeerEvidence,
    ProcessExited,
    ProcessStarted,
    TlsLibrary,
)

MOVED = [
    [("egress", b"GET / HTTP/1.1\r\n\r\n"), ("ingress", b"HTTP/1.1 200 OK\r\n\r\n")],
    [("ingress", b"GET / HTTP/1.1\r\n\r\n"), ("egress", b"HTTP/1.1 200 OK\r\n\r\n")],
]
CLIENT, SERVER, TGID = 11, 12, 4711


def opened(connection, evidence=PeerEvidence.CIPHERTEXT):
    return ConnectionOpened(
        0, connection, connection + 100, TGID, -1, TlsLibrary.OPENSSL, evidence, None, None, 0, 0,
        from_start=True,
    )  # fmt: skip


def data(connection, direction, payload, offset=0):
    return DataEvent(0, 0, connection, TGID, TGID, direction, offset, len(payload), payload, -1)


def closed(connection, reason):
    return ConnectionClosed(0, connection, connection + 100, TGID, reason)


def truth():
    request, response = MOVED[0][0][1], MOVED[0][1][1]
    return [
        opened(SERVER),
        opened(CLIENT),
        data(CLIENT, Direction.EGRESS, request),
        data(SERVER, Direction.INGRESS, request),
        data(SERVER, Direction.EGRESS, response),
        data(CLIENT, Direction.INGRESS, response),
        closed(SERVER, CloseReason.INGRESS_END),
        closed(CLIENT, CloseReason.CLOSED),
        closed(SERVER, CloseReason.CLOSED),
    ]


def test_the_truth_does_not_differ():
    assert difference(MOVED, truth()) == ""
    assert not unbound(truth())


@pytest.mark.parametrize("missing", range(9))
def test_every_event_is_needed(missing):
    events = truth()
    del events[missing]
    assert difference(MOVED, events)


@pytest.mark.parametrize("doubled", range(2, 6))
def test_bytes_that_are_counted_twice_are_noticed(doubled):
    events = truth()
    events.insert(doubled, events[doubled])
    assert difference(MOVED, events)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 5}, "18 bytes of egress at 0 were seen as 5 bytes of egress at 0"),
        ({"offset": 7}, "18 bytes of egress at 0 were seen as 18 bytes of egress at 7"),
        ({"payload": b"x" * 18}, "18 bytes of egress at 0 were seen with another content"),
    ],
)
def test_a_difference_names_the_call_and_never_its_content(change, said):
    events = truth()
    event = events[2]
    assert isinstance(event, DataEvent)
    events[2] = replace(event, **change)
    assert difference(MOVED, events) == said


def test_a_session_without_its_ciphertext_is_unbound():
    events = [opened(CLIENT, PeerEvidence.NONE), *truth()[2:]]
    assert unbound(events)
    assert not unbound([*events, opened(CLIENT)]), "the evidence may come later"


def test_events_of_a_child_and_of_its_sockets_are_taken_out():
    checks = SelfChecks()
    session = checks.start("/nonexistent/libssl.so.3")
    session.begin()
    tgid = session.process.pid
    mine = [
        replace(event, tgid=tgid) if type(event) is DataEvent else event._replace(tgid=tgid)
        for event in truth()
    ]
    of_its_socket = ConnectionClosed(0, 0, CLIENT + 100, 0, CloseReason.CLOSED)
    others = [
        ProcessStarted(0, tgid + 1, 1, 0, 0, "curl", "/usr/bin/curl"),
        closed(99, CloseReason.CLOSED),
        ConnectionClosed(0, 0, 5, 0, CloseReason.CLOSED),
    ]
    assert checks.busy
    left = checks.take([*mine, of_its_socket, *others, ProcessExited(0, tgid)])
    assert left == others
    assert session.exited
    assert session.events[: len(mine)] == mine
    session.process.wait(10)
    with pytest.raises(CannotCheck, match="cannot be loaded"):
        checks.finish(session)
    assert checks.take(mine[:1]) == mine[:1], "the number may be another process's by now"


def test_a_child_that_does_not_end_is_ended(monkeypatch, tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr("otel_tap.capture.self_check._CHILD", slow)
    checks = SelfChecks()
    session = checks.start("/nonexistent")
    session.begin()
    with pytest.raises(CannotCheck, match="did not come to its end"):
        checks.finish(session)
    assert session.process.returncode == -9
    assert not checks.busy


def test_without_a_python_nothing_is_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(CannotCheck, match="no Python"):
        SelfChecks().start("/nonexistent")


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "libssl.so.3"
    path.write_bytes(b"")
    path.chmod(0o644)
    return path


def test_only_a_library_that_nobody_else_can_change_is_loaded(library):
    assert loadable(str(library)) == str(library)
    library.chmod(0o666)
    with pytest.raises(CannotCheck, match="others than root can change"):
        loadable(str(library))


def test_a_folder_that_others_can_write_to_is_as_bad(library):
    library.parent.chmod(0o777)
    with pytest.raises(CannotCheck, match="others than root can change"):
        loadable(str(library))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_library_of_another_user_is_not_loaded(library):
    os.chown(library, 12345, 12345)
    with pytest.raises(CannotCheck, match="others than root can change"):
        loadable(str(library))


def test_a_program_is_not_loaded(library):
    program = library.with_name("node")
    program.write_bytes(b"")
    with pytest.raises(CannotCheck, match="a program"):
        loadable(str(program))
