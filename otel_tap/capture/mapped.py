"""Files that processes map as code.

A file is known by device and inode, because that is what a probe attaches to: one attachment
covers every process that maps it, now and later, in any container that shares it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FileKey = tuple[int, int]
"""(device, inode) as stat reports them."""


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file as one process maps it: its name there, and a path that opens this very file."""

    pid: int
    name: str
    open_path: str
    key: FileKey


def process_ids(proc: Path = Path("/proc")) -> list[int]:
    """All processes that are there now."""
    return [int(name) for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - hot


def stat_key(path: str) -> FileKey | None:
    """Of the file that `path` leads to; None when there is none, or it may not be reached."""
    try:
        status = os.stat(path)  # noqa: PTH116 - hot
    except OSError:
        return None
    return status.st_dev, status.st_ino


def mapped_code(pid: int) -> Iterator[MappedFile]:
    """Every regular file that `pid` maps executable; nothing when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    seen: set[str] = set()
    for line in text.splitlines():
        columns = line.split(maxsplit=5)
        if len(columns) < 6 or "x" not in columns[1] or not columns[5].startswith("/"):
            continue
        inode = columns[3] + columns[4]
        if inode in seen:
            continue
        seen.add(inode)
        name = columns[5].removesuffix(" (deleted)")
        # The link names the mapped file itself: also when it was deleted or lies in a container.
        for path in (f"/proc/{pid}/map_files/{columns[0]}", f"/proc/{pid}/root{name}"):
            key = stat_key(path)
            if key is not None:
                yield MappedFile(pid, name, path, key)
                break


def file_system_of(pid: int) -> tuple[str, int, int] | None:
    """What tells the files that `pid` sees from those of others; None when it cannot be read.

    The root belongs to it: a container's process is in its namespace before it is in its root.
    """
    try:
        namespace = os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 - hot
    except OSError:
        return None
    root = stat_key(f"/proc/{pid}/root/.")
    return None if root is None else (namespace, *root)
