"""Which of the kernel's own hooks the running kernel has.

Three outcomes: yes, no, and could not tell. What could not be told is tried.
"""

from __future__ import annotations

import mmap
from functools import cache
from pathlib import Path

from otel_tap.capture.probes import SOCKET_OBJECTS

_BTF = Path("/sys/kernel/btf/vmlinux")


@cache
def has_tracepoint(name: str, btf: Path = _BTF) -> bool | None:
    """Whether the kernel has the tracepoint `name`; None when it could not be told.

    By the type that the kernel's BTF declares for every tracepoint (`btf_trace_NAME`).
    """
    try:
        with btf.open("rb") as file:
            try:
                types: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # before 6.15 it could only be read
                types = file.read()
            return types.find(b"\0btf_trace_" + name.encode() + b"\0") >= 0
    except OSError:
        return None


def socket_objects() -> list[str]:
    """Object files that could see bytes at sockets here, the cheapest first."""
    return [
        name
        for name, tracepoints in SOCKET_OBJECTS
        if all(has_tracepoint(tracepoint) is not False for tracepoint in tracepoints)
    ]
