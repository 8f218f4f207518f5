"""Finds TLS libraries and has them tapped: at start, after every exec, and now and then.

Runs in a thread of its own beside the data path. A file that was looked at once is not looked at
again; a process whose libraries are all known costs one read of its /proc/PID/maps.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from otel_tap.capture.elf import ElfRefusal
from otel_tap.capture.installed import InstalledLibraries
from otel_tap.capture.mapped import (
    FileKey,
    MappedFile,
    file_system_of,
    mapped_code,
    process_ids,
)
from otel_tap.capture.plan import FilePlan, Placement, looks_like_tls, plan_file
from otel_tap.errors import CaptureError

# The dynamic linker maps libraries after exec; a slow start may take a while, dlopen longer.
_LOOKS_AFTER_EXEC_S = (0.005, 0.05, 0.5, 3.0)
_FULL_SCAN_S = 20.0
# Numbers of mount namespaces are used again within moments: one is not known for long.
_FILE_SYSTEM_LOOK_S = 1.0
_MAX_FILE_SYSTEMS = 4096
_MAX_WAITING = 20_000


@dataclass(slots=True)
class DiscoveryCounters:
    """What the search has met."""

    files_tapped: int = 0
    files_refused: int = 0
    files_read: int = 0
    attach_failed: int = 0


class Discovery:
    """Keeps every TLS library of the host tapped.

    `attach(path, plan)` does it and may raise `CaptureError`; `report` gets one line per file that
    could not be tapped. `settle(stopped)` is called in the thread after each look, and returns
    soon once `stopped()`. `pids`: the only processes that are looked at; empty: all.
    """

    def __init__(
        self,
        attach: Callable[[str, FilePlan], None],
        report: Callable[[str], None],
        *,
        placement: Placement = "symbol",
        settle: Callable[[Callable[[], bool]], None] | None = None,
        pids: Collection[int] = (),
    ) -> None:
        self._attach = attach
        self._report = report
        self._placement: Placement = placement
        self._settle = settle
        self._pids = pids
        self._installed = InstalledLibraries()
        self._known: set[FileKey] = set()
        self._file_systems: dict[tuple[str, int, int], float] = {}
        self._waiting: list[tuple[float, int]] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.counters = DiscoveryCounters()

    def scan_all(self) -> None:
        """Look at every installed library and every process once."""
        for mapped in self._installed.below():
            self._consider(mapped)
        for pid in self._pids or process_ids():
            self._look_at(pid)

    def start(self) -> None:
        """Begin to follow execs in a thread."""
        self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)
        self._thread.start()

    def process_started(self, pid: int) -> None:
        """A process executed something: its libraries appear in a moment."""
        if self._pids and pid not in self._pids:
            return
        now = time.monotonic()
        with self._wake:
            if len(self._waiting) < _MAX_WAITING:
                for delay in _LOOKS_AFTER_EXEC_S:
                    heapq.heappush(self._waiting, (now + delay, pid))
                self._wake.notify()

    def stop(self) -> None:
        """End the thread; returns when it no longer touches any probe."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        next_scan = time.monotonic() + _FULL_SCAN_S
        while True:
            with self._wake:
                if self._stopped:
                    return
                now = time.monotonic()
                due = next_scan
                if self._waiting and self._waiting[0][0] < due:
                    due = self._waiting[0][0]
                if due > now:
                    self._wake.wait(due - now)
                    continue
                pid = None
                if self._waiting and self._waiting[0][0] <= now:
                    pid = heapq.heappop(self._waiting)[1]
            if pid is not None:
                self._look_at(pid)
            else:
                self.scan_all()
                next_scan = time.monotonic() + _FULL_SCAN_S
            if self._settle is not None:
                self._settle(lambda: self._stopped)

    def _look_at(self, pid: int) -> None:
        files = file_system_of(pid)
        now = time.monotonic()
        if files is not None and now - self._file_systems.get(files, -_FILE_SYSTEM_LOOK_S) >= (
            _FILE_SYSTEM_LOOK_S
        ):
            if len(self._file_systems) >= _MAX_FILE_SYSTEMS:
                self._file_systems.clear()
            self._file_systems[files] = now
            for mapped in self._installed.below(f"/proc/{pid}/root"):
                self._consider(mapped)
        for mapped in mapped_code(pid):
            self._consider(mapped)

    def _consider(self, mapped: MappedFile) -> None:
        if mapped.key in self._known:
            return
        self._known.add(mapped.key)
        self.counters.files_read += 1
        try:
            plan = plan_file(mapped.open_path, self._placement)
            if plan is None:
                return
            self._attach(mapped.open_path, plan)
        except ElfRefusal as refusal:
            if looks_like_tls(mapped.name):
                self.counters.files_refused += 1
                self._report(f"{mapped.name} is not tapped: {refusal}")
        except CaptureError as error:
            self.counters.attach_failed += 1
            self._report(f"{mapped.name} is not tapped: {error.message}")
        else:
            self.counters.files_tapped += 1
