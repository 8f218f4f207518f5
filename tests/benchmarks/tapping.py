"""The agent under measurement and the collector that it delivers to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.benchmarks.cpus import AGENT

PROGRAMS = Path(__file__).parent / "programs"
COMPILED = Path("build/compiled")
_START_S = 60.0
_CPUCLOCK_SCHED = 2


class Collector:
    """Accepts OTLP and counts afterwards, so that counting costs nobody anything."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*AGENT, sys.executable, PROGRAMS / "collector.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C reaches the runner only, which ends them in order
        )
        grpc, http = self._line().split()
        self.endpoints = {
            "grpc": f"http://127.0.0.1:{grpc}",
            "http/protobuf": f"http://127.0.0.1:{http}",
        }
        return self

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def take_counts(self) -> dict[str, int]:
        """`spans` and `logs` received since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        counts: dict[str, int] = json.loads(self._line())
        return counts

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class Summary:
    """What the agent said of itself at its end."""

    exchanges: int
    lost: int  # events
    dropped: int  # records that could not be delivered
    shed_bytes: int  # of connections left out for overload
    text: str


_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def read_summary(lines: Sequence[str]) -> Summary:
    """The last line that has counts; RuntimeError without one, for then nothing is known."""
    text = next((line for line in reversed(lines) if " exchanges, " in line), "").strip()
    counts = [
        re.search(pattern, text)
        for pattern in (r"(\d+) exchanges", r"\((\d+) lost", r"(\d+) dropped")
    ]
    exchanges, lost, dropped = (int(found.group(1)) if found else None for found in counts)
    if exchanges is None or lost is None or dropped is None:
        raise RuntimeError("the agent ended without its counts: " + "".join(lines))
    shed = re.search(r"([\d.]+) (B|kB|MB|GB) shed", text)
    shed_bytes = round(float(shed.group(1)) * _UNITS[shed.group(2)]) if shed else 0
    return Summary(exchanges, lost, dropped, shed_bytes, text)


class Tap:
    """`otel-tap run`; `ready_s` is the time from its start until it taps.

    Interpreted as it is here, or as the wheel holds it: with the modules of `COMPILED`. `protocol`
    is how OTLP is carried; the default is the one that OpenTelemetry recommends.
    """

    def __init__(
        self,
        collector: Collector | None,
        *arguments: str,
        compiled: bool = False,
        protocol: str = "http/protobuf",
    ) -> None:
        self._protocol = protocol
        self._collector = collector
        self._folder = COMPILED if compiled else None
        self._arguments = arguments
        self._lines: list[str] = []
        self._ready = threading.Event()
        self._ready_line: str | None = None
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        # As an agent that is installed: its modules were compiled to bytecode once.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "PYTHONDONTWRITEBYTECODE"))
        }
        arguments = list(self._arguments)
        if self._collector is not None:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = self._collector.endpoints[self._protocol]
            environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = self._protocol
        begin = time.monotonic()
        self._process = subprocess.Popen(
            [*AGENT, sys.executable, "-m", "otel_tap", "run", *arguments],
            env=environment,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.wait(_START_S)
        self.ready_s = time.monotonic() - begin
        if self._ready_line is None:
            self.__exit__()
            raise RuntimeError("the agent did not start: " + "".join(self._lines))
        return self

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            if line.startswith("otel-tap: ready"):
                self._ready_line = line
                self._ready.set()
        self._ready.set()

    @property
    def cpu_s(self) -> float:
        """CPU time so far, all threads."""
        # /proc counts in ticks of 10 ms; the clock of clock_getcpuclockid(3) in nanoseconds.
        return time.clock_gettime((~self._process.pid << 3) | _CPUCLOCK_SCHED)

    @property
    def rss_mb(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) / 1024 if found else 0.0

    def stop(self) -> Summary:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._reader.join(10)
        return read_summary(self._lines)

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
