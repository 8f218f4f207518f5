"""Which of the kernel's own hooks the running kernel has.

Three outcomes: yes, no, and could not tell. What could not be told is tried.
"""

from __future__ import annotations

import mmap
from functools import cache
from pathlib import Path

from otel_tap.capture.probes import SOCKET_OBJECTS
from otel_tap.context.kernel import KernelVersion, read_kernel_version

_BTF = Path("/sys/kernel/btf/vmlinux")


@cache
def has_tracepoint(name: str, btf: Path = _BTF) -> bool | None:
    """Whether the kernel has the tracepoint `name`; None when it could not be told.

    By the type that the kernel's BTF declares for every tracepoint (`btf_trace_NAME`).
    """
    return _names(f"btf_trace_{name}", btf)


# Before, a link for one process met only its main thread.
_UPROBE_LINKS_SINCE = (6, 10)


def has_uprobe_links(btf: Path, version: KernelVersion | None) -> bool:
    """Whether a kernel can attach uprobes by links of its own (BPF_TRACE_UPROBE_MULTI).

    Of one that does not say so, or whose version is not known, no is right: perf events do the
    same everywhere.
    """
    return (
        version is not None
        and (version.major, version.minor) >= _UPROBE_LINKS_SINCE
        and _names("BPF_TRACE_UPROBE_MULTI", btf) is True
    )


def uprobe_links_here() -> bool:
    """The same of the running kernel."""
    return has_uprobe_links(_BTF, read_kernel_version())


def _names(name: str, btf: Path) -> bool | None:
    """Whether the kernel's BTF has this name; None when it could not be told."""
    try:
        with btf.open("rb") as file:
            try:
                types: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # before 6.15 it could only be read
                types = file.read()
            return types.find(b"\0" + name.encode() + b"\0") >= 0
    except OSError:
        return None


def socket_objects() -> list[str]:
    """Object files that could see bytes at sockets here, the cheapest first."""
    return [
        name
        for name, tracepoints in SOCKET_OBJECTS
        if all(has_tracepoint(tracepoint) is not False for tracepoint in tracepoints)
    ]
