"""Placed probes on real libraries: they deliver what moved, and a wrong place is noticed."""

import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_tap.capture import self_check
from otel_tap.capture.elf import read_image
from otel_tap.capture.live import LiveSource
from otel_tap.capture.plan import FilePlan, plan_file
from otel_tap.capture.self_check import CannotCheck, difference, loadable, unbound
from otel_tap.events import DataEvent, Event

pytestmark = pytest.mark.ebpf

LIBRARIES = [
    *Path("/usr/lib").glob("*-linux-gnu/libssl.so.3"),
    *(p for f in site.getsitepackages() for p in sorted(Path(f).glob("*.libs/libssl*"))),
]


@pytest.fixture
def library(world_readable: Path) -> Path:
    """A copy of the system's libssl that is loaded by nobody else."""
    (original,) = Path("/usr/lib").glob("*-linux-gnu/libssl.so.3")
    copy = world_readable / "libssl.so.3"
    shutil.copy(original, copy)
    copy.chmod(0o755)
    return copy


def _drain(source: LiveSource) -> None:
    for _ in source.read():
        pass


def run_child(source: LiveSource, path: Path) -> tuple[self_check.Outcome, list[Event]]:
    """The self-check's session through a library, and the events that are its."""
    checks = source._checks
    session = checks.start(loadable(str(path)))
    session.begin()
    deadline = time.monotonic() + 10
    while not (session.exited and session.process.poll() is not None):
        assert time.monotonic() < deadline
        for event in source.read():
            assert getattr(event, "tgid", 0) != session.process.pid
    return checks.finish(session), session.events


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name)
def test_placed_probes_deliver_what_the_calls_moved(path):
    source = LiveSource(1 << 22, print)
    try:
        plan = plan_file(str(path))
        assert plan is not None
        assert plan.moved
        if str(path).startswith(tuple(site.getsitepackages())):
            for file in (path, *path.parent.glob("libcrypto*")):
                placed = plan_file(str(file))
                assert placed is not None
                source._kernel.attach_library(str(file), placed)
        outcome, events = run_child(source, path)
        assert difference(outcome.moved, events) == ""
        assert not unbound(events)
    finally:
        source.close()


def test_the_libraries_of_this_host_pass_their_self_check_and_nobody_sees_it():
    said: list[str] = []
    source = LiveSource(1 << 22, said.append)
    try:
        verdicts = {tapped.verdict for tapped in source.taps.placed.values()}
        assert "self-checked" in verdicts
        assert said == []
        events = [event for _ in range(5) for event in source.read()]
        assert not [e for e in events if type(e) is DataEvent and b"self-check" in e.payload]
    finally:
        source.close()


@pytest.mark.parametrize("mistake", ["wrong program", "wrong direction", "wrong function"])
def test_a_wrong_place_is_noticed_and_the_library_is_tapped_at_its_symbols(library, mistake):
    right = plan_file(str(library))
    assert right is not None
    with library.open("rb") as file:
        other = read_image(file, ["SSL_get_error"]).functions["SSL_get_error"]
    changes: dict[str, dict[str, Any]] = {
        "wrong program": {"entry_program": "ssl_write_inner5"},
        "wrong direction": {"entry_program": "ssl_read_inner"},
        "wrong function": {"address": other.address, "file_offset": other.file_offset},
    }
    points = [
        replace(point, **changes[mistake]) if "SSL_write" in point.symbols else point
        for point in right.points
    ]
    wrong = FilePlan(right.library, right.object_name, tuple(points))
    said: list[str] = []
    source = LiveSource(1 << 22, said.append)
    try:
        source.taps.attach(str(library), wrong)
        source.taps.check(lambda: _drain(source))
        assert len(said) == 1, said
        assert str(library) in said[0]
        assert "self-check" in said[0]
        assert "exported symbols" in said[0]
        # And there it is right, once the agent has recovered from what the mistake made it copy.
        deadline = time.monotonic() + 60
        while source.shed_share and time.monotonic() < deadline:
            _drain(source)
        outcome, events = run_child(source, library)
        assert difference(outcome.moved, events) == ""
    finally:
        source.close()


