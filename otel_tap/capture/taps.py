"""Libraries that carry probes: attached as planned, checked, and put back at the symbols if wrong.

Owns which file carries which probes. Promises that a file whose placed probes were seen to differ
from the truth is tapped at its exported symbols instead, and that this is reported.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from otel_tap.capture.elf import ElfRefusal
from otel_tap.capture.libbpf import EVERYONE, Link
from otel_tap.capture.mapped import FileKey
from otel_tap.capture.plan import FilePlan, plan_file
from otel_tap.capture.self_check import (
    CannotCheck,
    Outcome,
    SelfChecks,
    Session,
    difference,
    loadable,
    unbound,
)
from otel_tap.errors import CaptureError
from otel_tap.events import LossReason

_TIME_LIMIT_S = 2.0
_LAST_EVENTS_S = 0.3  # after the child's end
_AT_ONCE = 4
# While these grow, an event that is missing says nothing about a place.
_DISTURBING = (LossReason.RING_FULL, LossReason.STATE_FULL, LossReason.SHED)


class Attacher(Protocol):
    """Attaches and detaches the probes of files."""

    def attach_library(
        self, path: str, plan: FilePlan, pids: Sequence[int] = (EVERYONE,)
    ) -> list[Link]:
        """Attach every probe of one file, or none of them; in these processes."""
        ...

    def detach_library(self, links: list[Link]) -> None:
        """Take the probes of one file away."""
        ...

    def close_links(self, links: list[Link]) -> None:
        """Take probes away that nobody can be in."""
        ...

    def choose(self, tgid: int, *, chosen: bool) -> None:
        """Whether sockets of this process are looked at, where only chosen ones are."""
        ...

    def losses(self) -> dict[LossReason, tuple[int, int]]:
        """(events, bytes) that did not arrive, by reason."""
        ...


@dataclass(slots=True)
class Tapped:
    """A file whose probes were placed."""

    path: str
    plan: FilePlan
    links: list[Link]
    verdict: str = "not self-checked yet"
    checked_again: bool = False


class LibraryTaps:
    """Attaches files and checks the placed ones.

    `report` gets one line per file that had to be put back. `pids`: the only processes that are
    probed, besides the children of the checks; empty: every process.
    """

    def __init__(
        self,
        attacher: Attacher,
        checks: SelfChecks,
        report: Callable[[str], None],
        *,
        pids: Collection[int] = (),
    ) -> None:
        self._attacher = attacher
        self._checks = checks
        self._report = report
        self._pids = pids
        for pid in pids:
            attacher.choose(pid, chosen=True)
        self._closing: threading.Thread | None = None
        self._unchecked: list[Tapped] = []
        self.placed: dict[FileKey, Tapped] = {}

    def attach(self, path: str, plan: FilePlan) -> None:
        """Attach the probes of a file as planned; raises `CaptureError`, and then none are."""
        links = self._attacher.attach_library(path, plan, self._processes())
        if not plan.moved:
            return
        status = os.stat(path)  # noqa: PTH116 - the kernel's own path
        tapped = Tapped(path, plan, links)
        self.placed[status.st_dev, status.st_ino] = tapped
        if any("SSL_read" in point.symbols for point in plan.points):
            self._unchecked.append(tapped)

    def _processes(self) -> Sequence[int]:
        if not self._pids:
            return (EVERYONE,)
        return [pid for pid in self._pids if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110

    def check(self, idle: Callable[[], None], stopped: Callable[[], bool] = lambda: False) -> None:
        """Check what was attached since the last time; `idle` runs until the children are over.

        Somebody has to drain the ring meanwhile.
        """
        while self._unchecked and not stopped():
            group = [self._unchecked.pop(0) for _ in range(min(_AT_ONCE, len(self._unchecked)))]
            lost = self._losses()
            sessions: list[tuple[Tapped, Session]] = []
            for tapped in group:
                try:
                    sessions.append((tapped, self._checks.start(loadable(tapped.path))))
                except CannotCheck as cannot:
                    tapped.verdict = f"not self-checked: {cannot}"
            children = self._attach_to([session for _, session in sessions])
            for _, session in sessions:
                session.begin()
            self._wait([session for _, session in sessions], idle, stopped)
            for tapped, session in sessions:
                try:
                    outcome = self._checks.finish(session)
                except CannotCheck as cannot:
                    tapped.verdict = f"not self-checked: {cannot}"
                    continue
                if not session.exited:
                    tapped.verdict = "not self-checked: its events did not arrive in time"
                elif (
                    difference(outcome.moved, session.events)
                    and self._losses() != lost
                    and not tapped.checked_again
                ):
                    # A wrong length can fill the ring by itself: once more, then it counts.
                    tapped.checked_again = True
                    self._unchecked.append(tapped)
                else:
                    self._judge(tapped, session, outcome)
            self._close_soon(children)
            for _, session in sessions:
                self._attacher.choose(session.process.pid, chosen=False)

    def _attach_to(self, sessions: Sequence[Session]) -> list[Link]:
        """Where only some processes are probed, the children are probed like them."""
        links: list[Link] = []
        pids = [session.process.pid for session in sessions] if self._pids else []
        for pid in pids:
            self._attacher.choose(pid, chosen=True)
        if pids:
            for tapped in list(self.placed.values()):
                try:
                    links += self._attacher.attach_library(tapped.path, tapped.plan, pids)
                except CaptureError as error:
                    self._report(f"{tapped.path} cannot be self-checked: {error.message}")
        return links

    def _close_soon(self, links: list[Link]) -> None:
        """Nobody is in them any more; the kernel takes its time with each."""
        self.close()
        if links:
            self._closing = threading.Thread(
                target=self._attacher.close_links, args=(links,), name="closing", daemon=True
            )
            self._closing.start()

    def close(self) -> None:
        """Returns when no probe is touched any more."""
        if self._closing is not None:
            self._closing.join()

    def _losses(self) -> list[tuple[int, int] | None]:
        losses = self._attacher.losses()
        return [losses.get(reason) for reason in _DISTURBING]

    def _wait(
        self, sessions: Iterable[Session], idle: Callable[[], None], stopped: Callable[[], bool]
    ) -> None:
        limit = time.monotonic() + _TIME_LIMIT_S
        for session in sessions:
            while session.process.poll() is None and time.monotonic() < limit and not stopped():
                idle()
            end = time.monotonic() + _LAST_EVENTS_S
            while not session.exited and time.monotonic() < end and not stopped():
                idle()

    def _judge(self, tapped: Tapped, session: Session, outcome: Outcome) -> None:
        tapped.verdict = "self-checked"
        if wrong := difference(outcome.moved, session.events):
            self._put_back(tapped, wrong)
            return
        for key in outcome.files:
            other = self.placed.get(key)
            if other is None or not any("BIO_write" in p.symbols for p in other.plan.points):
                continue
            if not unbound(session.events):
                other.verdict = "self-checked"
            elif other.verdict != "self-checked":
                self._put_back(other, "a session was not found by its ciphertext")

    def _put_back(self, tapped: Tapped, wrong: str) -> None:
        """Tap the file at its exported symbols."""
        tapped.verdict = f"at the exported symbols, because its self-check failed: {wrong}"
        self.placed = {key: other for key, other in self.placed.items() if other is not tapped}
        name = os.path.realpath(tapped.path)
        self._attacher.detach_library(tapped.links)
        try:
            plan = plan_file(tapped.path, "symbol")
            if plan is not None:
                tapped.links = self._attacher.attach_library(tapped.path, plan, self._processes())
        except (ElfRefusal, CaptureError) as error:
            self._report(f"{name}: its self-check failed ({wrong}), and it is not tapped: {error}")
        else:
            self._report(
                f"{name}: the self-check of its probes failed ({wrong}); "
                "they sit at the exported symbols now"
            )
