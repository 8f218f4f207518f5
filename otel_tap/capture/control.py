"""What the agent tells the kernel side while it runs: one page that both have mapped."""

from __future__ import annotations

import mmap

_WAITING, _WAKE_BYTES, _SHED, _FILTERING, _WISHING = range(5)  # struct ot_control

SHED_ALL = 256

# Wake the agent before its time when so much of the ring is filled.
_WAKE_SHARE = 1 / 8


class Control:
    """The mapped `control` map; `ring_bytes` is the size of the ring."""

    def __init__(self, fd: int, ring_bytes: int) -> None:
        self._map = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._fields = memoryview(self._map).cast("I")
        self._fields[_WAKE_BYTES] = int(ring_bytes * _WAKE_SHARE)

    def sleep(self) -> None:
        """The agent is about to wait: wake it once when the ring fills."""
        self._fields[_WAITING] = 1

    def awake(self) -> None:
        """The agent is busy: nobody needs to wake it."""
        self._fields[_WAITING] = 0

    @property
    def shed(self) -> int:
        """How many 256ths of all connections are left out."""
        return self._fields[_SHED]

    @shed.setter
    def shed(self, level: int) -> None:
        self._fields[_SHED] = level

    @property
    def filtering(self) -> bool:
        """Whether some processes are not wanted."""
        return bool(self._fields[_FILTERING])

    @filtering.setter
    def filtering(self, wanted: bool) -> None:
        self._fields[_FILTERING] = wanted

    @property
    def wishing(self) -> bool:
        """Whether there are wishes about some connections."""
        return bool(self._fields[_WISHING])

    @wishing.setter
    def wishing(self, wanted: bool) -> None:
        self._fields[_WISHING] = wanted

    def close(self) -> None:
        """Unmap."""
        self._fields.release()
        self._map.close()
