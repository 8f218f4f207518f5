"""The table of processes: answers for every exchange whose it is.

Owns: which life of a pid is meant, what is remembered and for how long. Promises: `origin()` never
fails and never touches a disk twice for one process; memory is bounded. Must not know: how
/proc is laid out, what an exchange is.

Rules:

1. A process is its tgid and its start time. Start times are kept in whole clock ticks, so that a
   process has the same identity whether the kernel's event or /proc told it, and after a restart.
2. /proc shows who has the number *now*. If that process started after the event that named it, or
   at another time than the kernel's own event said, its facts are another's and are not used.
3. What exited stays for a while: its last exchanges are still on their way.
4. An exec makes a new program of the same process: it is read again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from otel_tap.context.environment import NOTHING_DECLARED
from otel_tap.context.host import host_etc
from otel_tap.context.process import ProcessReader, ProcessRecord
from otel_tap.context.users import Users
from otel_tap.events import ProcessStarted
from otel_tap.origin import Host, Origin

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_VERIFY_AFTER_NS = 1_000_000_000  # a pid is not reused sooner: all others must be used up first
_MAX_ENTRIES = 8192
_MAX_EXITED = 1024


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """Names the service of the processes that meet every condition given.

    `executable` is a glob on the path of the executable, `comm` one on its name, `container` the
    beginning of a container id.
    """

    name: str
    executable: str | None = None
    comm: str | None = None
    container: str | None = None


@dataclass(slots=True)
class OriginCounters:
    """What happened to look-ups."""

    processes_read: int = 0
    gone_before_read: int = 0  # described from the kernel's event alone
    pid_reuse_detected: int = 0
    environment_malformed: int = 0  # OTEL_* variables that had to be discarded
    evicted: int = 0


@dataclass(frozen=True, slots=True)
class Clocks:
    """How the clocks of the kernel relate at one moment, nanoseconds."""

    boot_unix_ns: int  # wall-clock time of boot
    suspended_ns: int  # CLOCK_BOOTTIME minus CLOCK_MONOTONIC


def read_clocks() -> Clocks:
    """The clocks now; they drift apart when the host is suspended or its time is set."""
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return Clocks(
        boot_unix_ns=time.time_ns() - boottime,
        suspended_ns=boottime - time.clock_gettime_ns(time.CLOCK_MONOTONIC),
    )


class _Entry:
    """What is remembered of one tgid."""

    __slots__ = ("exited", "origin", "read", "started", "verified_ktime_ns")

    def __init__(self, started: ProcessStarted | None) -> None:
        self.started = started
        self.origin: Origin | None = None
        self.read = False
        self.exited = False
        self.verified_ktime_ns = 0


class Origins:
    """Processes by tgid.

    `proc_root` None: never look, as for a recording of another host; `clocks` then has to give the
    clocks of that host.
    """

    def __init__(
        self,
        host: Host,
        *,
        proc_root: Path | None = Path("/proc"),
        etc_root: Path = Path("/etc"),
        include_command_line: bool = False,
        service_rules: Sequence[ServiceRule] = (),
        clocks: Callable[[], Clocks] = read_clocks,
        max_entries: int = _MAX_ENTRIES,
        max_exited: int = _MAX_EXITED,
    ) -> None:
        self.counters = OriginCounters()
        self._host = host
        self._reader: ProcessReader | None = None
        self._users = Users(None if proc_root is None else host_etc(proc_root, etc_root))
        self._host_mounts = 0
        if proc_root is not None:
            self._reader = ProcessReader(
                proc_root, self._users, include_command_line=include_command_line
            )
            # Its own, where the host's first process may not be looked at.
            for process in ("self", "1"):
                with contextlib.suppress(OSError):
                    self._host_mounts = (proc_root / process / "ns/mnt").stat().st_ino
        self._rules = tuple(service_rules)
        self._clocks = clocks
        self._max_entries = max_entries
        self._max_exited = max_exited
        self._entries: dict[int, _Entry] = {}  # least recently met first
        self._exited: dict[int, _Entry] = {}  # oldest exit first

    def __len__(self) -> int:
        return len(self._entries)

    def process_started(self, event: ProcessStarted) -> None:
        """Remember what the kernel said; replaces whatever had this tgid.

        An event without a file name only announces a process that was met: what its exec said
        before stays.
        """
        known = self._entries.get(event.tgid)
        if (
            not event.filename
            and known is not None
            and known.started is not None
            and known.started.start_boottime_ns == event.start_boottime_ns
        ):
            return
        self._put(event.tgid, _Entry(event))

    def process_exited(self, tgid: int) -> None:
        """Let go of a process later: exchanges of it may still be emitted."""
        entry = self._entries.get(tgid)
        if entry is None or entry.exited:
            return
        entry.exited = True
        self._exited[tgid] = entry
        if len(self._exited) > self._max_exited:
            oldest = next(iter(self._exited))
            del self._exited[oldest]
            del self._entries[oldest]

    def met(self, tgid: int, ktime_ns: int) -> Origin:
        """A connection of `tgid` was met at `ktime_ns` (0 unknown): read it while it is there."""
        entry = self._entries.get(tgid)
        if entry is not None and entry.origin is not None:
            recent = ktime_ns - entry.verified_ktime_ns < _VERIFY_AFTER_NS
            if self._reader is None or (recent and not entry.exited):
                return entry.origin
            ticks = self._reader.start_ticks(tgid)
            if ticks is None or ticks * _TICK_NS == entry.origin.start_boottime_ns:
                entry.verified_ktime_ns = ktime_ns
                self._put(tgid, entry)
                return entry.origin
        return self._describe(tgid, ktime_ns)

    def origin(self, tgid: int) -> Origin:
        """Whose process it is, as well as it is known."""
        entry = self._entries.get(tgid)
        if entry is not None:
            origin = entry.origin
            if origin is not None:
                return origin
        return self._describe(tgid, 0)

    def _describe(self, tgid: int, ktime_ns: int) -> Origin:
        """Read the process, or make the best of the kernel's event; remember the result."""
        entry = self._entries.get(tgid)
        clocks = self._clocks()
        record = None
        if self._reader is not None:
            record = self._reader.read(tgid)
            if record is not None and _started_later(record, ktime_ns, clocks):
                self.counters.pid_reuse_detected += 1
                record = None
            if record is not None and entry is not None and _other_life(record, entry):
                self.counters.pid_reuse_detected += 1
                # An event that came after this process was born is its own; a question about an
                # exchange (no time given) is about the process that was remembered.
                if ktime_ns > 0:
                    entry = None
                else:
                    record = None
        if entry is None:
            entry = _Entry(None)
        if record is None:
            if self._reader is not None and not entry.read:
                self.counters.gone_before_read += 1
            if entry.origin is None:
                entry.origin = self._from_event(tgid, entry.started, clocks)
        else:
            self.counters.processes_read += 1
            if record.declared.malformed:
                self.counters.environment_malformed += 1
            entry.origin = self._from_record(tgid, record, entry.started, clocks)
            entry.read = True
        entry.verified_ktime_ns = ktime_ns
        self._put(tgid, entry)
        return entry.origin

    def _put(self, tgid: int, entry: _Entry) -> None:
        """Insert as the latest; over the bound the exited go first, then the least recent."""
        entries = self._entries
        previous = entries.pop(tgid, None)
        if previous is not None and previous is not entry:
            self._exited.pop(tgid, None)
        entries[tgid] = entry
        if len(entries) > self._max_entries:
            victim = next(iter(self._exited), None)
            if victim is None or victim == tgid:
                victim = next(iter(entries))
            self._exited.pop(victim, None)
            del entries[victim]
            self.counters.evicted += 1

    def _from_record(
        self, tgid: int, record: ProcessRecord, event: ProcessStarted | None, clocks: Clocks
    ) -> Origin:
        path, user = record.executable_path, record.user
        if user is None:
            user = self._user_of(event, record.uid)  # it was gone amid the reading
        if path is None and event is not None:
            # It is ending: its executable and its files are gone, but it had them.
            path = self._executed_path(event)
        executable = _base_name(path) if path else record.comm
        container = record.container
        start = record.start_ticks * _TICK_NS
        return Origin(
            pid=tgid,
            start_boottime_ns=start,
            start_unix_ns=_wall_clock(start, clocks),
            parent_pid=record.parent_pid,
            executable_name=executable or "unknown",
            executable_path=path,
            command=record.command,
            command_line=record.command_line,
            user=user,
            container=container,
            service_name=record.declared.service_name
            or self._by_rule(path, (executable, record.comm), container.id if container else None)
            or _unknown_service(executable),
            service_attributes=record.declared.attributes,
            host=self._host,
        )

    def _from_event(self, tgid: int, event: ProcessStarted | None, clocks: Clocks) -> Origin:
        """Of a process that left no trace in /proc.

        Its path and its user's name are told only where it is known to have seen the host's files.
        """
        path = self._executed_path(event)
        executable = "" if event is None else _base_name(path or "") or _name_of_program(event)
        known_start = event is not None and event.start_boottime_ns > 0
        start = event.start_boottime_ns // _TICK_NS * _TICK_NS if event and known_start else 0
        names = (executable, event.comm) if event else (executable,)
        return Origin(
            pid=tgid,
            start_boottime_ns=start,
            start_unix_ns=_wall_clock(start, clocks) if known_start else 0,
            parent_pid=event.ppid if event and event.ppid > 0 else None,
            executable_name=executable or "unknown",
            executable_path=path,
            command=None,
            command_line=None,
            user=self._user_of(event),
            container=None,
            service_name=self._by_rule(None, names, None) or _unknown_service(executable),
            service_attributes=NOTHING_DECLARED.attributes,
            host=self._host,
        )

    def _saw_the_host(self, event: ProcessStarted) -> bool:
        return event.mount_namespace != 0 and event.mount_namespace == self._host_mounts

    def _executed_path(self, event: ProcessStarted | None) -> str | None:
        if event is None or event.filename[:1] != "/" or not self._saw_the_host(event):
            return None
        return os.path.realpath(event.filename)

    def _user_of(self, event: ProcessStarted | None, uid: int | None = None) -> str | None:
        """The user `uid`; where that could not be read, the one that the kernel told."""
        if uid is None and event is not None:
            uid = event.uid
        if uid is None:
            return None
        if event is not None and self._saw_the_host(event):
            return self._users.name_on_host(uid)
        return str(uid)

    def _by_rule(
        self, path: str | None, names: tuple[str, ...], container_id: str | None
    ) -> str | None:
        for rule in self._rules:
            if _meets(rule, path, names, container_id):
                return rule.name
        return None


