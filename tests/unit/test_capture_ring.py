"""The consumer's side of the ring, on a file laid out as the kernel lays out a ring buffer."""

from __future__ import annotations

import mmap
import os
import struct

import pytest

from otel_tap.capture.ring import Ring
from otel_tap.errors import CaptureError

SIZE = 64 * 1024
PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class NoWait:
    """Stands in for epoll, which takes no plain files."""

    def register(self, *_):
        pass

    def close(self):
        pass


class Producer:
    """Writes records where the kernel would, at both views of the data."""

    def __init__(self, at=0):
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.memory = mmap.mmap(self.fd, 2 * PAGE + 2 * SIZE)
        self.at = at
        self.consumed(at)
        self._publish()

    def _publish(self):
        struct.pack_into("=Q", self.memory, PAGE, self.at)

    def _put(self, position, data):
        for index, byte in enumerate(data, position & (SIZE - 1)):
            for view in (0, SIZE):
                place = index + view
                if place < 2 * SIZE:
                    self.memory[2 * PAGE + place] = byte
            if index >= SIZE:
                self.memory[2 * PAGE + index - SIZE] = byte

    def write(self, payload, flags=0):
        begin = self.at
        self._put(begin, struct.pack("=II", len(payload) | flags, 0) + payload)
        self.at += (len(payload) + 8 + 7) & ~7
        self._publish()
        return begin

    def commit(self, begin, payload):
        self._put(begin, struct.pack("=I", len(payload)))

    def consumed(self, position=None):
        if position is not None:
            struct.pack_into("=Q", self.memory, 0, position)
        return struct.unpack_from("=Q", self.memory, 0)[0]


@pytest.fixture
def ring_of(monkeypatch):
    monkeypatch.setattr("select.epoll", NoWait)
    rings = []

    def make(producer):
        rings.append(Ring(producer.fd, SIZE))
        return rings[-1]

    yield make
    for ring in rings:
        ring.close()


def record(memory, at, size):
    return memory[at : at + size]


def test_records_come_oldest_first_and_their_room_is_given_back(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    for payload in (b"one", b"", b"three-is-longer"):
        producer.write(payload)
    assert ring.drain(record, 10) == [b"one", b"", b"three-is-longer"]
    assert producer.consumed() == producer.at
    assert ring.drain(record, 10) == []


def test_no_more_than_the_limit_is_taken_and_the_rest_stays(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    begins = [producer.write(b"%d" % number) for number in range(5)]
    assert ring.drain(record, 2) == [b"0", b"1"]
    assert producer.consumed() == begins[2]
    assert ring.drain(record, 10) == [b"2", b"3", b"4"]


def test_a_record_that_is_being_written_ends_the_reading_until_it_is_there(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    producer.write(b"first")
    begin = producer.write(b"slow", BUSY)
    producer.write(b"last")
    assert ring.drain(record, 10) == [b"first"]
    assert producer.consumed() == begin
    producer.commit(begin, b"slow")
    assert ring.drain(record, 10) == [b"slow", b"last"]


def test_discarded_records_are_passed_over(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    producer.write(b"gone", DISCARDED)
    producer.write(b"kept")
    assert ring.drain(record, 10) == [b"kept"]
    assert producer.consumed() == producer.at


def test_a_record_across_the_end_of_the_ring_is_read_whole(ring_of):
    producer = Producer(at=7 * SIZE - 16)
    ring = ring_of(producer)
    payload = bytes(range(200))
    producer.write(payload)
    producer.write(b"next")
    assert ring.drain(record, 10) == [payload, b"next"]


def test_room_is_given_back_while_much_is_read(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    for _ in range(50):
        producer.write(bytes(1000))
    seen = []

    def look(memory, at, size):
        seen.append(producer.consumed())
        return size

    assert ring.drain(look, 100) == [1000] * 50
    assert 0 < seen[-1] < producer.at


def test_what_cannot_be_decoded_is_not_read_again(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    producer.write(b"bad")
    producer.write(b"good")

    def decode(memory, at, size):
        if memory[at : at + size] == b"bad":
            raise CaptureError("bad")
        return memory[at : at + size]

    with pytest.raises(CaptureError):
        ring.drain(decode, 10)
    assert ring.drain(decode, 10) == [b"good"]


def test_fill_is_the_part_that_waits(ring_of):
    producer = Producer()
    ring = ring_of(producer)
    for _ in range(4):
        producer.write(bytes(SIZE // 8 - 8))
    assert ring.fill == pytest.approx(0.5)
