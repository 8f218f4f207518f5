"""Names of users, for the processes that share the host's user database.

Owns: the host's passwd file. Promises: a name only where it is that process's own; else the
number. Must not know: NSS, which may ask the network.

A uid means what the process's own /etc/passwd says. So the host's name is given only to a process
whose /etc/passwd is the very file of the host (same device and inode): that holds for services
with private mounts, and not for containers with an image of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

from otel_tap.context.files import as_text, read_bytes

_MAX_PASSWD = 4 << 20
_Identity = tuple[int, int]


class Users:
    """The host's users; the file is read again when it was replaced or changed."""

    __slots__ = ("_names", "_path", "_version")

    def __init__(self, etc: Path | None) -> None:
        self._path = None if etc is None else str(etc / "passwd")
        self._names: dict[int, str] = {}
        self._version: tuple[int, int, int, int] | None = None

    def name(self, uid: int, process_fd: int) -> str | None:
        """Name of `uid` in the process behind `process_fd` (an open /proc/PID), or its number.

        None: its root cannot be looked at, so nobody can say which file is its own: mostly it has
        ended.
        """
        host = self._current()
        if host is None:
            return str(uid)
        own = _identity("root/etc/passwd", process_fd)
        if own is None and _identity("root", process_fd) is None:
            return None
        if own != host:
            return str(uid)
        return self._names.get(uid) or str(uid)

    def name_on_host(self, uid: int) -> str:
        """Name of `uid` for a process that is known to see the host's files, or its number."""
        if self._current() is None:
            return str(uid)
        return self._names.get(uid) or str(uid)

    def _current(self) -> _Identity | None:
        if self._path is None:
            return None
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- Path.stat costs twice as much
        except OSError:
            return None
        version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._version:
            self._names = parse_passwd(read_bytes(self._path, _MAX_PASSWD) or b"")
            self._version = version
        return status.st_dev, status.st_ino


def parse_passwd(content: bytes) -> dict[int, str]:
    """Name by uid; the first entry of a uid is its name, as getpwuid() has it."""
    names: dict[int, str] = {}
    for line in content.split(b"\n"):
        parts = line.split(b":", 3)
        if len(parts) == 4 and parts[0] and parts[2].isdigit():
            names.setdefault(int(parts[2]), as_text(parts[0]))
    return names


def _identity(path: str, directory_fd: int) -> _Identity | None:
    try:
        status = os.stat(path, dir_fd=directory_fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
