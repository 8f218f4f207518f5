"""The consumer side of a BPF ring buffer, by mapping it.

Source: Documentation/bpf/ringbuf.rst of the kernel. One page holds the consumer's position (ours
to write), the next the producer's, then the data. The kernel offers the data twice in a row, so
that no record wraps; here they are mapped once, for every page of the ring counts as memory of the
agent, and the rare record that wraps is joined.
A record's length has two flag bits: busy (still being written, so reading stops there) and
discarded. Reading positions and lengths without a barrier relies on x86-64's memory order.
"""

from __future__ import annotations

import mmap
import select
from collections.abc import Callable
from typing import Final, TypeVar

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_LENGTH: Final = _DISCARDED - 1
_RECORD_HEADER: Final = 8
_GIVE_BACK: Final = 16 * 1024  # bytes; the smallest ring is many times this

T = TypeVar("T")

Take = Callable[[mmap.mmap | bytes, int, int], bool]
"""Gets memory, where in it a record begins, and its size; False: it was not taken."""


class Ring:
    """One ring buffer map; `size` is its data size in bytes, a power of two."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._mask = size - 1
        self._consumer_map = mmap.mmap(
            fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0
        )
        self._memory = mmap.mmap(fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        producer = memoryview(self._memory)
        self._producer = producer[:page].cast("Q")
        self._data = producer[page:]
        self._lengths = self._data.cast("I")
        self._size = size
        self._epoll = select.epoll()
        # Edge-triggered: only a forced wake-up ends the wait, not bytes that are there anyway.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def wait(self, timeout_s: float) -> None:
        """Sleep until the kernel wakes us (a process was met) or the time is over."""
        self._epoll.poll(timeout_s)

    @property
    def fill(self) -> float:
        """The part of the ring that waits to be read, 0 to 1."""
        return (self._producer[0] - self._consumer[0]) / self._size

    def drain(self, decode: Callable[[mmap.mmap | bytes, int, int], T], limit: int) -> list[T]:
        """What `decode` makes of at most `limit` records, oldest first; see `feed`."""
        taken: list[T] = []

        def keep(memory: mmap.mmap | bytes, at: int, size: int) -> bool:
            taken.append(decode(memory, at, size))
            return True

        self.feed(keep, keep, limit)
        return taken

    def feed(self, take: Take, otherwise: Take, limit: int) -> int:
        """Gives at most `limit` records, oldest first, to `take`; how many there were.

        What it says False to goes to `otherwise`. Both get the mapped ring, or the bytes of a
        record that wraps, where the record begins in it, and the record's size. A record is only
        valid during the call. Room is given back in steps, for the page that says so is shared
        with every CPU that writes.
        """
        position = self._consumer[0]
        end = self._producer[0]
        memory = self._memory
        lengths = self._lengths
        mask = self._mask
        first = mmap.PAGESIZE + _RECORD_HEADER
        last = mask + 1 - _RECORD_HEADER
        give_back = position + _GIVE_BACK
        count = 0
        try:
            for _ in range(limit):
                if position >= end:
                    break
                start = position & mask
                size = lengths[start >> 2]
                if size > _LENGTH:
                    if size & _BUSY:
                        break
                    position += ((size & _LENGTH) + _RECORD_HEADER + 7) & ~7  # it was discarded
                    continue
                position += (size + _RECORD_HEADER + 7) & ~7
                count += 1
                if start + size <= last:
                    if not take(memory, first + start, size):
                        otherwise(memory, first + start, size)
                else:
                    record = self._joined(start + _RECORD_HEADER, size)
                    if not take(record, 0, size):
                        otherwise(record, 0, size)
                if position >= give_back:
                    self._consumer[0] = position
                    give_back = position + _GIVE_BACK
        finally:
            self._consumer[0] = position
        return count

    def _joined(self, start: int, size: int) -> bytes:
        """The record that begins at the end of the ring and ends at its beginning."""
        head = bytes(self._data[start:])
        return head + bytes(self._data[: size - len(head)])

    def close(self) -> None:
        """Unmap; records given out must no longer be in use."""
        self._epoll.close()
        for view in (self._consumer, self._producer, self._lengths, self._data):
            view.release()
