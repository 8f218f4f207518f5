"""The host, read once at start.

Owns: which file names the host. Promises: a `Host`, whatever is missing. When the agent runs in a
container that sees the host's processes, the host's own files are read through process 1.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from otel_tap.context.files import read_link, read_text
from otel_tap.origin import Host

# Words of the semantic conventions (host.arch) for what the kernel calls its machine.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm32",
    "i386": "x86",
    "i686": "x86",
    "ppc64": "ppc64",
    "ppc64le": "ppc64",
    "s390x": "s390x",
}

_MACHINE_ID = re.compile(r"[0-9a-f]{32}\Z")


def read_host(*, proc_root: Path = Path("/proc"), etc_root: Path = Path("/etc")) -> Host:
    """The host as /proc and its machine id describe it."""
    kernel = proc_root / "sys" / "kernel"
    # Kernels before 6.1 do not say it in /proc.
    machine = read_text(kernel / "arch") or os.uname().machine
    return Host(
        name=read_text(kernel / "hostname") or "unknown",
        id=_machine_id(host_etc(proc_root, etc_root)),
        boot_id=read_text(kernel / "random" / "boot_id") or "",
        arch=_ARCHITECTURES.get(machine, machine),
        os_type="linux",
        os_version=read_text(kernel / "osrelease") or "",
    )


def host_etc(proc_root: Path, etc_root: Path) -> Path | None:
    """The host's /etc: process 1's, where the agent lives in another mount namespace.

    None: it is known to be another, and cannot be looked into.
    """
    own = read_link(proc_root / "self" / "ns" / "mnt")
    init = read_link(proc_root / "1" / "ns" / "mnt")
    if own is None or init is None or own == init:
        return etc_root
    behind_init = proc_root / "1" / "root" / "etc"
    try:
        return behind_init if behind_init.is_dir() else None
    except OSError:
        return None


def _machine_id(etc: Path | None) -> str | None:
    if etc is None:
        return None
    machine_id = read_text(etc / "machine-id")
    return machine_id if machine_id and _MACHINE_ID.match(machine_id) else None
