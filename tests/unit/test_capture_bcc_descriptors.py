"""What descriptors of real processes are found to be, asked from outside."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_tap.capture.bcc.descriptors import (
    Kind,
    Processes,
    completed,
    look_at_socket,
    own_flows,
)
from otel_tap.events import Address, ProcessStarted


@pytest.fixture
def processes():
    held = Processes()
    yield held
    held.close()


@pytest.fixture
def connected():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        yield listener, client, server


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def look(processes, fd):
    try:
        found = processes.look(os.getpid(), fd)
    finally:
        os.fstat(fd)  # only a copy was closed
    return found


def test_both_ends_of_a_tcp_socket_are_known(processes, connected):
    _, client, server = connected
    seen = look(processes, client.fileno())
    if seen.kind is Kind.UNKNOWN:
        pytest.skip("this user may not look at descriptors (pidfd_getfd)")
    there = look(processes, server.fileno())
    assert (seen.kind, seen.local, seen.peer) == (
        Kind.TCP,
        Address(*client.getsockname()),
        Address(*client.getpeername()),
    )
    assert (there.local, there.peer) == (seen.peer, seen.local)


def test_a_listening_socket_has_no_peer(connected):
    listener = connected[0]
    seen = look_at_socket(os.dup(listener.fileno()))
    assert (seen.kind, seen.local, seen.peer) == (
        Kind.TCP,
        Address(*listener.getsockname()),
        None,
    )


def test_addresses_of_ipv4_in_ipv6_are_ipv4():
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])),
        listener.accept()[0] as server,
    ):
        seen = look_at_socket(os.dup(server.fileno()))
    assert seen.local is not None
    assert seen.peer is not None
    assert (seen.local.host, seen.peer.host) == ("127.0.0.1", "127.0.0.1")


def test_what_is_no_tcp_socket_is_other():
    left, right = socket.socketpair()
    read_end, write_end = os.pipe()
    with left, right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for fd in (left.fileno(), datagrams.fileno(), read_end):
            assert look_at_socket(os.dup(fd)).kind is Kind.OTHER
    os.close(read_end)
    os.close(write_end)


def test_looking_leaves_no_descriptor_behind(processes, connected):
    look(processes, connected[1].fileno())
    before = open_descriptors()
    for _ in range(10):
        look(processes, connected[1].fileno())
        look_at_socket(os.open("/dev/null", os.O_RDONLY))
        own_flows()
    assert open_descriptors() == before


def test_a_descriptor_that_is_not_there_is_unknown(processes):
    assert processes.look(os.getpid(), 1_000_000).kind is Kind.UNKNOWN
    assert processes.look(os.getpid(), -1).kind is Kind.UNKNOWN


def test_ends_of_processes_are_told_once(processes):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert processes.hold(child.pid) is not None
    assert list(processes.ended()) == []
    child.communicate(b"\n")
    deadline = time.monotonic() + 10
    ended: list[int] = []
    while not ended and time.monotonic() < deadline:
        ended += processes.ended()
    assert ended == [child.pid]
    assert list(processes.ended()) == []
    assert processes.hold(child.pid) is None
    assert list(processes.ended()) == [child.pid]


def test_no_more_processes_are_held_than_the_limit():
    held = Processes(limit=2)
    children = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(4)
    ]
    before = open_descriptors()
    for child in children:
        held.hold(child.pid)
    assert open_descriptors() == before + 2
    held.close()
    for child in children:
        child.communicate(b"\n")


def test_own_connections_are_listed(connected):
    _, client, _ = connected
    assert (Address(*client.getsockname()), Address(*client.getpeername())) in own_flows()


def test_a_process_is_completed_from_proc():
    event = ProcessStarted(5, os.getpid(), 0, 0, 0, "python", "?")
    whole = completed(event)
    assert whole.ppid == os.getppid()
    assert 0 < whole.start_boottime_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert Path(whole.filename).samefile(sys.executable)
    assert f"mnt:[{whole.mount_namespace}]" == str(Path("/proc/self/ns/mnt").readlink())


def test_of_a_process_that_is_gone_only_the_kernel_s_word_is_left(tmp_path):
    event = ProcessStarted(5, 77, 0, 1000, 0, "curl", "?")
    assert completed(event, tmp_path) == event._replace(filename="curl")
    met = event._replace(filename="")
    assert completed(met, tmp_path) == met
