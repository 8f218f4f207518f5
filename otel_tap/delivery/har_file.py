"""An HTTP Archive on disk that grows while it can be read.

Owns: the file. Promises: after every write it is whole JSON; it is readable by its owner only;
entries wait a second at most and within a bound; a file that otel-tap wrote is continued, any
other is left alone. A failed write is said once, and what it held is counted. Must not know: what
an entry means.

Each write takes the place of the closing brackets and puts them behind itself. Only a process that
is killed in the midst of that one call leaves a file without them: appending ``]}}`` mends it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable

from otel_tap._version import __version__
from otel_tap.errors import ExportError
from otel_tap.exchange import Exchange
from otel_tap.origin import Origin
from otel_tap.telemetry.har import har_entry

_BEGIN = b'{"log":{"version":"1.2","creator":{"name":"otel-tap","version":'
_TAIL = b"\n]}}\n"
_WAIT_NS = 1_000_000_000
_MAX_WAITING = 1 << 20  # bytes


class HarFile:
    """Appends exchanges to the archive at `path`; raises `ExportError` if it cannot be opened."""

    def __init__(self, path: str, *, body_limit: int, report: Callable[[str], None]) -> None:
        self._path = path
        self._body_limit = body_limit
        self._report = report
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._due_ktime_ns = 0
        self._said = False
        self.written = 0  # entries
        self.dropped = 0  # entries that could not be written
        self._fd = _open(path)
        try:
            self._empty, self._end = self._continue()
        except BaseException:
            os.close(self._fd)
            raise

    def add(self, exchange: Exchange, origin: Origin, unix_offset_ns: int) -> None:
        """One finished, redacted exchange; what follows a WebSocket's handshake is no entry."""
        if exchange.websocket is not None:
            return
        try:
            entry = har_entry(exchange, origin, unix_offset_ns, self._body_limit)
            line = json.dumps(entry, separators=(",", ":")).encode()
        except Exception:  # noqa: BLE001 - what one peer sent must not stop the agent
            self.dropped += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._waiting_bytes >= _MAX_WAITING:
            self._write()

    def turn(self, ktime_ns: int) -> None:
        """Time has passed: what has waited long enough is written."""
        if self._waiting and ktime_ns >= self._due_ktime_ns:
            self._due_ktime_ns = ktime_ns + _WAIT_NS
            self._write()

    def close(self) -> None:
        """Write the rest."""
        self._write()
        os.close(self._fd)

    def _continue(self) -> tuple[bool, int]:
        """Whether the archive has no entry, and where its closing brackets begin."""
        size = os.fstat(self._fd).st_size
        if size == 0:
            head = _BEGIN + json.dumps(__version__).encode() + b'},"entries":['
            try:
                _write_all(self._fd, head + _TAIL, 0)
            except OSError as error:
                raise ExportError(f"cannot write {self._path}: {error.strerror}") from error
            return True, len(head)
        begins = os.pread(self._fd, len(_BEGIN), 0)
        end = size - len(_TAIL)
        if begins != _BEGIN or os.pread(self._fd, len(_TAIL), max(0, end)) != _TAIL:
            raise ExportError(
                f"{self._path} is there already and is no whole HAR file of otel-tap",
                remedy="name another file, or move that one away",
            )
        return os.pread(self._fd, 1, end - 1) == b"[", end

    def _write(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        content = (b"\n" if self._empty else b",\n") + b",\n".join(waiting)
        try:
            _write_all(self._fd, content + _TAIL, self._end)
        except OSError as error:
            self.dropped += len(waiting)
            if not self._said:
                self._said = True
                self._report(f"cannot write {self._path}: {error.strerror}; entries are dropped")
            self._take_back()
            return
        self._empty = False
        self._end += len(content)
        self.written += len(waiting)

    def _take_back(self) -> None:
        """Make the file what it was: the brackets go where they stood, so there is room."""
        try:
            _write_all(self._fd, _TAIL, self._end)
            os.ftruncate(self._fd, self._end + len(_TAIL))
        except OSError as error:
            self._report(f"{self._path} may lack its last brackets: {error.strerror}")


def _open(path: str) -> int:
    try:
        # Neither through a link nor into a pipe that nobody reads.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror}",
            remedy="name a file in a directory that exists and may be written",
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ExportError(f"{path} is no regular file", remedy="name a file for the archive")
    os.fchmod(fd, 0o600)
    return fd


def _write_all(fd: int, content: bytes, at: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