def _meets(
    rule: ServiceRule, path: str | None, names: tuple[str, ...], container_id: str | None
) -> bool:
    """Whether every condition of a rule is known to hold; a rule without any names nothing."""
    if rule.executable is None and rule.comm is None and rule.container is None:
        return False
    if rule.executable is not None and not (path and fnmatchcase(path, rule.executable)):
        return False
    if rule.comm is not None and not any(fnmatchcase(name, rule.comm) for name in names if name):
        return False
    if rule.container is None:
        return True
    return container_id is not None and container_id.startswith(rule.container)


def _started_later(record: ProcessRecord, ktime_ns: int, clocks: Clocks) -> bool:
    """Whether this process cannot have caused an event at `ktime_ns`: it was not born."""
    if ktime_ns <= 0:
        return False
    return record.start_ticks * _TICK_NS > ktime_ns + clocks.suspended_ns + _TICK_NS


def _other_life(record: ProcessRecord, entry: _Entry) -> bool:
    """Whether what was remembered is of another process than the one in /proc."""
    if entry.origin is not None and entry.origin.start_boottime_ns > 0:
        remembered = entry.origin.start_boottime_ns // _TICK_NS
    elif entry.started is not None and entry.started.start_boottime_ns > 0:
        remembered = entry.started.start_boottime_ns // _TICK_NS
    else:
        return False
    # One tick of tolerance: the kernel rounds where it prints.
    return abs(record.start_ticks - remembered) > 1


def _wall_clock(start_boottime_ns: int, clocks: Clocks) -> int:
    """Wall-clock start in whole ticks: a finer figure would differ from read to read."""
    return (clocks.boot_unix_ns + start_boottime_ns) // _TICK_NS * _TICK_NS


def _name_of_program(event: ProcessStarted) -> str:
    """Name of the file that was executed; of one given by descriptor only comm is known."""
    name = _base_name(event.filename)
    return event.comm if not name or name.isdigit() else name


def _base_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _unknown_service(executable: str) -> str:
    return f"unknown_service:{executable}" if executable else "unknown_service"
