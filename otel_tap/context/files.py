"""Bounded reads of small kernel files that may vanish, be forbidden or never end.

Owns: the system calls. Promises: bytes or None, never an exception. Must not know: any format.
Plain `os` calls, because an `open()` object costs four times as much and a process is read while
its connection waits for a name.
"""

from __future__ import annotations

import os
from pathlib import Path

_CHUNK = 65536


def read_bytes(path: str | Path, limit: int, directory_fd: int | None = None) -> bytes | None:
    """At most `limit` bytes of a file; what was read before an error counts. None: unreadable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    except (OSError, ValueError):
        return None
    content = b""
    try:
        # The kernel returns short reads at page and record borders: only b"" is the end.
        while len(content) < limit:
            part = os.read(fd, min(limit - len(content), _CHUNK))
            if not part:
                break
            content += part
    except OSError:
        return content or None
    finally:
        os.close(fd)
    return content


def read_text(path: str | Path, limit: int = 4096) -> str | None:
    """The stripped text of a small file, invalid UTF-8 escaped; None: unreadable or empty."""
    content = read_bytes(path, limit)
    return as_text(content).strip() or None if content else None


def read_link(path: str | Path, directory_fd: int | None = None) -> str | None:
    """Where a symbolic link of /proc points; None: gone, or forbidden."""
    try:
        return as_text(os.fsencode(os.readlink(path, dir_fd=directory_fd)))
    except (OSError, ValueError):
        return None


def as_text(content: bytes) -> str:
    """Text that can leave as UTF-8 whatever the bytes were."""
    return content.decode("utf-8", "backslashreplace")
