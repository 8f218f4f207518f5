"""Another tool in the agent's place: bpftrace, which Debian packages and any kernel here runs.

Its own `sslsnoop.bt` times the calls of OpenSSL; `programs/contents.bt` reads what they moved, the
first 200 bytes of a call. Neither makes exchanges of it, or delivers anything: their output goes
to a file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.benchmarks.cpus import AGENT
from tests.benchmarks.tapping import PROGRAMS

_START_S = 30.0
_LONGEST = "200"  # bytes of a string, the most that bpftrace 0.17 has room for

SCRIPTS = {"bpftrace_sslsnoop": "sslsnoop.bt", "bpftrace_contents": str(PROGRAMS / "contents.bt")}
"""By the name of the figure."""


class Bpftrace:
    """A running script; RuntimeError when it does not start."""

    def __init__(self, folder: Path, script: str) -> None:
        self._script = shutil.which(script) or script
        self._output = folder / "bpftrace.out"

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*AGENT, "bpftrace", self._script],
                env=os.environ | {"BPFTRACE_STRLEN": _LONGEST},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("bpftrace did not start: " + self._said())
            time.sleep(0.1)
        return self

    def _said(self) -> str:
        with self._output.open("rb") as output:
            return output.read(4096).decode(errors="replace")

    def _is_ready(self) -> bool:
        return re.search("^(ready|Tracing)", self._said(), re.MULTILINE) is not None

    def stop(self) -> int:
        """End it; how many events it says that it lost."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        return read_lost(self._output.read_bytes())

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.unlink()


def read_lost(output: bytes) -> int:
    """The sum of what bpftrace says it lost."""
    return sum(int(count) for count in re.findall(rb"^Lost (\d+) events", output, re.MULTILINE))
