"""What user space makes of the kernel side's events: confirmed, completed, or left out."""

from dataclasses import replace
from typing import cast

import pytest

from otel_tap.capture.bcc.descriptors import Kind, Look, Processes
from otel_tap.capture.bcc.records import encode
from otel_tap.capture.bcc.source import Completion
from otel_tap.capture.wire import decode
from otel_tap.events import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    EventsLost,
    LossReason,
    PeerEvidence,
    ProcessExited,
    ProcessStarted,
    TlsLibrary,
)

HERE, THERE = Address("10.0.0.1", 50_000), Address("10.0.0.2", 443)
ID, LIFE, TGID, FD = 1 << 63 | 5, 900, 4242, 7
TCP = Look(Kind.TCP, HERE, THERE)
GONE = Look(Kind.UNKNOWN)
OTHER = Look(Kind.OTHER)


def opened(connection_id=ID, *, plain=False, peer=None, listener=-1):
    """As the kernel side says it: the listener stands in the local address, with port 0."""
    local = Address(f"::{listener + 1:x}", 0) if peer or listener >= 0 else None
    return ConnectionOpened(
        1000,
        LIFE if plain else connection_id,
        LIFE,
        TGID,
        FD,
        TlsLibrary.NONE if plain else TlsLibrary.OPENSSL,
        PeerEvidence.SOCKET if plain else PeerEvidence.NESTED_CALL,
        local,
        peer if peer or local is None else Address("::", 0),
        0,
        0,
        True,
    )


def data(connection_id):
    return DataEvent(1, 1, connection_id, TGID, TGID, Direction.EGRESS, 0, 3, b"GET", -1)


class Host:
    """Fakes of what is asked, and a record of what is muted."""

    def __init__(self, looks=None, *, life=LIFE, flows=()):
        self.looks = {FD: TCP} if looks is None else looks
        self.muted: list[int] = []
        self.completion = Completion(
            cast("Processes", self), lambda tgid, fd: life, self.muted.append, lambda: set(flows)
        )

    def look(self, tgid, fd):
        return self.looks.get(fd, GONE)

    def hold(self, tgid):
        return None

    def complete(self, *events):
        return self.completion.complete(events)


def test_a_session_gets_the_addresses_of_its_socket():
    (event,) = Host().complete(opened())
    assert (event.local, event.peer) == (HERE, THERE)
    assert event.evidence is PeerEvidence.NESTED_CALL


def test_a_descriptor_that_means_another_socket_by_now_says_nothing():
    (event,) = Host(life=LIFE + 1).complete(opened())
    assert (event.local, event.peer) == (None, None)


def test_a_peer_that_connect_named_survives_the_socket():
    for host in (Host({}), Host(life=0)):
        for plain in (False, True):
            (event,) = host.complete(opened(plain=plain, peer=THERE))
            assert (event.local, event.peer) == (None, THERE)


def test_a_session_whose_socket_is_unknown_stays_unknown():
    (event,) = Host({}).complete(opened())
    assert (event.local, event.peer) == (None, None)


def test_bytes_that_look_like_http_in_a_file_are_left_out():
    host = Host({FD: OTHER})
    assert host.complete(opened(plain=True), data(LIFE), data(ID)) == [data(ID)]
    assert host.muted == [LIFE]
    closed = ConnectionClosed(9, 0, LIFE, TGID, CloseReason.CLOSED)
    assert host.complete(data(LIFE), closed, opened(plain=True)) == []
    assert host.completion.unconfirmed == 0


def test_what_was_closed_before_the_look_is_left_out_and_counted():
    host = Host({})
    assert host.complete(opened(plain=True), data(LIFE)) == []
    assert host.completion.unconfirmed == 1


@pytest.mark.parametrize(
    ("listening", "local"),
    [
        (Address("10.0.0.1", 8080), Address("10.0.0.1", 8080)),
        (Address("0.0.0.0", 8080), None),  # any of its addresses: not known which
    ],
)
def test_who_accepted_a_closed_socket_says_what_it_was(listening, local):
    host = Host({3: Look(Kind.TCP, listening, None)})
    (event, _) = host.complete(opened(plain=True, listener=3), data(LIFE))
    assert (event.local, event.peer) == (local, None)
    assert host.muted == []


def test_a_socket_accepted_from_a_unix_listener_is_left_out():
    host = Host({3: OTHER})
    assert host.complete(opened(plain=True, listener=3), data(LIFE)) == []


def test_the_far_end_of_the_agent_s_own_connection_is_left_out():
    host = Host(flows={(THERE, HERE)})
    assert host.complete(opened(), data(ID), opened(plain=True), data(LIFE)) == []
    assert host.muted == [ID, LIFE]


def test_other_connections_to_the_same_collector_are_kept():
    host = Host(flows={(THERE, HERE._replace(port=1))})
    assert len(host.complete(opened(), data(ID))) == 2


def test_every_event_survives_a_recording():
    process = ProcessStarted(3, TGID, 1, 1000, 5_000_000, "curl", "/usr/bin/curl", 77)
    events = [
        opened()._replace(local=HERE, peer=Address("2001:db8::1", 443)),
        opened()._replace(fd=-1),
        data(ID),
        replace(data(ID), length=9, skipped=True, offset=1 << 40),
        ConnectionClosed(4, ID, LIFE, TGID, CloseReason.RESET, 1, 2, 3, 4),
        process,
        ProcessExited(6, TGID),
    ]
    assert [decode(encode(event)) for event in events] == events


def test_lost_events_are_no_record():
    with pytest.raises(TypeError):
        encode(EventsLost(1, LossReason.RING_FULL, 1, 1))
