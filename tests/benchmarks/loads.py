"""Load from real clients: wrk at saturation, h2load at a constant rate."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cpus import LOAD


def wrk_rps(url: str, seconds: float, connections: int = 16) -> float:
    """Requests per second that one thread of wrk gets answered."""
    ran = subprocess.run(
        [*LOAD, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", url],
        capture_output=True, text=True, check=True, timeout=seconds + 30,
    )  # fmt: skip
    found = re.search(r"Requests/sec:\s+([\d.]+)", ran.stdout)
    if found is None or "Non-2xx" in ran.stdout:
        raise RuntimeError(f"wrk failed: {ran.stdout}{ran.stderr}")
    return float(found.group(1))


@dataclass(frozen=True, slots=True)
class Paced:
    """One run at a constant rate; latencies in microseconds, without the first second."""

    sent: int
    latencies_us: list[float]


def paced(url: str, rate: int, clients: int, seconds: int, log: Path) -> Paced:
    """`rate` requests per second by h2load over HTTP/1.1 keep-alive connections."""
    log.unlink(missing_ok=True)
    ran = subprocess.run(
        [*LOAD, "h2load", "--h1", "-t1", f"-c{clients}", f"--rps={rate / clients:g}",
         f"-n{rate * seconds}", f"--log-file={log}", url],
        capture_output=True, text=True, check=True, timeout=seconds * 3 + 30,
    )  # fmt: skip
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored", ran.stdout)
    if done is None:
        raise RuntimeError(f"h2load failed: {ran.stdout}{ran.stderr}")
    lines = [line.split() for line in log.read_text().splitlines()]
    begin = min(int(start) for start, _, _ in lines) + 1_000_000
    return Paced(
        int(done.group(1)), [float(took) for start, _, took in lines if int(start) >= begin]
    )
