"""Load from real clients: wrk at saturation, h2load at a constant rate."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cpus import LOAD

_CLIENTS = 20
_WARM_UP_US = 1_000_000


class LoadError(Exception):
    """The load was not what was asked for."""


@dataclass(frozen=True, slots=True)
class Saturated:
    """One run of wrk."""

    requests: int
    rps: float


def saturate(url: str, seconds: float, connections: int = 16) -> Saturated:
    """What one thread of wrk gets answered."""
    ran = subprocess.run(
        [*LOAD, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", url],
        capture_output=True, text=True, check=True, timeout=seconds + 30,
    )  # fmt: skip
    return read_wrk(ran.stdout)


def read_wrk(output: str) -> Saturated:
    """What wrk prints; LoadError when an answer was an error or a connection failed."""
    requests = re.search(r"(\d+) requests in", output)
    rps = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if requests is None or rps is None or "Non-2xx" in output or "Socket errors" in output:
        raise LoadError(f"wrk failed: {output}")
    return Saturated(int(requests.group(1)), float(rps.group(1)))


@dataclass(frozen=True, slots=True)
class Paced:
    """One run at a constant rate; latencies in microseconds, without the first second."""

    sent: int
    latencies_us: list[float]


def pace(url: str, rate: int, seconds: int, log: Path) -> Paced:
    """`rate` requests per second over HTTP/1.1 keep-alive connections.

    Each client of h2load sends on a timer of its own. Clients that begin together send together
    for ever, and what is measured is their queue; so two begin every 11 ms, which leaves the 20
    timers of 10 ms spread evenly (p99 of 0.5 ms instead of 1.6).
    """
    log.unlink(missing_ok=True)
    ran = subprocess.run(
        [*LOAD, "h2load", "--h1", "-t1", f"-c{_CLIENTS}", "-r2", "--rate-period=11ms",
         f"--rps={rate / _CLIENTS:g}", f"-n{rate * seconds}", f"--log-file={log}", url],
        capture_output=True, text=True, check=True, timeout=seconds * 3 + 30,
    )  # fmt: skip
    return read_h2load(ran.stdout, log.read_text())


def pace_http2(url: str, rate: int, seconds: float, uris: Path) -> int:
    """`rate` requests per second over HTTP/2; how many there were. `uris` has the targets."""
    ran = subprocess.run(
        [*LOAD, "h2load", "-t1", f"-c{_CLIENTS}", "-m10", "-r2", "--rate-period=11ms",
         f"--rps={rate / _CLIENTS:g}", f"-n{round(rate * seconds)}", f"--base-uri={url}",
         f"--input-file={uris}", "--header=authorization: Bearer 0123456789abcdef0123456789abcdef",
         "--header=cookie: session=0123456789abcdef; theme=dark", "--header=accept: */*"],
        capture_output=True, text=True, check=True, timeout=seconds * 5 + 30,
    )  # fmt: skip
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored", ran.stdout)
    if done is None or f"status codes: {done.group(1)} 2xx" not in ran.stdout:
        raise LoadError(f"h2load failed: {ran.stdout}")
    return int(done.group(1))


def read_h2load(output: str, log: str) -> Paced:
    """What h2load prints and logs: start in us since 1970, status, duration in us."""
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored", output)
    if done is None:
        raise LoadError(f"h2load failed: {output}")
    lines = [line.split() for line in log.splitlines()]
    begin = min(int(start) for start, _, _ in lines) + _WARM_UP_US
    latencies = [float(took) for start, _, took in lines if int(start) >= begin]
    return Paced(int(done.group(1)), latencies)
