"""Delivery to a file: one line of OTLP-JSON for each chunk.

Owns: the file. Promises: a new file is readable by its owner only, what is there is kept, a line
is whole or followed by a line feed. Must not know: queues. A failed write is counted and said
once; the file is tried again with the next chunk, as a full disk may have room again.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable

from otel_tap.delivery.courier import MAX_QUEUED_BYTES, Courier, Route
from otel_tap.delivery.outcome import Accepted, Failed, Outcome
from otel_tap.errors import ExportError
from otel_tap.telemetry.chunk import Chunk, Signal

_STDOUT = "-"


def _to_stderr(message: str) -> None:
    print(f"otel-tap: {message}", file=sys.stderr)


class OtlpJsonFile(Courier):
    """Appends both signals to the file at `path` (`-`: stdout).

    Raises ExportError if it cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        report: Callable[[str], None] = _to_stderr,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        lines = _Lines(path)
        name = "stdout" if path == _STDOUT else path
        super().__init__(
            [Route(signal, lines, name, "") for signal in (Signal.TRACES, Signal.LOGS)],
            report=report,
            max_queued_bytes=max_queued_bytes,
        )


class _Lines:
    """A Sender that writes."""

    def __init__(self, path: str) -> None:
        # Imported when first needed: the codecs of protobuf are slow to load.
        from otel_tap.delivery.otlp_json import json_line  # noqa: PLC0415

        self._json_line = json_line
        self._torn = False  # the last write left half a line
        try:
            if path == _STDOUT:
                self._fd = os.dup(1)
            else:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o600)
                # One that exists may be readable by others; what is added may not.
                if stat.S_ISREG(os.fstat(self._fd).st_mode):
                    os.fchmod(self._fd, 0o600)
        except OSError as error:
            raise ExportError(
                f"cannot write {path}: {error.strerror}",
                remedy="name a file in a directory that exists and may be written",
            ) from error

    def send(self, chunk: Chunk, at_most_s: float) -> Outcome:  # noqa: ARG002 - files do not wait
        """Write one line."""
        line = self._json_line(chunk)
        rest = memoryview(b"\n" + line if self._torn else line)
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._torn = True
                rest = rest[written:]
        except OSError as error:
            return Failed(error.strerror or str(error))
        self._torn = False
        return Accepted()

    def close(self) -> None:
        """Close the file; called once for each signal."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
