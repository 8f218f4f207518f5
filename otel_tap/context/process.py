"""One process, read from /proc.

Owns: which files of /proc/PID say what. Promises: a `ProcessRecord` with whatever could be read,
or None when the process is gone; never an exception, never another process's facts. Must not
know: events, the table of origins.

All files are read relative to one open /proc/PID directory. It stays bound to that life of the
process: once it is gone every read fails, even if its number was given to another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from otel_tap.context.cgroup import container_from_cgroup, container_from_mountinfo
from otel_tap.context.environment import NOTHING_DECLARED, Declared, declared_by
from otel_tap.context.files import as_text, read_bytes, read_link
from otel_tap.context.users import Users
from otel_tap.origin import Container

# Bounds on what a process can make the agent read, in bytes.
_MAX_SMALL = 65536
_MAX_COMMAND_LINE = 32768
_MAX_ENVIRON = 1 << 20
_MAX_MOUNTINFO = 1 << 20

_DELETED = " (deleted)"
_STAT_PPID = 1  # fields of /proc/PID/stat, counted behind the command name
_STAT_START = 19


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What /proc said of one process; None is "could not be read"."""

    start_ticks: int  # clock ticks of CLOCK_BOOTTIME
    parent_pid: int | None
    comm: str
    executable_path: str | None
    command: str | None
    command_line: str | None
    uid: int | None
    user: str | None  # its name, or its number where it has none
    container: Container | None
    declared: Declared


class ProcessReader:
    """Reads processes of one /proc."""

    __slots__ = ("_host_mounts", "_include_command_line", "_root", "_users")

    def __init__(self, proc_root: Path, users: Users, *, include_command_line: bool) -> None:
        self._root = str(proc_root)
        self._users = users
        self._include_command_line = include_command_line
        self._host_mounts = read_link(proc_root / "1" / "ns" / "mnt") or read_link(
            proc_root / "self" / "ns" / "mnt"
        )

    def start_ticks(self, pid: int) -> int | None:
        """When the process that has this pid now started; None when there is none."""
        stat = _parse_stat(read_bytes(f"{self._root}/{pid}/stat", _MAX_SMALL))
        return None if stat is None else stat[2]

    def read(self, pid: int) -> ProcessRecord | None:
        """Everything that is wanted of a process; about 100 microseconds."""
        try:
            fd = os.open(f"{self._root}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._read(fd)
        finally:
            os.close(fd)

    def _read(self, fd: int) -> ProcessRecord | None:
        stat = _parse_stat(read_bytes("stat", _MAX_SMALL, fd))
        if stat is None:
            return None
        comm, parent_pid, start_ticks = stat
        path = _executable_path(fd)
        command, command_line = self._command(fd, path)
        uid = _effective_uid(read_bytes("status", _MAX_SMALL, fd))
        return ProcessRecord(
            start_ticks=start_ticks,
            parent_pid=parent_pid,
            comm=comm,
            executable_path=path,
            command=command,
            command_line=command_line,
            uid=uid,
            user=None if uid is None else self._users.name(uid, fd),
            container=self._container(fd),
            declared=_declared(fd),
        )

    def _container(self, fd: int) -> Container | None:
        mounts = read_link("ns/mnt", fd)
        known = mounts is not None and self._host_mounts is not None
        own = mounts != self._host_mounts if known else None
        cgroup = read_bytes("cgroup", _MAX_SMALL, fd)
        if cgroup:
            container = container_from_cgroup(as_text(cgroup), own_mount_namespace=own)
            if container is not None:
                return container
        if own is False:
            return None
        mountinfo = read_bytes("mountinfo", _MAX_MOUNTINFO, fd)
        return container_from_mountinfo(as_text(mountinfo)) if mountinfo else None

    def _command(self, fd: int, path: str | None) -> tuple[str | None, str | None]:
        """argv[0] and, if asked for, all of argv.

        A program that rewrites its title (nginx, sshd, puma) leaves one string there that can
        hold its arguments or its user's data. So an argv[0] with white space that is not the
        executable's path is withheld like the arguments themselves.
        """
        limit = _MAX_COMMAND_LINE if self._include_command_line else 4096
        content = read_bytes("cmdline", limit, fd)
        if not content:
            return None, None
        arguments = content.rstrip(b"\0").split(b"\0")
        command: str | None = as_text(arguments[0])
        if self._include_command_line:
            return command or None, as_text(b" ".join(arguments)) or None
        if command and command != path and len(command.split()) != 1:
            command = None
        return command or None, None


def _parse_stat(content: bytes | None) -> tuple[str, int | None, int] | None:
    """(comm, ppid, start time in ticks). The name may hold spaces and parentheses."""
    if not content:
        return None
    opening = content.find(b"(")
    closing = content.rfind(b")")
    fields = content[closing + 1 :].split()
    if opening < 0 or closing < opening or len(fields) <= _STAT_START:
        return None
    start, parent = fields[_STAT_START], fields[_STAT_PPID]
    if not start.isdigit():
        return None
    comm = as_text(content[opening + 1 : closing])
    # Parent 0 is the kernel, or a process outside this pid namespace: nobody that has a name.
    return comm, int(parent) if parent.isdigit() and parent != b"0" else None, int(start)


def _effective_uid(content: bytes | None) -> int | None:
    if not content:
        return None
    at = content.find(b"\nUid:")
    fields = content[at + 5 : at + 80].split(None, 2) if at >= 0 else []
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None


def _executable_path(fd: int) -> str | None:
    path = read_link("exe", fd)
    if path is None or not path.endswith(_DELETED):
        return path
    try:
        # A file may really be called so: a deleted one has no name left.
        if os.stat("exe", dir_fd=fd).st_nlink > 0:
            return path
    except OSError:
        pass
    return path[: -len(_DELETED)]


def _declared(fd: int) -> Declared:
    environ = read_bytes("environ", _MAX_ENVIRON, fd)
    if not environ:
        return NOTHING_DECLARED
    return declared_by(environ, truncated=len(environ) >= _MAX_ENVIRON)
