"""Whether placed probes deliver what really moved: one TLS session in a child, compared.

Owns the children, the events that are theirs (which reach nobody else) and the comparison. A
library is only loaded into a child when nobody but root could have written it: loading runs its
code. Must not know how probes are attached.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from otel_tap.capture.mapped import FileKey
from otel_tap.events import (
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Event,
    PeerEvidence,
    ProcessExited,
    TlsLibrary,
)

_CHILD = Path(__file__).with_name("self_check_child.py")
_MAX_SOCKETS = 256

Moved = list[tuple[str, bytes]]
"""(direction, bytes) of each call of one session that moved any."""


class CannotCheck(Exception):  # noqa: N818 - an outcome
    """This library cannot be checked; the text says why. What was proved of it stands."""


def loadable(path: str) -> str:
    """The path by which this very file can be loaded safely; raises `CannotCheck`.

    Nobody but root and ourselves may be able to change it, or to put another in its place.
    """
    real = os.path.realpath(path)
    try:
        same = Path(path).samefile(real)
    except OSError as error:
        raise CannotCheck("it is not in this mount namespace") from error
    if not same:
        raise CannotCheck("it is not in this mount namespace")
    for place in (Path(real), *Path(real).parents):
        status = place.stat()
        replaceable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if status.st_mode & stat.S_ISVTX and stat.S_ISDIR(status.st_mode):
            replaceable = 0  # what lies in a sticky folder is its owner's
        if status.st_uid not in (0, os.geteuid()) or replaceable:
            raise CannotCheck(f"others than root can change {place}")
    if ".so" not in Path(real).name:
        raise CannotCheck("it is a program, not a library")
    return real


@dataclass(slots=True)
class Session:
    """A child that waits until it may `begin`, and what the probes delivered of it."""

    process: subprocess.Popen[bytes]
    events: list[Event] = field(default_factory=list)
    exited: bool = False

    def begin(self) -> None:
        """Whatever shall see the child is attached."""
        if self.process.stdin is not None:
            self.process.stdin.close()
            self.process.stdin = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child did: the bytes of each of its two ends, and the files that it loaded."""

    moved: list[Moved]
    files: list[FileKey]


class SelfChecks:
    """Starts children and keeps their events apart. `lock` is held while the ring is drained.

    A child is registered before its first event can be drained, because both hold the lock.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._sessions: dict[int, Session] = {}
        self._sockets: set[int] = set()

    @property
    def busy(self) -> bool:
        """Whether any event may be a child's."""
        return bool(self._sessions or self._sockets)

    def start(self, library: str) -> Session:
        """A child that is to have a session through the library at that path."""
        if not sys.executable:
            raise CannotCheck("there is no Python to run it with")
        with self.lock:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_CHILD), library],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={"OPENSSL_CONF": "/dev/null"},  # a policy may forbid what is needed here
                )
            except OSError as error:
                raise CannotCheck(f"no process can be started: {error.strerror}") from error
            session = Session(process)
            self._sessions[process.pid] = session
        return session

    def owns(self, event: Event) -> bool:
        """Whether an event is a child's; those of its sockets are from then on."""
        if getattr(event, "tgid", 0) in self._sessions:
            if type(event) is ConnectionOpened and event.socket_id:
                self._sockets.add(event.socket_id)
            return True
        # TCP's own events name no process.
        return type(event) is ConnectionClosed and event.socket_id in self._sockets

    def take(self, events: Sequence[Event]) -> list[Event]:
        """The events that are nobody's here; the others are kept with their child."""
        others: list[Event] = []
        for event in events:
            if not self.owns(event):
                others.append(event)
                continue
            session = self._sessions.get(getattr(event, "tgid", 0))
            if (
                type(event) is ConnectionClosed
                and not event.connection_id
                and event.reason in (CloseReason.CLOSED, CloseReason.RESET)
            ):
                self._sockets.discard(event.socket_id)
            if session is not None:
                session.exited |= type(event) is ProcessExited
                session.events.append(event)
        if len(self._sockets) > _MAX_SOCKETS:
            self._sockets.clear()
        return others

    def finish(self, session: Session) -> Outcome:
        """What the child did, once it is over; it is ended if it is not."""
        if session.process.poll() is None:
            session.process.kill()
        output, _ = session.process.communicate()
        with self.lock:
            self._sessions.pop(session.process.pid, None)
        try:
            said = json.loads(output)
            if "cannot" in said:
                raise CannotCheck(str(said["cannot"]))
            return Outcome(
                [[(way, bytes.fromhex(data)) for way, data in end] for end in said["moved"]],
                [(device, inode) for device, inode in said["files"]],
            )
        except (ValueError, TypeError, KeyError) as error:
            raise CannotCheck("the child did not come to its end") from error


def difference(moved: Sequence[Moved], events: Sequence[Event]) -> str:
    """How the events differ from what the calls moved; "" when they do not.

    The first end of `moved` is the client's; the last thing that the other one reads is the end of
    the stream. Both are freed.
    """
    sessions = _sessions(events)
    if len(sessions) != len(moved):
        return f"{len(sessions)} sessions were seen of {len(moved)}"
    opened = sorted(sessions, key=lambda number: _client_last(sessions[number]))
    for expected, number in zip(moved, opened, strict=True):
        offsets = {"ingress": 0, "egress": 0}
        seen = sessions[number]
        for index, (way, data) in enumerate(expected):
            what = f"{len(data)} bytes of {way} at {offsets[way]}"
            if index >= len(seen):
                return f"{what} were not seen"
            event = seen[index]
            found = (event.direction.name.lower(), event.offset, event.length)
            if found != (way, offsets[way], len(data)):
                return f"{what} were seen as {found[2]} bytes of {found[0]} at {found[1]}"
            if event.payload != data:
                return f"{what} were seen with another content"
            offsets[way] += len(data)
        if len(seen) > len(expected):
            return f"{len(seen) - len(expected)} events too many were seen"
    closed = [event for event in events if type(event) is ConnectionClosed]
    for number in sessions:
        if not any(e.connection_id == number and e.reason is CloseReason.CLOSED for e in closed):
            return "the end of a session was not seen"
    if not any(
        e.connection_id == opened[-1] and e.reason is CloseReason.INGRESS_END for e in closed
    ):
        return "the end of a stream was not seen"
    return ""


def unbound(events: Sequence[Event]) -> bool:
    """Whether the connection of a session was not found by its ciphertext."""
    bound = {
        event.connection_id
        for event in events
        if type(event) is ConnectionOpened and event.evidence is PeerEvidence.CIPHERTEXT
    }
    return bool(set(_sessions(events)) - bound)


def _sessions(events: Sequence[Event]) -> dict[int, list[DataEvent]]:
    sessions: dict[int, list[DataEvent]] = {
        event.connection_id: []
        for event in events
        if type(event) is ConnectionOpened and event.tls is not TlsLibrary.NONE
    }
    for event in events:
        if type(event) is DataEvent and event.connection_id in sessions:
            sessions[event.connection_id].append(event)
    return sessions


def _client_last(events: Sequence[DataEvent]) -> bool:
    """Sorts the end that begins by sending before the other."""
    return not (events and events[0].direction.name == "EGRESS")
