"""Overload: how many connections the kernel side leaves out, so that the rest stays whole.

The ring's fill says whether the agent keeps up. While it is above one half, more connections are
left out, the more the fuller it is; when it has been nearly empty for a while they are taken back,
a few at a time. Pure: fill and time are given.
"""

from __future__ import annotations

from otel_tap.capture.control import SHED_ALL

_HIGH = 0.5
_LOW = 0.1
_RAISE_NS = 50_000_000
_LOWER_NS = 250_000_000
_RAISE_STEP = 96  # at a full ring
_LOWER_SHARE = 8


class Overload:
    """Decides the level: of 256 connections, how many are left out."""

    __slots__ = ("_changed_ns", "level")

    def __init__(self) -> None:
        self.level = 0
        self._changed_ns = 0

    def update(self, fill: float, ktime_ns: int) -> int:
        """The level now; `fill` is the part of the ring that waits to be read, 0 to 1."""
        since = ktime_ns - self._changed_ns
        if fill >= _HIGH:
            if since >= _RAISE_NS:
                step = int(_RAISE_STEP * (fill - _HIGH) / (1 - _HIGH)) + 8
                self.level = min(SHED_ALL, self.level + step)
                self._changed_ns = ktime_ns
        elif fill >= _LOW:
            # Neither: what is left out stays out, and taking back waits anew.
            self._changed_ns = max(self._changed_ns, ktime_ns - _LOWER_NS + _RAISE_NS)
        elif self.level and since >= _LOWER_NS:
            self.level -= max(1, self.level // _LOWER_SHARE)
            self._changed_ns = ktime_ns
        return self.level