# Serves one TLS connection in each of two threads; the certificate is its argument.
_SERVER = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:3])
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
        assert connection.recv(100) == b"GET / HTTP/1.0\\r\\n\\r\\n"
        connection.sendall(b"HTTP/1.0 204 Done\\r\\n\\r\\n")
        connection.recv(1)
threads = [threading.Thread(target=serve) for _ in range(2)]
for thread in threads: thread.start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[int, int]]:
    """Its process and its port."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, folder / "cert.pem", folder / "key.pem"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.pid, int(server.stdout.readline())
    finally:
        server.kill()
        server.communicate()


# Not in this process: what the agent itself talks about is left out, at both ends.
_CLIENT = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.check_hostname = False
with socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=10) as plain:
    with context.wrap_socket(plain) as connection:
        connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert connection.recv(100) == b"HTTP/1.0 204 Done\\r\\n\\r\\n"
"""


def ask(port: int, certificate: Path) -> None:
    subprocess.run([sys.executable, "-c", _CLIENT, certificate, str(port)], check=True)


def breakpoints(pid: int, plan: FilePlan) -> set[bytes]:
    """What stands in the memory of a process where the planned probes of libssl would be."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        columns = line.split()
        if columns[-1].rpartition("/")[2] != "libssl.so.3" or "x" not in columns[1]:
            continue
        begin, end = (int(number, 16) for number in columns[0].split("-"))
        with Path(f"/proc/{pid}/mem").open("rb") as memory:
            for point in plan.points:
                address = begin + point.file_offset - int(columns[2], 16)
                assert begin <= address < end
                memory.seek(address)
                found.add(memory.read(1))
    return found


def test_where_only_some_processes_are_asked_for_no_other_is_touched(world_readable):
    certificate, key = world_readable / "cert.pem", world_readable / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    (library,) = Path("/usr/lib").glob("*-linux-gnu/libssl.so.3")
    plan = plan_file(str(library))
    assert plan is not None
    said: list[str] = []
    with tls_server(world_readable) as (asked, port), tls_server(world_readable) as (other, second):
        untouched = {pid: breakpoints(pid, plan) for pid in (asked, other, os.getpid())}
        source = LiveSource(1 << 22, said.append, pids=[asked])
        try:
            assert "self-checked" in {tapped.verdict for tapped in source.taps.placed.values()}
            assert breakpoints(asked, plan) == {b"\xcc"}
            for pid in (other, os.getpid()):
                assert breakpoints(pid, plan) == untouched[pid]
            for _ in range(2):  # each in a thread of its own
                ask(port, certificate)
                ask(second, certificate)
            deadline = time.monotonic() + 10
            seen: list[tuple[int, bytes]] = []
            while len(seen) < 4 and time.monotonic() < deadline:
                seen += [
                    (event.tgid, event.payload[:8])
                    for event in source.read()
                    if type(event) is DataEvent and b"HTTP/1.0" in event.payload
                ]
            assert seen == [(asked, b"GET / HT"), (asked, b"HTTP/1.0")] * 2
            assert said == []
        finally:
            source.close()
        assert breakpoints(asked, plan) == untouched[asked]


def test_a_wrong_place_is_noticed_where_only_some_processes_are_asked_for(library):
    right = plan_file(str(library))
    assert right is not None
    points = [
        replace(point, entry_program="ssl_read_inner") if "SSL_write" in point.symbols else point
        for point in right.points
    ]
    said: list[str] = []
    source = LiveSource(1 << 22, said.append, pids=[os.getpid()])
    try:
        source.taps.attach(str(library), FilePlan(right.library, right.object_name, tuple(points)))
        source.taps.check(lambda: _drain(source))
        assert len(said) == 1, said
        assert "exported symbols" in said[0]
    finally:
        source.close()


def test_a_library_that_others_could_change_is_not_loaded(library):
    library.chmod(0o777)
    with pytest.raises(CannotCheck, match="others than root can change"):
        loadable(str(library))
